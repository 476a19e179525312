"""Small texts that processes leave each other beside a trial: a wish to cancel it, why its process ended itself."""

from ablate.store import Store, write_atomically

CANCEL = "cancel"  # written by `ablate cancel`, read by the process that trains, taken by the next run
LAST_WORDS = "last_words"  # written by a process that ends itself, taken by the driver that hears of its death


def leave(store: Store, trial_id: str, name: str, text: str) -> None:
    """Write a note; it replaces an older one of the name.

    Raises:
        StoreError: it cannot be written.
    """
    write_atomically(store.folder(trial_id) / name, text.encode())


def there(store: Store, trial_id: str, name: str) -> bool:
    """Whether there is such a note."""
    return (store.folder(trial_id) / name).exists()


def take(store: Store, trial_id: str, name: str) -> str:
    """The note's text, at most 300 characters of it, and the note is gone; "" when there is none."""
    path = store.folder(trial_id) / name
    try:
        text = path.read_bytes()[:300].decode(errors="replace")
        path.unlink()
    except OSError:
        return ""
    return " ".join(text.split())
