"""Published results, or those of another machine, taken into a results folder: checked, marked, and second to our own.

What is taken in is somebody else's word. Its id and its scores are computed again (checking.py), its data must be what
other results here were made of, and nothing that was trained or begun here is touched.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ablate.errors import AblateError, DamagedError, PartError, StoreError
from ablate.storage import kept_plans
from ablate.storage.arrays import Arrays
from ablate.storage.checking import unknown_parts
from ablate.storage.result import Imported, Result
from ablate.storage.shelf import Shelf
from ablate.storage.store import RESULT, STATES, Store

Data = tuple[str, str]  # a data set with its knobs, and a split


@dataclass(frozen=True)
class Taken:
    """What came of taking in published results."""

    new: list[str] = field(default_factory=list)  # ids
    refused: list[str] = field(default_factory=list)  # one line each
    unchecked: dict[str, list[str]] = field(default_factory=dict)  # id of one taken in -> its parts on no shelf here


def published_in(source: Path) -> Path:
    """The folder of results beside a published report, or the source itself."""
    return source / "results" if (source / "results" / "trials").is_dir() else source


def imported(source: Path, store: Store) -> Taken:
    """Copy published results into the folder, each marked with where it is from and when it was taken in; one of a
    trial for each kind of device.

    Results of parts that are on no shelf here are taken in unchecked. They count nowhere until the parts are known,
    and are checked then, whenever they are read.

    Raises:
        AblateError: the source holds no results.
    """
    published, taken = Store(published_in(source)), Taken()
    found = []
    for _, result in published.each():
        if isinstance(result, StoreError):
            taken.refused.append(str(result))
        else:
            found.append(result)
    if not found and not taken.refused:
        raise AblateError(f"{source}: holds no results (a folder with trials/<id>/result.json)")
    store.create()
    shelf, when = store.read(), datetime.now(UTC).isoformat(timespec="seconds")
    known = _known_data(shelf, found)
    for result in found:
        theirs, unknown = published.of(result.kind), unknown_parts(result)
        name = theirs.name(result.id)
        try:
            statistics = theirs.statistics(result.id) if unknown else theirs.checked(result.id)
        except (DamagedError, PartError) as error:
            taken.refused.append(str(error))
            continue
        if _is_here(result, store.of(result.kind), shelf):
            continue
        mark = Imported(source=str(source)[:4096], when=when, checked=not unknown)
        marked = result.model_copy(update={"imported": mark})
        if refusal := _other_data(result, known) or _put(marked, statistics, store.of(result.kind), shelf):
            taken.refused.append(f"{name}: {refusal}")
            continue
        taken.new.append(result.id)
        if unknown:
            taken.unchecked[result.id] = unknown
        with suppress(PartError):
            shelf.add(marked)
    for study in kept_plans.studies(published):
        kept_plans.copy(published, store, study)
    return taken


def _is_here(result: Result, store: Store, shelf: Shelf) -> bool:
    """Whether the same was trained here or taken in before. What was unchecked then is taken in again."""
    here = _of_that_trial(result, shelf)
    if here is None and unknown_parts(result):
        with suppress(StoreError):
            here = store.get(result.id)
    elif here and not _is_settled(here):
        return False
    return here is not None and (here.status, repr(here.scores)) == (result.status, repr(result.scores))


def _put(result: Result, statistics: Arrays, store: Store, shelf: Shelf) -> str:
    """Write it where nothing of ours is; in words, what is there."""
    here = _of_that_trial(result, shelf)
    if here and _is_settled(here):
        return "here is another result of that trial, and it stays"
    for trial_id in {result.id: None, _today(result): None}:
        if trial_id != result.id and store.place.is_held(store.name(trial_id)):
            return "another process is training this trial here"
        documents = store.place.sizes(store.name(trial_id))
        if any(store.name(trial_id, state) in documents for state in STATES):
            return "this trial is begun here, and its own result is to come"
    with store.lock(result.id, wait=False) as hold:
        if not hold:
            return "another process is training this trial here"
        if not here and store.place.read(store.name(result.id, RESULT)) is not None:
            return f"there is another result {result.id} here"  # an id says nothing of what is there
        store.put(result, statistics, hold=hold)
    return ""


def _of_that_trial(result: Result, shelf: Shelf) -> Result | None:
    return shelf.of(result.kind).results.get(_today(result))


def _today(result: Result) -> str:
    """The key it has today; the id that it was given where its parts are on no shelf."""
    with suppress(PartError):
        return result.answers()[0]
    return result.id


def _is_settled(result: Result) -> bool:
    """Whether it was trained here, or imported and checked."""
    return not result.imported or result.imported.checked


def _known_data(shelf: Shelf, found: list[Result]) -> dict[Data, set[str]]:
    """The digests that a split's files may have: those of the results here, else the published ones' commonest."""
    published: dict[Data, Counter[str]] = {}
    for result in found:
        for data, digest in _data(result):
            published.setdefault(data, Counter())[digest] += 1
    known = {data: {digests.most_common(1)[0][0]} for data, digests in published.items()}
    ours: dict[Data, set[str]] = {}
    for result in shelf.everything:
        for data, digest in _data(result):
            ours.setdefault(data, set()).add(digest)
    return known | ours


def _data(result: Result) -> Iterator[tuple[Data, str]]:
    """Each split of its data set with the digest of the files that it had; tries have splits of their own."""
    part, held_out = result.recipe.dataset, result.recipe.train.held_out
    with suppress(PartError):
        part = part.filled("dataset")
    name = part.model_dump_json() + (f", held out {held_out:g}" if held_out else "")
    for split, digest in result.data_digest.items():
        yield (name, split), digest


def _other_data(result: Result, known: dict[Data, set[str]]) -> str:
    """In words, which files of it are not those of the others; empty where they are."""
    for (part, split), digest in _data(result):
        if digest not in known[part, split]:
            others = " or ".join(sorted(known[part, split]))
            name = result.recipe.dataset.name
            return f"the {split} files of its data set {name} have digest {digest}, those of the others here {others}"
    return ""
