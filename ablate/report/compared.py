"""Two or more networks on one set, as blocks: scores, paired differences, and the images where they differ most."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.analysis import redrawn
from ablate.report.blocks import (
    MISSING,
    Block,
    Cell,
    Column,
    Figure,
    Panel,
    Series,
    Table,
    Text,
    errors_in_words,
    interval,
    listed,
    percent,
    signed,
)

MEANING = (
    "This compares these networks, as they are, on new images like the ones tested. It does not compare methods: "
    "another seed of the same training is another network, and how far seeds differ was not looked at."
)
MOST_DRAWN = 40  # rows of the figure
LENGTH = 0.01  # one of a unit in what is shown times 100
SPREAD = "Intervals: 95 % of the differences on {count} redrawn {what}, paired: both were scored on the same draws."


@dataclass(frozen=True)
class Scored:
    """One of the compared, as a page names it."""

    label: str
    what: str  # file, digest, settings
    scores: dict[str, float]


@dataclass(frozen=True)
class Compared:
    """What a comparison found."""

    title: str  # task and set
    primary: str  # the score that the answer is about
    images: int
    groups: int  # 0: none are declared
    scored: Sequence[Scored]  # the first is what the others are compared with
    differences: Sequence[redrawn.Difference]
    apart: dict[str, Sequence[redrawn.Apart]]  # by the second's label
    errors: dict[str, str]  # scores of which less is better, with their units

    @property
    def answer(self) -> list[str]:
        """A sentence for each of the others, on the primary score."""
        return [_answer(one) for one in self.differences if one.score == self.primary]

    @property
    def spread(self) -> str:
        """What the intervals are."""
        groups = f"groups of images, {self.groups:,} of them" if self.groups else f"sets of {self.images:,} images"
        return SPREAD.format(count="1,000", what=groups)


def blocks(found: Compared) -> list[Block]:
    """The page."""
    said: list[Block] = [Text(f"{listed([one.label for one in found.scored])}: {found.title}", "title")]
    said += [Text(line, "answer") for line in found.answer]
    said += [Text(MEANING, "warning"), _networks(found)]
    for second in found.scored[1:]:
        own = [one for one in found.differences if one.second == second.label and not all(map(math.isnan, one.scores))]
        whole, parts = [[one for one in own if ("/" in one.score) == of_part] for of_part in (False, True)]
        said += [Text(f"{second.label} against {found.scored[0].label}", "heading"), _table(whole, "Scores.", found)]
        points = [one for one in parts or whole if not _is_length(one, found)]
        said += [_figure(points, len(said))] if points else []
        said += [_table(parts, "By class or joint.", found)] if parts else []
        said += [_images(found, second.label)] if found.apart.get(second.label) else []
    return said


def _answer(one: redrawn.Difference) -> str:
    ends = interval(one.low, one.high, 2)
    gap = f"{one.score} {signed(one.diff, 2)} points {ends}"
    if not math.isfinite(one.low):
        return f"{one.second} and {one.first} have no interval in {one.score}."
    if one.low == one.diff == one.high == 0:
        return f"{one.second} and {one.first} have the same {one.score} on every draw of these images."
    if not one.told_apart:
        return f"These images do not tell {one.second} from {one.first}: {gap}."
    return f"{one.second} scores {'higher' if one.low > 0 else 'lower'} than {one.first} on images like these: {gap}."


def _networks(found: Compared) -> Table:
    rows = [[Cell(one.label), Cell(percent(one.scores.get(found.primary, math.nan), 2)), Cell(one.what)]
            for one in found.scored]  # fmt: skip
    columns = [Column("Name", "left"), Column(found.primary), Column("What it is", "left", wide=True)]
    groups = f", {found.groups:,} groups" if found.groups else ""
    return Table(f"What was compared, on {found.images:,} images{groups}.", columns, rows)


def _table(own: Sequence[redrawn.Difference], caption: str, found: Compared) -> Table:
    first = found.scored[0].label
    second = own[0].second if own else ""
    columns = [Column("Score", "left"), Column(first), Column(second), Column("Δ"), Column("95 %", "center")]
    rows = [
        [
            Cell(f"{one.score} (px)" if _unit(one, found) == "pixels" else one.score),
            Cell(percent(scale * one.scores[0], 2)),
            Cell(percent(scale * one.scores[1], 2)),
            Cell(signed(scale * one.diff, 2), strong=one.told_apart),
            Cell(interval(scale * one.low, scale * one.high, 2) or MISSING),
        ]
        for one in own
        for scale in [LENGTH if _is_length(one, found) else 1.0]
    ]
    return Table(
        f"{caption} Differences are {second} minus {first}, in points.",
        columns,
        rows,
        [found.spread, *_units(own, found)],
    )


def _unit(one: redrawn.Difference, found: Compared) -> str:
    return found.errors.get(one.score.partition("/")[0], "")


def _is_length(one: redrawn.Difference, found: Compared) -> bool:
    """Whether it is an error in pixels or millimetres, which are no points."""
    return _unit(one, found).startswith("pixels")


def _units(own: Sequence[redrawn.Difference], found: Compared) -> list[str]:
    lengths = {one.score.partition("/")[0]: _unit(one, found) for one in own if _is_length(one, found)}
    shown = {one.score.partition("/")[0] for one in own} - lengths.keys()
    errors = {score: unit for score, unit in found.errors.items() if score in shown}
    by_unit = {unit: [name for name, of in lengths.items() if of == unit] for unit in lengths.values()}
    said = [f"{listed(names)}: less is better, in {unit}." for unit, names in by_unit.items()]
    return [*said, *([errors_in_words(errors)] if errors else [])]


def _figure(own: Sequence[redrawn.Difference], number: int) -> Figure:
    drawn = [one for one in own if math.isfinite(one.low)][:MOST_DRAWN]
    y = [float(row) for row in range(len(drawn))]
    series = [
        Series("x_interval", [], y, [100 * one.low for one in drawn], [100 * one.high for one in drawn], colour=1),
        Series("points", [100 * one.diff for one in drawn], y, colour=1),
    ]
    panel = Panel("difference, points", "", series, rows=[one.score for one in drawn], zero=True)
    return Figure(f"differences{number}", "Differences with 95 % intervals over redrawn test images.", [panel])


def _images(found: Compared, second: str) -> Table:
    first = found.scored[0].label
    columns = [Column("Image", "left"), Column(first), Column(second), Column("Δ")]
    rows = [
        [Cell(one.image), *(Cell(percent(score, 1)) for score in one.scores), Cell(signed(one.diff, 1))]
        for one in found.apart[second]
    ]
    return Table(f"The images that differ most, by {found.primary} on the image alone.", columns, rows)
