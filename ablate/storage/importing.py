"""Published results, or those of another machine, taken into a results folder."""

from pathlib import Path

from ablate.errors import AblateError, DamagedError
from ablate.storage.store import RESULT, Store


def published_in(source: Path) -> Path:
    """The folder of results beside a published report, or the source itself."""
    return source / "results" if (source / "results" / "trials").is_dir() else source


def imported(source: Path, store: Store) -> tuple[list[str], list[str]]:
    """Copy published results into the folder.

    Returns new ids and what was refused, one line each.

    Raises:
        AblateError: the source holds no results.
    """
    published = Store(published_in(source))
    shelf = published.read()
    if not shelf.results and not shelf.damaged:
        raise AblateError(f"{source}: holds no results (a folder with trials/<id>/result.json)")
    store.create()
    have, new = store.read().results, []
    for trial_id, result in shelf.results.items():
        if trial_id in have:
            if have[trial_id].scores != result.scores:
                shelf.damaged.append(f"{published.name(result.id)}: here is another result of that trial, and it stays")
            continue
        with store.lock(result.id, wait=False) as hold:
            if not hold:
                shelf.damaged.append(f"{published.name(result.id)}: another process is training this trial here")
                continue
            if store.place.read(store.name(result.id, RESULT)) is not None:  # an id says nothing of what is there
                shelf.damaged.append(f"{published.name(result.id)}: there is another result {result.id} here")
                continue
            try:
                store.put(result, published.statistics(result.id), hold=hold)
            except DamagedError as error:
                shelf.damaged.append(str(error))
                continue
        new.append(trial_id)
    return new, shelf.damaged
