"""What was found out for a study and is kept with its results: documents with a checksum."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablate.errors import StoreError
from ablate.machine import fingerprint
from ablate.storage import opened


def read(results: Path | str | None, file: str) -> dict[str, Any]:
    """What was kept before; nothing where the file is missing or damaged."""
    try:
        document = json.loads((opened(results).read(file) if results else None) or b"{}")
        solved = document["solved"]
        return dict(solved) if document["checksum"] == fingerprint(solved) else {}
    except (StoreError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def write(results: Path | str, file: str, found: dict[str, Any]) -> None:
    """Keep it. Raises StoreError."""
    body = {key: found[key] for key in sorted(found)}
    opened(results).write(file, json.dumps({"checksum": fingerprint(body), "solved": body}, indent=1).encode())


def is_there(results: Path | str) -> bool:
    """Whether the results folder was made before, so that a command that only reads makes none."""
    with suppress(StoreError):
        return opened(results).read("store.json") is not None
    return False
