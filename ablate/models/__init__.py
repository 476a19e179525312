"""The model shelf's contract, `Backbone`: networks that give maps, finest first, and say what each map is."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ablate import registry
from ablate.registry import Chosen


class Backbone(Protocol):
    """What a builder of this shelf returns: a module of torch whose maps have these channels and strides."""

    @property
    def channels(self) -> Sequence[int]:
        """Of each map."""

    @property
    def strides(self) -> Sequence[int]:
        """Pixels of the image for one of each map, ascending."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """images (B, 3, H, W) -> maps (B, channels[i], H / strides[i], W / strides[i]), finest first."""


@runtime_checkable
class Supervised(Protocol):
    """Optional: a backbone some of whose maps are only there for supervision, and may be missing in evaluation."""

    @property
    def intermediate(self) -> Sequence[int]:
        """Their places, ascending; never 0, which predicts."""


@runtime_checkable
class Staged(Protocol):
    """Optional: a backbone that says which of its modules make up which stage, so that a lopsided one is told."""

    @property
    def modules_of_stages(self) -> Mapping[str, Sequence[nn.Module]]:
        """The stage's name in a sentence -> its modules."""


def build_model(part: Chosen) -> Backbone:
    """The backbone that a recipe names, with the knobs it gives.

    Raises:
        PartError, ValueError: an impossible combination of knobs.
    """
    made: Backbone = registry.build("model", part.name, part.knobs)
    return made
