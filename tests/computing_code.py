"""Digests of the code that computes numbers, by what it computes; `python tests/computing_code.py` writes them down.

A part's code is its file and what that imports from the shelves and from hrnet_core; the corridor's is the loop that
trains and scores. Comments, docstrings and layout are not in a digest. Whoever changes such code decides whether it
computes something else: then the part's `meaning` rises, else it stays, and the digests are written anew either way.
"""

import json
from functools import cache
from pathlib import Path
from unittest import mock

from ablate import registry
from ablate.machine import source
from ablate.study import recipe

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).with_suffix(".json")
SHELVES = ("model", "task", "dataset", "metric")
COMPUTING = ("hrnet_core", "ablate.models", "ablate.tasks", "ablate.datasets", "ablate.metrics")  # else it is no part's
CORRIDOR = ("training/fit.py", "training/updates.py", "training/evaluate.py", "training/batches.py", "network/build.py")
CORRIDOR += ("training/team.py", "training/team_norm.py")


def digests() -> dict[str, dict[str, int | str]]:
    """What computes -> its meaning, and the digest of its code."""
    with mock.patch.object(source, "_parsed", cache(source._parsed)):  # most files serve many parts
        return _digests()


def parts() -> dict[str, registry.Description]:
    """The shipped parts, by shelf and name."""
    return {
        f"{kind} {name}": registry.describe(kind, name)
        for kind in SHELVES
        for name in registry.names(kind)
        if not registry.module_of(kind, name)
    }


def _digests() -> dict[str, dict[str, int | str]]:
    found = {name: {"meaning": part.meaning, "digest": _of_part(part.path)} for name, part in parts().items()}
    found["corridor"] = {"meaning": recipe.CORRIDOR_MEANING, "digest": _together(CORRIDOR)}
    found["weights"] = {"meaning": recipe.WEIGHTS_MEANING, "digest": _together(["training/weights.py"])}
    return dict(sorted(found.items()))


def _of_part(path: Path) -> str:
    files = source.closure(path, ROOT, within=COMPUTING)
    own = [file for file in files if file == path or _is_of_parts(file)]
    return source.digest_of(own, ROOT)


def _is_of_parts(file: Path) -> bool:
    house, *rooms = file.relative_to(ROOT).parts
    return house == "hrnet_core" or (f"{house}.{rooms[0]}" in COMPUTING and file.name != "__init__.py")


def _together(names: list[str] | tuple[str, ...]) -> str:
    return source.digest_of([ROOT / "ablate" / name for name in names], ROOT)


if __name__ == "__main__":
    FILE.write_text(json.dumps(digests(), indent=1) + "\n")
