"""Named training recipes of the literature, kept as data with their sources (presets.json)."""

import json
from pathlib import Path
from typing import Any

from ablate.errors import StudyError, nearest


def presets() -> dict[str, dict[str, Any]]:
    """Name -> {source, train}."""
    return dict(json.loads(Path(__file__).with_name("presets.json").read_text(encoding="utf-8")))


def expand(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe document with `train: {preset: NAME}` replaced by the preset's values; keys beside it win.

    Raises:
        StudyError: no such preset.
    """
    train = recipe.get("train")
    if not isinstance(train, dict) or "preset" not in train:
        return recipe
    known = presets()
    name = train["preset"]
    if not isinstance(name, str) or name not in known:
        raise StudyError(f"recipe.train.preset: no preset {name!r}; {nearest(name, known)}")
    own = {field: value for field, value in train.items() if field != "preset"}
    return {**recipe, "train": {**known[name]["train"], **own}}
