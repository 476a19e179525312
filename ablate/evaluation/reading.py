"""How a network's file is read: knobs of `network.`, for networks that were not made here. Needs no torch."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from ablate.errors import PartError, invalid, nearest
from ablate.study import STRICT

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in 0..1


def listed(default: Any) -> Any:
    """A field whose value YAML writes as a list."""
    return Field(default=default, strict=False)


class Reading(BaseModel):
    """What the pictures are to a network, and which of its outputs counts."""

    model_config = STRICT
    colours: Literal["rgb", "bgr"] = "rgb"  # the order of the channels that it sees
    white: float = Field(default=1.0, gt=0)  # what 255 becomes before the mean is taken off: 1 or 255
    mean: tuple[float, ...] = listed(MEAN)  # that is taken off, in RGB, in units of white
    std: tuple[float, ...] = listed(STD)  # that is divided by then, in RGB
    layout: Literal["auto", "nchw", "nhwc"] = "auto"  # of its input; auto: by its shape
    multiple: int = Field(default=1, ge=1)  # pictures are filled up with black to sides that are multiples of it
    size: tuple[int, int] | None = listed(None)  # pictures are scaled to it; none: only if fixed
    output: str | None = None  # the name of the output that counts, where several fit
    channels: tuple[int, ...] | None = listed(None)  # its channel for each joint or class of the set
    family: str | None = None  # of a checkpoint without a head that tells: pose, segmentation, mmpose ...
    entry: str | None = None  # which network of a checkpoint that holds several

    @model_validator(mode="after")
    def _one_or_three(self) -> "Reading":
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, 3):
                raise ValueError(f"{name}: one number, or three for red, green and blue")
        if min(self.std) <= 0:
            raise ValueError("std: numbers above 0")
        return self

    @property
    def changed(self) -> dict[str, Any]:
        """The knobs that are not at their defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def plain(self) -> bool:
        """Whether a network sees the pictures as our tasks prepare them."""
        return self.colours == "rgb" and self.white == 1 and tuple(self.mean) == MEAN and tuple(self.std) == STD


def reading(given: Mapping[str, object], **known: object) -> Reading:
    """The knobs as given, before what the file itself tells (`known`).

    Raises:
        PartError: no such knob, or a value that it cannot have.
    """
    for name in given:
        if name not in Reading.model_fields:
            raise PartError(f"network.{name}: no such knob; {nearest(name, Reading.model_fields)}")
    single = {
        name: [value] for name, value in given.items() if name in ("mean", "std") and isinstance(value, int | float)
    }
    try:
        return Reading.model_validate({**known, **given, **single})
    except ValidationError as error:
        where, what = invalid(error)
        raise PartError(f"network.{where}: {what}" if where else f"network.{what}") from None
