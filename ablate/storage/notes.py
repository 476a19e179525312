"""Small texts that processes leave each other beside a trial: a wish to cancel it, why its process ended itself."""

from collections.abc import Iterable
from contextlib import suppress

from ablate.errors import StoreError
from ablate.storage.store import Store
from ablate.study import Trial

CANCEL = "cancel"  # written by `ablate cancel`, read by the process that trains, taken by the next run
LAST_WORDS = "last_words"  # written by a process that ends itself, taken by the driver that hears of its death


def leave(store: Store, trial_id: str, name: str, text: str) -> None:
    """Write a note; it replaces an older one of the name.

    Raises:
        StoreError: it cannot be written.
    """
    store.place.write(store.name(trial_id, name), text.encode())


def there(store: Store, trial_id: str, name: str) -> bool:
    """Whether there is such a note.

    Raises:
        StoreError: the place cannot be reached.
    """
    return store.place.read(store.name(trial_id, name)) is not None


def take(store: Store, trial_id: str, name: str) -> str:
    """The note's text, at most 300 characters of it, and the note is gone; "" when there is none."""
    note = store.name(trial_id, name)
    with suppress(StoreError):
        text = (store.place.read(note, first=300) or b"").decode(errors="replace")
        store.place.remove(note)
        return " ".join(text.split())
    return ""


def clear(store: Store, trials: Iterable[Trial]) -> None:
    """Take all notes of these trials away, but for those that another process is at: they are for that one.

    Raises:
        StoreError: the place cannot be reached or written.
    """
    lie = {**store.place.sizes("trials"), **store.place.sizes("second")}
    for trial in trials:
        found = [note for name in (CANCEL, LAST_WORDS) if (note := store.name(trial.id, name)) in lie]
        if found and not store.place.is_held(store.name(trial.id)):
            for note in found:
                store.place.remove(note)
