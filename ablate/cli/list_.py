"""ablate list: the shelves."""

from typing import Any

import click
from pydantic import BaseModel

from ablate import registry
from ablate.cli import completion, options
from ablate.cli.tables import Row, document, show, show_entries
from ablate.errors import AblateError, nearest
from ablate.machine import annotations

SHELVES = {
    "models": "model",
    "tasks": "task",
    "datasets": "dataset",
    "metrics": "metric",
    "sections": "section",
}


@click.command("list")
@click.argument("what", type=click.Choice([*SHELVES, "knobs", "keys"]))
@click.argument("name", required=False, shell_complete=completion.parts_with_knobs)
@click.option("--schema", is_flag=True, help="keys: the JSON schema of a study file, for editors (docs/editor.md).")
@options.plugin
@options.as_json
@options.as_csv
def command(what: str, name: str | None, schema: bool, as_json: bool, as_csv: bool) -> None:
    """List the parts of a shelf, the knobs of one part, or all keys of a study file.

    Example: ablate list knobs hrnet
    """
    if name and what != "knobs":
        raise AblateError(f"list {what}: takes no name; a part's knobs: ablate list knobs {name}")
    if schema:
        if what != "keys":
            raise AblateError(f"list {what}: --schema is for `ablate list keys`")
        from ablate.study import study_schema

        document(study_schema())
        return
    rows = _knobs(name) if what == "knobs" else _keys() if what == "keys" else _parts(SHELVES[what])
    if as_json or as_csv:
        show(rows, as_json=as_json, as_csv=as_csv)
        return
    show_entries(rows, beside=("type", "default"))


def _parts(kind: str) -> list[Row]:
    rows = []
    for name in registry.names(kind):
        part = registry.describe(kind, name)
        facts = [f"{key}: {' '.join(value)}" for key, value in part.facts.items() if isinstance(value, tuple)]
        row = {"name": name, "what": part.summary}
        row |= {"ImageNet weights": part.facts.get("imagenet", "none known")} if kind == "model" else {}
        rows.append(row | {"facts": "; ".join(facts)})
    return rows


def _knobs(name: str | None) -> list[Row]:
    if name == "network":
        return _of_network_files()
    kinds = ("model", "task", "protocol", "dataset")
    known = [(kind, part) for kind in kinds for part in registry.names(kind)]
    if name is None or name not in {part for _, part in known}:
        names = {"network", *(part for _, part in known)}
        raise AblateError(f"list knobs {name or 'NAME'}: {nearest(name or '', names)}")
    return [
        {
            "knob": f"{'evaluation' if kind == 'protocol' else kind}.{knob.name}",
            "type": annotations.in_words(knob.type),
            "default": "required" if knob.default is registry.REQUIRED else _written(knob.default),
            "meaning": knob.doc,
        }
        for kind, part in known
        if part == name
        for knob in registry.describe(kind, part).knobs
    ]


def _of_network_files() -> list[Row]:
    """How `ablate evaluate` reads a network's file."""
    from ablate.evaluation.reading import Reading
    from ablate.study import keys

    return [
        {
            "knob": f"network.{name}",
            "type": annotations.in_words(key.type),
            "default": _written(Reading.model_fields[name].default),
            "meaning": key.meaning,
        }
        for name, key in keys(Reading).items()
    ]


def _keys() -> list[Row]:
    from ablate.study import Budget, Factor, Match, Recipe, Scale, Study, TrainSpec, Tune, Weights, keys, presets

    sections: dict[str, Any] = {
        "": Study, "recipe": Recipe, "recipe.train": TrainSpec, "recipe.weights": Weights, "factors.NAME": Factor,
        "factors.NAME.match": Match, "tune": Tune, "scales.NAME": Scale, "budget": Budget,
    }  # fmt: skip
    preset = {"key": "recipe.train.preset", "type": "text", "default": "", "meaning": ", ".join(presets.presets())}
    rows = [
        _key(f"{at}.{name}".strip("."), key.type, key.meaning, model.model_fields[name])
        for at, model in sections.items()
        for name, key in keys(model).items()
    ]
    return [*rows, preset]


def _key(key: str, kind: str, meaning: str, field: Any) -> Row:
    default: Any = "required" if field.is_required() else field.get_default(call_default_factory=True)
    return {
        "key": key,
        "type": annotations.in_words(kind),
        "default": "" if isinstance(default, BaseModel) else _written(default),
        "meaning": meaning,
    }


def _written(value: Any) -> str:
    """As a study file writes it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)
