"""What lies in a place of results besides results: how much of it, what of it is damaged, and what may go."""

import json
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from ablate.errors import DamagedError
from ablate.storage.notes import CANCEL
from ablate.storage.store import DAMAGED, FIRST, RESULT, STATES, Store

Documents = dict[str, int]  # name -> bytes
UNFINISHED = re.compile(r"\..+\.\d+")  # what a file is called while it is written
HEADER = 16 * 2**20  # bytes; of a thousand layers it takes a hundredth
HOUR = 3600  # seconds; nobody takes so long to write a file


@dataclass(frozen=True)
class Litter:
    """Unneeded files of one trial; of no trial where `trial` is empty."""

    trial: str
    why: str
    documents: Documents


def holdings(store: Store) -> dict[str, Documents]:
    """The documents of every trial that has any, by its id, from one listing; of its second kind of device, too."""
    found: dict[str, Documents] = {}
    for view in store.views():
        for trial_id, documents in _holdings(view).items():
            second = view.branch.removeprefix(FIRST).replace("/", " ").strip()  # second cuda
            named = {f"{second} {name}".strip(): size for name, size in documents.items()}
            found[trial_id] = found.get(trial_id, {}) | named
    return found


def _holdings(view: Store) -> dict[str, Documents]:
    found: dict[str, Documents] = {}
    for path, size in view.place.sizes(view.branch).items():
        trial_id, *document = path.removeprefix(f"{view.branch}/").split("/", 1)
        if document and not set(trial_id) - set("0123456789abcdef"):
            found.setdefault(trial_id, {})[document[0]] = size
    return found


def begun(documents: Documents) -> bool:
    """Whether a trial has a training state to go on from."""
    return any(state in documents for state in STATES)


def damage(store: Store) -> list[str]:
    """One line for each document that was set aside and each training state that is cut short.

    That a state's bytes are the right ones is found out when it is taken up; here only its length is looked at.
    """
    lines = []
    for view in store.views():
        for trial_id, documents in _holdings(view).items():
            for document, size in documents.items():
                at = f"{view.place.name}/{view.name(trial_id, document)}"
                if document.endswith(DAMAGED):
                    lines.append(f"{at}: was renamed; the trial continues without it")
                elif document in STATES and not _is_whole(view, view.name(trial_id, document), size):
                    lines.append(f"{at}: cut short; the trial continues from the state before it, or starts again")
    return lines


def sweep(store: Store, trials: Collection[str] | None, *, dry: bool) -> tuple[list[Litter], int]:
    """Delete the unneeded files of these trials, or of all (None); with `dry` nothing is deleted.

    Returns what was deleted, or would be, and how many trials were skipped because a process holds them.

    A trial that some process holds is left alone, and so is every result.
    """
    swept, busy = [], 0
    everything = [(view, *entry) for view in store.views() for entry in _holdings(view).items()]
    for view, trial_id, documents in everything:
        if (trials is not None and trial_id not in trials) or not (litter := _litter(view, trial_id, documents)):
            continue
        is_free = not view.place.is_held(view.name(trial_id)) if dry else _cleaned(view, trial_id)
        swept += [litter] if is_free else []
        busy += not is_free
    if trials is None:
        swept += _unfinished_writes(store, dry=dry)
    return swept, busy


def _cleaned(store: Store, trial_id: str) -> bool:
    with store.lock(trial_id, wait=False) as hold:
        if not hold:
            return False
        prefix = store.name(trial_id, "") + "/"
        documents = {n.removeprefix(prefix): size for n, size in store.place.sizes(store.name(trial_id)).items()}
        litter = _litter(store, trial_id, documents)  # again: until now, somebody may have been at it
        for document in sorted(litter.documents if litter else {}, key=lambda name: name == "lock"):
            if not document.startswith("lease."):  # those go with our own
                store.place.remove(store.name(trial_id, document))
    return True


def _litter(store: Store, trial_id: str, documents: Documents) -> Litter | None:
    if RESULT not in documents and not begun(documents):
        unneeded = {name: size for name, size in documents.items() if name != CANCEL}  # a wish for one that waits yet
        return Litter(trial_id, "neither result nor state", unneeded) if unneeded else None
    names = [name for name in documents if name.startswith((".", "lease."))]
    why = ["unfinished writes"] if any(name.startswith(".") for name in names) else []
    why += ["expired leases"] if any(name.startswith("lease.") for name in names) else []
    spare = [name for name in documents if name in STATES or name.endswith(DAMAGED)]
    if spare and RESULT in documents and _is_finished(store, trial_id):
        names, why = names + spare, ["finished", *why]
    return Litter(trial_id, ", ".join(why), {name: documents[name] for name in names}) if names else None


def _is_finished(store: Store, trial_id: str) -> bool:
    """Whether nobody goes on from its states: one that failed may be tried again."""
    with suppress(DamagedError):
        result = store.get(trial_id)
        return result is not None and result.status != "failed"
    return False


def _unfinished_writes(store: Store, *, dry: bool) -> list[Litter]:
    """Temporary files beside the trials and questions to nodes, of processes that were killed."""
    names = [name for name in store.place.children("") if UNFINISHED.fullmatch(name)]
    names = [name for name in [*names, *store.place.sizes("preflight")] if store.place.age(name) > HOUR]
    for name in [] if dry else names:
        store.place.remove(name)
    return [Litter("", "unfinished writes", dict.fromkeys(names, 0))] if names else []


def _is_whole(store: Store, name: str, size: int) -> bool:
    """Whether a safetensors file is as long as its header says."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, DamagedError):
        length = int.from_bytes(store.place.read(name, first=8) or b"", "little")
        if not 0 < length <= min(size, HEADER):
            return False
        header = json.loads((store.place.read(name, first=8 + length) or b"")[8:])
        ends = [about["data_offsets"][1] for tensor, about in header.items() if tensor != "__metadata__"]
        return bool(8 + length + max(ends, default=0) == size)
    return False
