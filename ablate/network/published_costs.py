"""The parameters and GFLOPs that papers print, beside our count of the same network; kept in published_costs.json.

A printed figure that ours misses by more than one per cent has a reason, and so has a network that is not on the shelf.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel
from torch import nn

from ablate.datasets import Classes, Info
from ablate.models import Supervised, build_model
from ablate.network.build import Network
from ablate.network.cost import Size, price_network
from ablate.storage import Cost
from ablate.study import FROZEN, Part
from ablate.tasks import build_task

TOLERANCE = 0.01  # of the printed figure


class Published(BaseModel):
    """One row of a published table."""

    model_config = FROZEN
    source: str  # paper or repository, and table
    row: str  # as printed there
    size: Size  # height and width that the GFLOPs are counted for
    params_M: float | None = None  # millions of parameters
    gflops: float | None = None
    giga: Literal["2^30", "10^9", "tool's 10^9"] = "2^30"  # multiply-adds in one of its GFLOPs; 2^30: the papers' tool
    network: str | None = None  # how we build it; None where nothing on our shelves is it
    reason: str = ""  # why our count differs, or why there is none


class Blueprint(BaseModel):
    """How to build a network that tables speak of: a backbone with a head."""

    model_config = FROZEN
    task: Part  # whose head it has
    outputs: int  # joints or classes
    model: Part


class Tables(BaseModel):
    """The file: networks by name, and the rows that refer to them."""

    model_config = FROZEN
    networks: dict[str, Blueprint]
    rows: tuple[Published, ...]


@dataclass(frozen=True)
class Compared:
    """A published row beside our count of its network."""

    published: Published
    cost: Cost | None

    @property
    def params_M(self) -> float | None:
        """Our millions of parameters."""
        return self.cost.parameters / 1e6 if self.cost else None

    @property
    def gflops(self) -> float | None:
        """Our GFLOPs by the row's convention."""
        if self.cost is None:
            return None
        if self.published.giga == "10^9":
            return self.cost.macs / 1e9
        return self.cost.tool_gflops * (1 if self.published.giga == "2^30" else 2**30 / 1e9)

    @property
    def gaps(self) -> list[float]:
        """How far ours are from the printed figures, as fractions of these: parameters, then GFLOPs."""
        pairs = ((self.params_M, self.published.params_M), (self.gflops, self.published.gflops))
        return [ours / theirs - 1 for ours, theirs in pairs if ours is not None and theirs is not None]

    @property
    def agrees(self) -> bool:
        """Whether there is a count of ours, and it is within one per cent of all that is printed."""
        return bool(self.gaps) and all(abs(gap) <= TOLERANCE for gap in self.gaps)


def tables() -> Tables:
    """All published rows."""
    return Tables.model_validate_json(Path(__file__).with_name("published_costs.json").read_text(encoding="utf-8"))


def compare(found: Tables) -> Iterable[Compared]:
    """Count every distinct network once, and lay the counts beside the rows."""

    @cache
    def counted(name: str, size: Size) -> Cost:
        return price_network(build(found.networks[name]), size)

    for row in found.rows:
        yield Compared(row, counted(row.network, row.size) if row.network else None)


def build(blueprint: Blueprint) -> nn.Module:
    """The network on the meta device, in evaluation mode.

    Raises:
        PartError, ValueError: a part or knob that no shelf has, or an impossible combination.
    """
    names = Classes(str(number) for number in range(blueprint.outputs))
    info = Info("published", None, "", "", joints=names, classes=names, image_classes=names)
    with torch.device("meta"):
        backbone, task = build_model(blueprint.model.filled("model")), build_task(blueprint.task.filled("task"))
        places = backbone.intermediate if isinstance(backbone, Supervised) else ()
        return Network(backbone, task.head(info, backbone.channels, backbone.strides, intermediate=places)).eval()
