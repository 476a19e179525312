"""Evidence: all results of a study with their statistics, as plain data that every report section reads.

Nothing is trained, drawn or worded here. What is notable:

- Only finished trials with a finite score enter a mean; the others are counted and listed with their reason.
- Every other arm is compared with the control, paired by seed. Test, Holm's adjustment and verdict belong to the
  primary metric; other metrics have effects with intervals, for no test of them was planned.
- Test images are another source of chance and have their own interval (resample.py).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

from ablate.analysis.breakdown import Breakdown, Pictured
from ablate.analysis.rule import Rule
from ablate.analysis.shown import Shown
from ablate.analysis.stats import Effect, Summary, Verdict
from ablate.beside import Evaluated, Speed, evaluations
from ablate.storage import Cost, Epoch, Result, Standing, little_trained
from ablate.study import SCRATCH, Choice, Published, Recipe, Study

if TYPE_CHECKING:
    from pandas import DataFrame

ALIKE = {"revision": "revisions", "dirty": "uncommitted changes", "device": "devices", "torch": "torch versions"}
MOST_DRAWN = 40  # arms in a figure: more could not be told apart, and drawing a thousand takes minutes


@dataclass(frozen=True)
class Row:
    """One arm: what its seeds scored and what its network costs."""

    label: str
    levels: dict[str, str]  # factor -> level
    dataset: str  # its name where the study has several, each with a control of its own; else empty
    recipe: Recipe  # settled
    is_control: bool
    ids: dict[int, str]  # seed -> trial id, all that were planned
    scores: dict[str, dict[int, float]]  # metric -> seed -> score, finite ones of finished trials
    summaries: dict[str, Summary]  # metric -> mean and sd over seeds
    curves: dict[int, list[Epoch]]  # seed -> learning curve, of unfinished trials too
    cost: Cost | None  # throughput: the median over seeds; memory: the highest
    published: str | None  # the paper's number for this arm, as printed
    start: str  # where its backbone's weights come from
    epochs: int  # that it trains for
    differs: dict[
        str, str
    ]  # path of the recipe -> its value, where not the control's; of a set's control, not the first one's
    documents: dict[int, str]  # seed -> what the place of results calls its result, trials/<id>/result.json


@dataclass(frozen=True)
class Comparison:
    """One planned comparison in one metric: an arm against the control over the seeds that both finished."""

    arm: str  # its label
    control: str
    metric: str
    effect: Effect  # arm - control
    datasets: tuple[str, ...]  # that it is about: one, which has no name where the study has but one, or all
    image_low: float  # interval of the same difference over draws of test images; nan when not resampled
    image_high: float
    p_holm: float  # nan outside the primary metric
    smallest_p: float  # that these seeds could give after Holm, beside what the other comparisons gave
    detectable: float  # true difference found with power .8 by these seeds; nan if not testable or not primary
    verdict: Verdict | None  # None outside the primary metric
    p_equivalent: float = math.nan  # of no difference beyond the margin, over all comparisons; nan without a margin
    narrow: tuple[float, float] = (math.nan, math.nan)  # the 90 % interval, where there is a margin
    look: int | None = None  # seeds at the look that the verdict is of, 0 before the first; None without looks
    until: int | None = None  # of the deciding seeds how many are to be trained, where there are looks
    flips: float = math.nan  # p of sign flips at the last look, before Holm: a cross-check
    futile: bool = False  # whether a look ended it because the last one would hardly show anything
    pooled: Effect | None = None  # over all seeds, where the verdict rests on those that were added alone

    @property
    def shown(self) -> bool:
        """Whether a difference is shown."""
        return (self.verdict or "").startswith(("higher", "lower"))


def sign_held(rising: list[Comparison]) -> tuple[int, int, int]:
    """Of one comparison from small to large, such as on scales of a study: how many pairs show the same sign, how many
    show a difference both, and how many do not, of which nothing is known."""
    pairs = list(combinations(rising, 2))
    agree = [(one.effect.diff > 0) == (other.effect.diff > 0) for one, other in pairs if one.shown and other.shown]
    return sum(agree), len(agree), len(pairs) - len(agree)


@dataclass(frozen=True)
class Crossing:
    """An arm that was on the other side of the arm that it is compared with before."""

    arm: str
    control: str  # the arm that it is compared with
    epoch: int  # the last one at which it was
    ahead: bool  # then, of the control


@dataclass(frozen=True)
class Cautions:
    """By labels of arms."""

    slopes: dict[str, float]  # of the primary score in the last quarter, per epoch; nan: fewer than two scores there
    rises: dict[str, float]  # what such a slope adds over a quarter of the training
    crossings: list[Crossing]  # in the second half of training
    lost: dict[str, tuple[int, int]]  # seeds that ended without a score, of those that ended
    reversed: list[str]  # arms whose published difference from what they are compared with has the other sign


@dataclass(frozen=True)
class Failure:
    """A trial that ended without a usable score."""

    id: str
    arm: str
    seed: int
    status: str  # failed, diverged, or 'no score' where the metric gave none
    reason: str
    traceback: str = ""  # its end, where an exception left one
    document: str = ""  # what the place of results calls its result


@dataclass(frozen=True)
class Evidence:
    """Everything a report says, before it is worded or drawn."""

    study: Study
    recipe: Recipe  # the control's, settled
    varied: tuple[str, ...]  # paths of the recipe that the factors change
    one_recipe: str  # whether all arms share one recipe of training, in a sentence
    command: str  # that runs the study
    unlike_starts: str  # where arms start from other weights than the control, unasked, in a sentence
    device: str  # the kind of device that all results are of: cpu or cuda
    left_out: str  # how many results are of another kind of device, in a sentence; empty where none are
    rows: list[Row]  # the control first; data set by data set where there are several
    cautions: Cautions  # what the table of final scores cannot show
    breakdowns: list[Breakdown]  # by class or joint; none when per-image statistics were not read
    pictured: list[Pictured]  # test images by arm, where the data may be shown and predictions were kept
    comparisons: list[Comparison]  # by metric in the study's order, then by arm
    choices: Mapping[str, Choice]  # by an arm's label what its tries came to, where the study tunes
    planned: int  # comparisons in the primary metric
    rule: Rule  # how verdicts come about
    doubts: list[str]  # where the scores look unlike those for which the rule keeps its error rate
    failures: list[Failure]
    missing: list[tuple[str, int]]  # arm and seed of trials without a result
    damaged: list[str]  # files that could not be trusted, one line each
    images: int  # in the evaluation split; 0 when images were not resampled
    drawn_together: str  # of which images go together when they are drawn anew; empty where each goes by itself
    published: Published | None
    results: Mapping[str, Result]  # trial id -> its result, where there is one
    place: str  # of the results: a folder or a URL
    standing: Standing  # to the plans that are kept with the results
    tries: Mapping[str, Result] = field(default_factory=dict)  # of `tune`, before the trials, by id
    evaluations: Sequence[Evaluated] = ()  # of single networks on the same test images, by label
    speeds: Sequence[tuple[str, Speed]] = ()  # of arms, by label: what `ablate cost --measure` found, on each machine

    def to_frame(self, table: str = "scores") -> "DataFrame":
        """A tidy pandas table: `scores` (arm x seed x metric), `trials`, `effects`, `curves`, `costs` or `per_image`.

        `ablate.analysis.frame.COLUMNS` says what their columns hold.

        Raises:
            StudyError: no such table.
            StoreError: `per_image`: the stored statistics of a trial are damaged.
        """
        from ablate.analysis import frame  # here, for frame imports this file's names

        return frame.table(self, table)

    def __repr__(self) -> str:
        return self._shown().text()

    def _repr_html_(self) -> str:
        return self._shown().html()

    def _shown(self) -> Shown:
        """Every arm with the means of its scores and, beside the control, its effect in the primary metric."""
        effects = {comparison.arm: comparison for comparison in self.comparisons_in(self.primary)}
        rows = []
        for row in self.rows:
            found = effects.get(row.label)
            effect = found.effect if found else None
            rows.append(
                {"arm": row.label, "seeds": f"{row.summaries[self.primary].n} of {len(row.ids)}"}
                | {metric: row.summaries[metric].mean for metric in self.study.metrics}
                | {"difference": effect.diff if effect else math.nan}
                | {"interval": f"{effect.low:.4g} to {effect.high:.4g}" if effect and effect.n > 1 else ""}
                | {"verdict": "control" if row.is_control else (found.verdict or "") if found else ""}
            )
        scale = f", {self.study.scale}" if self.study.scale else ""
        done = self.planned_trials - len(self.missing) - len(self.failures)
        title = f"{self.study.name}{scale}: {self.study.question} {done} of {self.planned_trials} trials have a score."
        return Shown(title, rows)

    @property
    def primary(self) -> str:
        """The metric that verdicts are about."""
        return self.study.metrics[0]

    @property
    def control(self) -> Row:
        return self.rows[0]

    @property
    def datasets(self) -> list[str]:
        """The names of the study's data sets; one empty name where it has but one."""
        return list(dict.fromkeys(row.dataset for row in self.rows))

    def rows_on(self, dataset: str) -> list[Row]:
        """The arms on one data set, its control first."""
        return [row for row in self.rows if row.dataset == dataset]

    def controls_of(self, found: Evaluated) -> list[Row]:
        """The controls of those of the study's data sets that a network was evaluated on; else the first one."""
        controls = [self.rows_on(name)[0] for name in self.datasets]
        return [row for row in controls if evaluations.asks_alike(found, row.recipe)] or controls[:1]

    @cached_property
    def provenance(self) -> dict[str, dict[str, int]]:
        """What code and machines the results are of: fact -> value -> number of trials."""
        return _tally(result.env | _plugins(result) for result in self.results.values())

    @cached_property
    def data(self) -> dict[str, dict[str, int]]:
        """The data's declared version and the digests found -> value -> number of trials."""
        return _tally({"version": r.data_version or "undeclared"} | r.data_digest for r in self.results.values())

    @property
    def imported(self) -> dict[str, str]:
        """Where from and when, by trial id, of results that were not trained here."""
        known = {trial: result.imported for trial, result in self.results.items()}
        return {trial: f"from {mark.source} on {mark.when}" for trial, mark in known.items() if mark}

    @property
    def finished(self) -> tuple[str, str] | None:
        """The first and the last end of a trial, UTC."""
        ends = sorted(result.finished for result in self.results.values() if result.finished)
        return (ends[0], ends[-1]) if ends else None

    @property
    def seconds(self) -> float:
        """Training and evaluation, over all trials."""
        return sum(result.seconds for result in self.results.values())

    @property
    def any_weights(self) -> bool:
        """Whether any arm starts from a checkpoint."""
        return any(row.start != SCRATCH for row in self.rows)

    @property
    def little_trained(self) -> str:
        """Whose parameters got a gradient only for the smaller part, in a sentence; empty if nobody's."""
        return little_trained((row.label, row.cost) for row in self.rows if row.cost)

    @property
    def planned_trials(self) -> int:
        return sum(len(row.ids) for row in self.rows)

    @property
    def drawn(self) -> list[Row]:
        """The arms that figures show; tables have all."""
        return self.rows[:MOST_DRAWN]

    @property
    def drawn_note(self) -> str:
        """What a caption says of the arms that its figure leaves out, with a space before it; empty if none."""
        more = len(self.rows) > MOST_DRAWN
        return f" Drawn are the first {MOST_DRAWN} of {len(self.rows):,} arms." if more else ""

    def comparisons_in(self, metric: str) -> list[Comparison]:
        """The comparisons of one metric, in the order of the arms."""
        return [comparison for comparison in self.comparisons if comparison.metric == metric]

    @property
    def ends(self) -> list[float]:
        """Both ends of the primary metric's intervals: rounding in a report must not move them to 0."""
        effects = [comparison.effect for comparison in self.comparisons_in(self.primary)]
        return [end for effect in effects for end in (effect.low, effect.high)]

    @property
    def mixed(self) -> dict[str, list[str]]:
        """What the numbers do not have in common: states of the code, kinds of device, versions of torch."""
        found = {name: list(self.provenance.get(fact, {})) for fact, name in ALIKE.items()}
        return {name: values for name, values in found.items() if len(values) > 1}


def _plugins(result: Result) -> dict[str, str]:
    return {f"plugin {plugin.name}": f"digest {plugin.digest}" for plugin in result.plugins.values()}


def _tally(facts: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """How many trials share each value of each fact."""
    counts: dict[str, Counter[str]] = {}
    for trial in facts:
        for fact, value in trial.items():
            counts.setdefault(fact, Counter())[value] += 1
    return {fact: dict(values.most_common()) for fact, values in counts.items()}
