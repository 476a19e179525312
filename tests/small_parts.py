"""A network, a task, a data set and a metric that train in a blink: real torch, plugged in as an outsider's would be.

All are functions, and the data set says what it has in flat fields: parts that were written so go on working.

The network can be told to misbehave: to put out nan, to raise, to kill its process, to hang, to run out of memory.
"""

import hashlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import default_collate

from ablate.datasets import Info
from ablate.errors import DataError
from ablate.registry import dataset, metric, model, protocol, task


class Dots(nn.Module):
    def __init__(self, width: int, depth: int, dropout: float, fault: str, at: int, marker: str, pause: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(*(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth - 1)))
        self.dropout = nn.Dropout(dropout)
        self.fault, self.at, self.marker, self.pause, self.steps = fault, at, marker, pause, 0
        self.channels, self.strides = [width], [1]

    def forward(self, images):
        if self.training and not images.is_meta:
            self.steps += 1
            time.sleep(self.pause)
            if self.steps == self.at:
                images = images * self.misbehave()
        return [self.dropout(self.second(self.first(images)))]

    def misbehave(self) -> float:
        if self.fault == "nan":
            return float("nan")
        if self.fault == "error":
            raise RuntimeError("the dots\nwent astray")
        if self.fault == "strange":
            raise ValueError("no picture \udce9")  # as a file's name that is no UTF-8 shows in Python
        if self.fault == "slip":
            raise KeyError("dots")
        if self.fault == "hang" or (self.fault == "hang_once" and self.first_time()):
            threading.Event().wait()
        if self.fault == "oom" or (self.fault == "oom_once" and self.first_time()):
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate a toy.")
        if self.fault == "cublas_once" and self.first_time():
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling a toy")
        if self.fault == "stop_once" and self.first_time():
            os.kill(os.getpid(), signal.SIGSTOP)
        once = {"kill_once": True, "kill_leader_once": rank() == 0, "kill_follower_once": rank() == 1}
        if self.fault == "kill" or (once.get(self.fault) and self.first_time()):
            os.kill(os.getpid(), signal.SIGKILL)
        while self.fault == "wait" and not Path(self.marker).exists():
            time.sleep(0.05)
        return 1.0

    def first_time(self) -> bool:
        first = not Path(self.marker).exists()
        Path(self.marker).touch()
        return first


def rank() -> int:
    """Of this process among those that train the trial."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


@model("dots", meaning=1)
def dots(
    *,
    width: int = 4,  # channels
    depth: Literal[1, 2] = 1,  # convolutions
    dropout: float = 0.0,  # how often a value is dropped
    fault: Literal[
        "",
        "nan",
        "error",
        "strange",
        "slip",
        "kill",
        "kill_once",
        "kill_leader_once",
        "kill_follower_once",
        "hang",
        "hang_once",
        "oom",
        "oom_once",
        "cublas_once",
        "stop_once",
        "wait",
    ] = "",  # what goes wrong
    at: int = 1,  # in which training step of the process
    marker: str = "",  # ..._once: a file that tells that it happened; wait: one that ends the wait
    pause: float = 0.0,  # seconds that a training step takes longer
):
    """One or two convolutions."""
    if width % 2:
        raise ValueError(f"width: {width} is odd")
    return Dots(width, depth, dropout, fault, at, marker, pause)


class Mean(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.last = nn.Linear(channels, 1)

    def forward(self, maps):
        return self.last(maps[0].mean((2, 3)))[:, 0]  # (B,)


@task("brightness", meaning=1, metrics=("closeness",))
def brightness(
    *,
    size: tuple[int, int] = (8, 8),  # of the picture, pixels
    jitter: float = 0.5,  # augmentation: how much brighter or darker
):
    """The mean of a picture's first channel."""
    return Brightness(tuple(size), jitter)


@protocol("brightness")
def brightness_protocol(*, flip: bool = False):
    """How it is measured."""
    return flip


@dataclass(frozen=True)
class Brightness:
    size: tuple[int, int]
    jitter: float

    def head(self, info, channels, strides, *, intermediate=()):
        return Mean(channels[0])

    def input_size(self, info, *, training):
        return self.size

    def sample_counts(self, info):
        return info.sizes

    def samples(self, opened):
        return opened

    def evaluation_batch(self, batch):
        return batch

    def ground_truth(self, samples):
        return samples.ground_truth()

    def encode(self, sample, info, rng=None):
        image = sample["image"].transpose(2, 0, 1).astype(np.float32) / 255  # (3, H, W)
        if rng is not None:
            image = image * np.float32(1 + self.jitter * rng.uniform(-1, 1))
            image = image[:, :, ::-1] if rng.random() < 0.5 else image
        return {"image": np.ascontiguousarray(image), "truth": image[0].mean(), "image_id": sample["image_id"]}

    def collate(self, encoded):
        return default_collate(encoded)

    def prepare(self, batch):
        return batch["image"]

    def loss(self, outputs, batch):
        if trace := os.environ.get("SMALL_PARTS_TRACE"):
            content = hashlib.md5(batch["image"].numpy().tobytes()).hexdigest()
            with Path(trace).open("a") as file:
                file.write(f"{batch['image_id'].tolist()} {content}\n")
        return (outputs.float() - batch["truth"]).square().mean()

    def finish(self, predictions, protocol, info):
        if trace := os.environ.get("SMALL_PARTS_PIDS"):
            with Path(trace).open("a") as file:
                file.write(f"{os.getpid()}\n")
        return predictions

    def samples_for_evaluation(self, samples, protocol):
        return samples

    def predict(self, model, batch, protocol):
        values = model(self.prepare(batch)).float()
        return [{"image_id": int(i), "value": float(v)} for i, v in zip(batch["image_id"], values, strict=True)]


@dataset("noise", meaning=1, tasks=("brightness",))
def noise(
    *,
    train: int = 20,  # pictures
    val: int = 8,  # pictures
    version: str | None = "1",  # declared
    damaged: int | None = None,  # the training picture that cannot be read
    unverified: bool = False,  # whether that is found out before training
):
    """Grey noise of random brightness."""
    info = Info("noise", version, "none", "drawn", sizes={"train": train, "val": val})
    return Noise(info, damaged, unverified)


@dataclass(frozen=True)
class Noise:
    info: Info
    damaged: int | None
    unverified: bool

    def open(self, split, root):
        return Pictures(self.info, split, self.damaged, self.unverified)


@dataclass(frozen=True)
class Pictures:
    info: Info
    split: str
    damaged: int | None
    unverified: bool
    folder: None = None

    def __len__(self):
        return self.info.sizes[self.split]

    def __getitem__(self, index):
        if self.split == "train" and index == self.damaged:
            raise DataError(f"noise/{index}.png: is cut short")
        rng = np.random.default_rng([self.split == "val", index])
        image = rng.uniform(0, 255, (8, 8, 3)) * rng.uniform(0.2, 1)
        return {"image": image.astype(np.uint8), "image_id": index + 1}

    def image_ids(self):
        return list(range(1, len(self) + 1))

    def ground_truth(self):
        truths = [float(self[i]["image"][..., 0].mean() / 255) for i in range(len(self))]
        return {"annotations": [{"image_id": i + 1, "truth": truth} for i, truth in enumerate(truths)]}

    def digest(self):
        return f"{len(self):016x}"

    def check(self, *, thorough=False):
        return []

    def verify(self):
        if self.damaged is not None and not self.unverified:
            raise DataError(f"noise/{self.damaged}.png: is cut short")
        return self.digest()


@metric("closeness", meaning=1, scores=("closeness", "near"))
def closeness():
    """One minus the mean error, and how many are within a tenth."""
    return Closeness()


class Closeness:
    def per_image(self, predictions, ground_truth, info):
        truths = {entry["image_id"]: entry["truth"] for entry in ground_truth["annotations"]}
        found = {p["image_id"]: p["value"] for p in predictions}
        ids = np.array(sorted(truths))
        return {"image_ids": ids, "error": np.array([abs(found[i] - truths[i]) for i in ids])}

    def aggregate(self, statistics, weights=None):
        counts = np.ones(len(statistics["image_ids"])) if weights is None else weights
        error = statistics["error"]
        return {
            "closeness": 1 - float(counts @ error / counts.sum()),
            "near": float(counts @ (error < 0.1) / counts.sum()),
        }
