"""ablate compare: networks, files of predictions or stored results on one set, paired image by image."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate import registry
from ablate.cli import options
from ablate.cli.scores import PART, named, uncounted
from ablate.cli.tables import Row, document, show
from ablate.cli.talk import say, tell
from ablate.errors import as_written

if TYPE_CHECKING:
    from ablate.analysis import redrawn
    from ablate.evaluation.evaluate import Answer, Question
    from ablate.report.compared import Compared, Scored

MOST_PARTS = 30  # of them that a terminal shows
MOST_HEAD = 14  # characters of a label that may head a column
KNOWN = "its PCK and distances know whose each prediction is, others' here do not: they are not of one rule"


class Side:
    """One of the compared: what it scored, and on what."""

    def __init__(
        self, scored: "Scored", images: "redrawn.TestImagesOf", of: dict[str, object], settings: dict[str, object],
        answer: "Answer | None" = None,
    ) -> None:  # fmt: skip
        self.scored, self.images, self.of, self.settings = scored, images, of, settings
        self.answer = answer  # None: it was stored, and its predictions are not at hand

    @property
    def names_people(self) -> bool:
        """Whether its predictions say of which annotated person they are."""
        if self.answer:
            return self.answer.names_people
        return self.of["task"] == "pose" and self.settings.get("evaluation.boxes") == "ground_truth"


@click.command("compare")
@click.argument("what", nargs=-1, required=True, metavar="A B [...]")
@options.question
@click.option(
    "--set-of", "own", nargs=2, multiple=True, metavar="NUMBER KEY=VALUE",
    help="A setting of one of them alone, counted from 1: --set-of 2 evaluation.flip=false.",
)  # fmt: skip
@click.option("--label", "labels", multiple=True, metavar="NAME", help="What they are called, in their order.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html", help="Also as a page.")
@options.results
@options.plugin
@options.as_json
def command(
    what: tuple[str, ...], own: tuple[tuple[str, str], ...], labels: tuple[str, ...], page: Path | None,
    results: str, as_json: bool, chosen: tuple[str, ...], **asked: object,
) -> None:  # fmt: skip
    """Compare checkpoints, ONNX networks, files of predictions or stored results, each with the first.

    All are scored on the same images; ids are of evaluations or trials in --results. The intervals are of the
    difference of these networks over new images; they say nothing of the methods over seeds. Example:
    ablate compare net.onnx net.onnx --set-of 2 evaluation.flip=false --task pose --data ~/datasets/coco2017
    """
    from ablate.machine import write_atomically
    from ablate.report import compared, html

    if len(what) < 2:
        raise click.UsageError("give two or more of networks, files of predictions and ids")
    settings = _settings(chosen, own, len(what))
    names = _names(what, labels)
    _refuse_idle(what, own)
    questions = [options.asked(chosen=one, **asked) for one in settings]  # type: ignore[arg-type]  # its options
    quick_first = sorted(range(len(what)), key=lambda place: _predicts(what[place]))  # so that slips are told soon
    by_place = {place: _side(what[place], questions[place], names[place], results) for place in quick_first}
    sides = _by_one_rule([by_place[place] for place in range(len(what))])
    found = _compared(_told_apart(sides))
    if page:
        write_atomically(page, html.render(compared.blocks(found)).encode())
    if as_json:
        document(_document(found, sides))
        return
    for line in _lines(found):
        tell(line)
    task = str(sides[0].of["task"])
    for second in found.apart:
        _show_pair(found, second, task)
    if missing := uncounted(task, [score for score in found.scored[0].scores if _nowhere(found, score)]):
        tell(*missing)
    tell(found.spread, compared.MEANING)
    if page:
        say(page)


def _show_pair(found: "Compared", second: str, task: str) -> None:
    """One of the others beside the first: scores, those of classes or joints, and the images that differ most."""
    first, images = found.scored[0].label, found.apart[second]
    heads = (first, second) if max(len(first), len(second)) <= MOST_HEAD else ("first", "second")
    if len(found.apart) > 1 or heads[0] != first:
        tell("", f"{second}{' (second)' * (heads[0] != first)}", f"against {first}{' (first)' * (heads[0] != first)}:")
    rows = _rows(found, second, heads, task)
    parts = [row for row in rows if PART in row["score"]]
    show([row for row in rows if PART not in row["score"]])
    show(parts[:MOST_PARTS])
    if len(parts) > MOST_PARTS:
        tell(f"{len(parts) - MOST_PARTS} more scores of classes or joints: --json or --page")
    if images:
        tell(f"The images that differ most, by {found.primary} on the image alone:")
        show([{"image": i.image, heads[0]: i.scores[0], heads[1]: i.scores[1]} for i in images])


def _nowhere(found: "Compared", score: str) -> bool:
    """Whether a score is no number of any network."""
    return all(math.isnan(one.scores.get(score, math.nan)) for one in found.scored)


def _settings(chosen: tuple[str, ...], own: tuple[tuple[str, str], ...], count: int) -> list[tuple[str, ...]]:
    """The settings of each, its own after those of all."""
    for number, _ in own:
        if not number.isdecimal() or not 1 <= int(number) <= count:
            raise click.UsageError(f"--set-of {number}: a number from 1 to {count}")
    return [(*chosen, *(word for number, word in own if int(number) == place + 1)) for place in range(count)]


def _refuse_idle(what: tuple[str, ...], own: tuple[tuple[str, str], ...]) -> None:
    """How a network predicts is nothing to what is finished."""
    for number, word in own:
        if word.startswith(("evaluation.", "network.")) and not _predicts(what[int(number) - 1]):
            raise click.UsageError(f"--set-of {number} {word}: {what[int(number) - 1]} is no network, it has predicted")


def _names(what: tuple[str, ...], labels: tuple[str, ...]) -> list[str]:
    """A label for each, no two alike."""
    if len(labels) > len(what) or "" in labels:
        raise click.UsageError(f"--label: {'one is empty' if '' in labels else f'{len(labels)} for {len(what)}'}")
    given = [*labels, *(Path(word).stem for word in what[len(labels) :])]
    return [name if given.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(given)]


def _by_one_rule(sides: list[Side]) -> list[Side]:
    """The same, none of them told whose each prediction is where others are not: PCK and distances depend on that."""
    from ablate.evaluation import evaluate

    if all(side.names_people for side in sides):
        return sides
    made = [
        _of(evaluate.nameless(side.answer), side.scored.label) if side.answer and side.names_people else side
        for side in sides
    ]
    for side in made:
        if side.names_people:
            side.scored = replace(side.scored, what=f"{side.scored.what}; {KNOWN}")
    return made


def _told_apart(sides: list[Side]) -> list[Side]:
    """The same, with a number behind a label that an earlier one has: stored evaluations bring their own."""
    taken: list[str] = []
    for place, side in enumerate(sides):
        if side.scored.label in taken:
            side.scored = replace(side.scored, label=f"{side.scored.label} ({place + 1})")
        taken.append(side.scored.label)
    return sides


def _predicts(word: str) -> bool:
    """Whether it is a network, which has yet to predict."""
    return Path(word).is_file() and Path(word).suffix != ".json"


def _side(word: str, question: "Question", label: str, results: str) -> Side:
    place = Path(word)
    if not place.exists() and re.fullmatch("[0-9a-f]{3,16}", word):
        return _stored(word, label, results)
    from ablate.evaluation import evaluate

    if place.is_dir() or place.suffix == ".json":
        return _of(evaluate.of_predictions(place, question, label=label), label)
    return _of(evaluate.of_network(place, question, label=label), label)


def _of(answer: "Answer", label: str) -> Side:
    from ablate.analysis import redrawn

    images = redrawn.TestImagesOf.of(label, answer.statistics, answer.found.parts)
    return Side(_scored(label, answer.found), images, _on(answer.found), _settings_of(answer.found), answer)


def _scored(label: str, found: object) -> "Scored":
    from ablate.beside import Evaluated
    from ablate.report.compared import Scored

    assert isinstance(found, Evaluated)
    parts = [f"{found.subject.kind} {found.subject.file}", f"sha256 {found.subject.sha256[:8]}", *found.notes]
    return Scored(label, "; ".join(parts), found.scores)


def _settings_of(found: object) -> dict[str, object]:
    from ablate.beside import Evaluated

    assert isinstance(found, Evaluated)
    knobs: dict[str, object] = {f"evaluation.{name}": value for name, value in found.evaluation.items()}
    knobs |= {f"task.{name}": value for name, value in found.task.knobs.items()}
    return knobs | {f"network.{name}": value for name, value in found.subject.read.items()}


def _on(found: object) -> dict[str, object]:
    from ablate.beside import Evaluated

    assert isinstance(found, Evaluated)
    return {
        "task": found.task.name,
        "set": found.dataset.knobs.get("set", found.dataset.name),
        "data": found.data_digest,
    }


def _stored(prefix: str, label: str, results: str) -> Side:
    """An evaluation or a trial by its id."""
    from ablate.analysis import redrawn
    from ablate.beside import evaluations
    from ablate.errors import StoreError
    from ablate.report.compared import Scored
    from ablate.storage import Store

    store = Store(results)
    ids = evaluations.begin_so(store.place, prefix)
    if len(ids) > 1:
        raise StoreError(f"{store.place.name}: {len(ids)} evaluations have an id that begins {prefix!r}")
    if ids and (kept := evaluations.get(store.place, ids[0])):
        found, arrays = kept
        name = found.label if label == prefix else label
        return Side(
            _scored(name, found), redrawn.TestImagesOf.of(name, arrays, found.parts), _on(found), _settings_of(found)
        )
    result = store.find(prefix)
    arrays = store.statistics(result.id)
    recipe = result.recipe.filled()
    scored = Scored(label, f"trial {result.id}: {recipe.model.name}, seed {result.seed}", dict(result.scores))
    data = {"task": recipe.task.name, "set": recipe.dataset.knobs.get("set", recipe.dataset.name)}
    knobs = {f"evaluation.{name}": value for name, value in recipe.evaluation.items()}
    knobs |= {f"task.{name}": value for name, value in recipe.task.knobs.items()}
    data |= {"data": result.data_digest.get("val", "")}
    return Side(scored, redrawn.TestImagesOf.of(label, arrays), data, knobs)


def _with_settings(sides: list[Side]) -> list["Scored"]:
    """What each is, with the settings that they do not share."""
    names = dict.fromkeys(name for side in sides for name in side.settings)
    differing = [name for name in names if len({str(side.settings.get(name, "")) for side in sides}) > 1]
    shown = [[f"{name}={_typed(side.settings[name])}" for name in differing if name in side.settings] for side in sides]
    return [
        replace(side.scored, what="; ".join([side.scored.what, *more])) for side, more in zip(sides, shown, strict=True)
    ]


def _typed(value: object) -> str:
    """A setting's value as --set takes it."""
    return value if isinstance(value, str) else as_written(value)


def _compared(sides: list[Side]) -> "Compared":
    from ablate.analysis import redrawn
    from ablate.errors import StoreError
    from ablate.report.compared import Compared

    first, *others = sides
    for side in others:
        for fact, value in side.of.items():
            if value != first.of[fact]:
                here = f"{first.scored.label} has {first.of[fact]}, {side.scored.label} {value}"
                raise StoreError(f"compare: not of one {fact if fact != 'data' else 'content of the set'}: {here}")
    groups = next((side.images.groups for side in sides if side.images.groups is not None), None)
    images = [replace(side.images, groups=groups, label=side.scored.label) for side in sides]
    primary = next(iter(first.images.scores()))
    return Compared(
        title=f"{first.of['task']} on {first.of['set']}",
        primary=primary,
        images=len(images[0].ids),
        groups=images[0].drawn if groups is not None else 0,
        scored=_with_settings(sides),
        differences=[one for other in images[1:] for one in redrawn.differences(images[0], other)],
        apart={other.label: redrawn.most_apart(images[0], other, primary) for other in images[1:]},
        errors=registry.error_units(str(first.of["task"])),
    )


def _lines(found: "Compared") -> list[str]:
    groups = f", {found.groups:,} groups" if found.groups else ""
    named = [f"{one.label}: {one.what}" for one in found.scored]
    return [f"{found.title}, {found.images:,} images{groups}", *named, "", *found.answer]


def _rows(found: "Compared", second: str, heads: tuple[str, str], task: str) -> list[Row]:
    """The scores of a pair that are numbers, with their units."""
    return [
        {"score": named(one.score, task), heads[0]: one.scores[0], heads[1]: one.scores[1]}
        | {"difference": one.diff, "95 %": _ends(one.low, one.high)}
        for one in found.differences
        if one.second == second and not all(map(math.isnan, one.scores))
    ]


def _ends(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:+.4f} to {high:+.4f}"


def _document(found: "Compared", sides: list[Side]) -> Row:
    from ablate.report.compared import MEANING

    return {
        "task": sides[0].of["task"],
        "set": sides[0].of["set"],
        "images": found.images,
        "groups": found.groups,
        "primary": found.primary,
        "networks": [{"label": one.label, "what": one.what, "scores": one.scores} for one in found.scored],
        "differences": [
            {"first": one.first, "second": one.second, "score": one.score, "scores": one.scores}
            | {"difference": one.diff, "low": one.low, "high": one.high}
            for one in found.differences
        ],
        "most apart": {
            label: [{"image": one.image, "scores": one.scores} for one in images]
            for label, images in found.apart.items()
        },
        "answer": found.answer,
        "meaning": MEANING,
    }
