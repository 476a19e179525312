"""What lies in a place of results, found by the ids that trials have today, one result of a trial for each device kind.

A trial's id says nothing of the device that it ran on, and its scores on a CPU and on a GPU are never quite equal. What
is compared is therefore taken from one kind of device.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ablate.errors import StoreError
from ablate.storage.result import KINDS, Result
from ablate.study import Study, Trial


class Results(Mapping[str, Result]):
    """Each result once, by the id that asks for all of its metrics; found by the ids that ask for fewer, too."""

    def __init__(self) -> None:
        self._own: dict[str, Result] = {}
        self._fewer: dict[str, Result] = {}

    def put(self, ids: Collection[str], result: Result) -> None:
        """Enter a result under the ids that it is of, its own first. Of those that ask for fewer metrics the first
        result counts, and one that was trained here before one that was imported."""
        own, *fewer = ids
        self._own[own] = result
        for trial_id in fewer:
            if trial_id not in self._fewer or (self._fewer[trial_id].imported and not result.imported):
                self._fewer[trial_id] = result

    def own(self, trial_id: str) -> Result | None:
        """The result whose own id that is."""
        return self._own.get(trial_id)

    def by_prefix(self, prefix: str) -> list[Result]:
        """Those whose id, or one that asks for fewer metrics, begins so."""
        return [r for found in (self._own, self._fewer) for trial_id, r in found.items() if trial_id.startswith(prefix)]

    def __getitem__(self, trial_id: str) -> Result:
        return self._own[trial_id] if trial_id in self._own else self._fewer[trial_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


@dataclass(frozen=True)
class Shelf:
    """What a look into the place found: results by the ids of today, and what could not be trusted.

    Where several documents are of one trial and kind of device, one that was trained here comes before one that was
    imported.
    """

    results: Results = field(default_factory=Results)  # where a trial has two, of two kinds of device, the first one
    by_kind: dict[str, Results] = field(default_factory=lambda: {kind: Results() for kind in KINDS})
    damaged: list[str] = field(default_factory=list)  # one line each
    spare: list[str] = field(default_factory=list)  # imported ones in whose place another stands, one line each

    def add(self, result: Result) -> None:
        """Put a result under today's ids.

        Raises:
            PartError: a part or knob of its recipe is on no shelf of today.
        """
        ids, alike = result.answers(), self.by_kind[result.kind]
        other = alike.own(ids[0])
        if other and result.imported:
            self._spare(result, other)
            return
        if other and other.imported:
            self._spare(other, result)
        alike.put(ids, result)
        first = self.results.own(ids[0])
        if first is None or first.kind == result.kind or (first.imported and not result.imported):
            self.results.put(ids, result)

    def of(self, kind: str) -> "Shelf":
        """The results of one kind of device alone."""
        return Shelf(self.by_kind[kind], {kind: self.by_kind[kind]}, self.damaged, self.spare)

    @property
    def everything(self) -> list[Result]:
        """The results of every kind."""
        return [result for results in self.by_kind.values() for result in results.values()]

    def _spare(self, result: Result, other: Result) -> None:
        source = result.imported.source if result.imported else ""
        self.spare.append(f"trials/{result.id}: imported from {source}; trials/{other.id} stands for that trial")


def own_kind(study: Study) -> str:
    """The kind of device that the study's budget trains on."""
    return "cuda" if study.budget.gpus else "cpu"


def kind_of(study: Study, trials: Collection[Trial], shelf: Shelf, asked: str | None = None) -> str:
    """The kind of device that evidence rests on: the one asked for, or of which more of these trials were trained here,
    or of which there are more results, imported ones included; the budget's where there are as many."""
    counts, here = _counts(trials, shelf), _trained_here(trials, shelf)
    return asked or max(KINDS, key=lambda kind: (here[kind], counts[kind], kind == own_kind(study)))


def kind_to_train(study: Study, trials: Collection[Trial], shelf: Shelf) -> str:
    """The kind of device whose results a run completes: the budget's, unless another's are complete and fewer of the
    budget's were trained here."""
    counts, here, own = _counts(trials, shelf), _trained_here(trials, shelf), own_kind(study)
    whole = [kind for kind in KINDS if counts[kind] == len(trials)]
    return own if own in whole or not whole or here[own] > here[whole[0]] else whole[0]


def left_out(trials: Collection[Trial], shelf: Shelf, kind: str) -> str:
    """One sentence where there are results of these trials of another kind of device; empty where there are none."""
    said = [f"{count} of {other}" for other, count in _counts(trials, shelf).items() if count and other != kind]
    if not said:
        return ""
    return f"Results of {kind} only: {' and '.join(said)} are left out, and --device {said[0].split()[-1]} takes them."


def refuse_different_data(results: Iterable[Result]) -> None:
    """A data set without a declared version may lie in different states on two machines.

    Raises:
        StoreError: two results of one data set were made from different files.
    """
    seen: dict[tuple[str, str], tuple[str, Result]] = {}
    for result in results:
        part = result.recipe.dataset.model_dump_json()
        for split, digest in result.data_digest.items():
            # Arms may train on different samples, but are evaluated on the same.
            known, other = seen.setdefault(("" if split == "val" else part, split), (digest, result))
            if known != digest:
                raise StoreError(
                    f"trials {other.id} and {result.id} used different files as {split} split "
                    f"({known} and {digest}): their scores are not comparable"
                )


def _counts(trials: Collection[Trial], shelf: Shelf) -> dict[str, int]:
    """How many of the trials have a result of each kind of device."""
    return {kind: sum(trial.id in shelf.by_kind.get(kind, {}) for trial in trials) for kind in KINDS}


def _trained_here(trials: Collection[Trial], shelf: Shelf) -> dict[str, int]:
    """The same without imported results."""
    results = {kind: [shelf.by_kind[kind].get(trial.id) for trial in trials] for kind in KINDS if kind in shelf.by_kind}
    return {kind: sum(bool(found and not found.imported) for found in results.get(kind, [])) for kind in KINDS}
