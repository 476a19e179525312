"""A network and a task that break one promise of their contracts at a time, as an outsider's first try may."""

from dataclasses import dataclass
from typing import Literal

import torch
from small_parts import Brightness, Mean
from torch import nn

from ablate.registry import model, protocol, task


class Faulty(nn.Module):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self.only = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(fault != "frozen")
        self.fault = fault
        self.channels, self.strides = [4], [1]
        if fault == "no channels":
            del self.channels
        if fault == "no strides":
            del self.strides
        if fault == "a number":
            self.channels = 4
        if fault == "one stride more":
            self.strides = [1, 2]
        if fault == "two maps promised":
            self.channels, self.strides = [4, 4], [1, 2]
        if fault == "stride":
            self.strides = [2]
        if fault == "channels":
            self.channels = [8]

    def forward(self, images):
        maps = self.only(images)
        if self.fault == "raises":
            raise KeyError("a slip of the author's")
        if self.fault == "misfits":
            return [self.only(maps)]
        if self.fault == "tensor":
            return maps
        return (maps.detach(),) if self.fault == "detached" else (maps,)


@model("faulty")
def faulty(*, fault: str = ""):  # what is wrong
    """A network with a fault."""
    if fault == "impossible":
        raise ValueError("fault: this cannot be")
    return (lambda images: [images]) if fault == "no module" else Faulty(fault)


class Odd(nn.Module):
    def __init__(self, channels: int, fault: str) -> None:
        super().__init__()
        self.mean, self.fault = Mean(channels), fault

    def forward(self, maps):
        values = self.mean(maps)
        return {"dict": {"values": values}, "deaf": torch.zeros_like(values)}.get(self.fault, values)


@task("faulty_brightness", metrics=("closeness",))
@dataclass(frozen=True)
class FaultyBrightness:
    """A task with a fault, as a dataclass of today."""

    fault: Literal["", "dict", "deaf", "head", "methods"] = ""  # what is wrong
    size: tuple[int, int] = (8, 8)  # of the picture, pixels
    jitter: float = 0.5  # augmentation

    def __getattr__(self, name):
        if name == "finish" and self.fault == "methods":
            raise AttributeError(name)
        return getattr(Brightness(self.size, self.jitter), name)

    def head(self, info, channels, strides, *, intermediate=()):
        return Mean(channels[0]).forward if self.fault == "head" else Odd(channels[0], self.fault)


@protocol("faulty_brightness")
@dataclass(frozen=True)
class FaultyProtocol:
    """How it is measured."""
