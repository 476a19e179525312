"""ablate list: the shelves."""

import click

from ablate import registry
from ablate.cli import options
from ablate.cli.tables import Row, show
from ablate.errors import AblateError

SHELVES = {
    "models": "model",
    "tasks": "task",
    "datasets": "dataset",
    "metrics": "metric",
    "sections": "section",
}


@click.command("list")
@click.argument("what", type=click.Choice([*SHELVES, "knobs"]))
@click.argument("name", required=False)
@options.as_json
@options.as_csv
def command(what: str, name: str | None, as_json: bool, as_csv: bool) -> None:
    """The parts on a shelf, or the knobs of one part. Loads no torch.

    Example: ablate list knobs hrnet
    """
    rows = _knobs(name) if what == "knobs" else _parts(SHELVES[what])
    show(rows, as_json=as_json, as_csv=as_csv)


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
    kinds = ("model", "task", "protocol", "dataset")
    known = [(kind, part) for kind in kinds for part in registry.names(kind)]
    if name is None or name not in {part for _, part in known}:
        names = sorted({part for _, part in known})
        raise AblateError(f"list knobs NAME: choose from {', '.join(names)}")
    return [
        {
            "knob": f"{'evaluation' if kind == 'protocol' else kind}.{knob.name}",
            "type": knob.type,
            "default": "required" if knob.default is registry.REQUIRED else str(knob.default),
            "meaning": knob.doc,
        }
        for kind, part in known
        if part == name
        for knob in registry.describe(kind, part).knobs
    ]
