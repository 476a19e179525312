"""The parameters and GFLOPs that papers print, beside our count of the same network; kept in published_costs.json.

A printed figure that ours misses by more than one per cent has a reason, and so has a network that is not on the shelf.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from ablate.datasets import Info
from ablate.models import Backbone, Supervised, build_model
from ablate.network.build import Network
from ablate.network.cost import Size, price_network
from ablate.storage import Cost
from ablate.study import FROZEN, Part
from ablate.tasks import build_task
from hrnet_core import ClassificationHead, HRNet, HRNetConfig

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
    task: Part | None = None  # whose head it has; None: HRNet's for classification
    outputs: int = 0  # joints or classes
    model: Part | None = None
    hrnet: dict[str, Any] | None = None  # instead of a model from the shelf, the body of hrnet_core with these knobs
    pooled: bool = False  # whether the head for classification pools and joins all streams instead (PAMI XVI: Ci)
    timm: str | None = None  # instead of all that, a network of timm's that classifies


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


class PooledStreams(nn.Module):
    """Maps of all streams -> logits (B, 1000), linear in the streams' means."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.classifier = nn.Linear(sum(channels), 1000)

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.classifier(torch.cat([stream.mean((2, 3)) for stream in maps], dim=1))
        return logits


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
    with torch.device("meta"):
        if blueprint.timm:
            net: nn.Module = timm.create_model(blueprint.timm, pretrained=False)
        else:
            backbone = _backbone(blueprint)
            net = Network(backbone, _head(blueprint, backbone))
    return net.eval()


def _backbone(blueprint: Blueprint) -> Backbone:
    if blueprint.model:
        return build_model(blueprint.model.filled("model"))
    return HRNet(HRNetConfig(**(blueprint.hrnet or {})))


def _head(blueprint: Blueprint, backbone: Backbone) -> nn.Module:
    if blueprint.task is None:
        return PooledStreams(backbone.channels) if blueprint.pooled else ClassificationHead(backbone.channels)
    names = tuple(str(number) for number in range(blueprint.outputs))
    info = Info(name="published", version=None, licence="", source="", joints=names, classes=names)
    places = backbone.intermediate if isinstance(backbone, Supervised) else ()
    task = build_task(blueprint.task.filled("task"))
    return task.head(info, backbone.channels, backbone.strides, intermediate=places)
