"""Recipe and Trial: one set of decisions with one seed, and the key that says when two of them are the same.

The key is a hash of what decides the numbers: the recipe with its defaults filled in, the seed, the data's declared
version, the `meaning` numbers of the parts and of our own training code, and the content of plugins whose parts are
used. Budget, study and arm are not in it; of a study's metrics those parts are that give them.
"""

import hashlib
import os
import platform
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

from ablate import registry
from ablate.errors import PartError
from ablate.machine import fingerprint, origin

HELD_OUT_MEANING = 2  # of the images that a recipe names; before, of all
CORRIDOR_MEANING = 1  # raised by hand when fit.py or evaluate.py change what they compute
MOST_METRICS = 6  # of a task, of which every choice has an identity of its own
WEIGHTS_MEANING = 1  # raised by hand when weights.py loads something else from the same file

FROZEN = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
STRICT = ConfigDict(**FROZEN, strict=True, allow_inf_nan=False)  # `true` is not 1, '3' not 3


def later(default: Any, **rules: Any) -> Any:
    """A field that documents did not always have. At its default, which is to mean what was done before there was a
    choice, it is not written: older documents and the ids of older trials stay what they are."""
    return Field(default=default, exclude_if=lambda value: value == default, **rules)


class Part(BaseModel):
    """A part by name with its knobs, written flat: `{name: hrnet, width: 32}`."""

    model_config = FROZEN
    name: str
    knobs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and set(value) != {"name", "knobs"}:
            return {"name": value.get("name"), "knobs": {k: v for k, v in value.items() if k != "name"}}
        return value

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.knobs}

    def filled(self, kind: str) -> Self:
        """The same part with every knob's default filled in by today's code.

        Knobs that came later, which the part's decorator names (`later`), are left out at their default.
        """
        return self.model_copy(update={"knobs": filled_knobs(kind, self.name, self.knobs)})


class TrainSpec(BaseModel):
    """How a network is trained; the defaults are the pose recipe of the official code (see presets.json)."""

    model_config = STRICT
    epochs: int = Field(default=210, ge=1)  # passes over the training split
    batch: int = Field(default=128, ge=1)  # images per optimiser step, over all devices
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # torch's optimiser of that name
    lr: float = Field(default=1e-3, gt=0)  # learning rate at the start of the schedule
    momentum: float | None = Field(default=None, ge=0, lt=1)  # sgd: momentum
    weight_decay: float = Field(default=0.0, ge=0)  # also applied with adam
    schedule: Literal["step", "poly", "cosine", "constant"] = "constant"  # how the learning rate falls
    milestones: list[float] = []  # step: when lr is multiplied by gamma, as fractions of the training
    gamma: float = Field(default=0.1, gt=0, le=1)  # step: factor on lr at each milestone
    power: float = Field(default=0.9, gt=0)  # poly: exponent; lr changes every iteration
    init: Literal["torch", "normal", "kaiming"] = "torch"  # normal: sd 0.001, as in the official pose code
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 if the device multiplies it natively, else fp32
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"  # auto: channels_last
    nesterov: bool = later(False)  # sgd with momentum: use Nesterov's momentum
    weight_decay_on: Literal["all", "weights"] = later("all")  # weights: norms and biases do not decay
    lr_floor: float = later(0.0, ge=0)  # poly, cosine: learning rate at the end
    warmup: Literal["none", "linear", "constant"] = later("none")  # how lr is reduced at the start, under any schedule
    warmup_steps: int = later(0, ge=0)  # length of the warm-up in optimiser steps
    warmup_epochs: float = later(0.0, ge=0)  # length of the warm-up in epochs, instead of steps
    warmup_ratio: float = later(0.001, gt=0, lt=1)  # factor on lr: linear at the first step, constant at every step
    head_lr: float = later(1.0, gt=0)  # factor on lr for the task's head
    layer_decay: float = later(1.0, gt=0, le=1)  # factor on lr per layer, from the head towards the image
    clip_norm: float = later(0.0, ge=0)  # largest norm of a step's whole gradient; 0: no clipping
    frozen: list[str] = later([])  # modules of the backbone that are not trained, such as stem; backbone: all
    frozen_norms: bool = later(False)  # batch norms of the backbone keep the statistics they start with
    norm_momentum: float | None = later(None, gt=0, le=1)  # momentum of all batch norms (default: the network's)
    ema: float = later(0.0, ge=0, lt=1)  # decay a step of an average of the weights, which is evaluated; 0: none
    held_out: float = later(0.0, ge=0, lt=1)  # score on so much of the training images, not on the test images
    images: int | None = later(None, ge=1)  # number of training images; 10 are among 50 (default: all)
    score_over: int = later(1, ge=1)  # the score is the mean over so many last epochs
    init_seed: int | None = later(None, ge=0)  # seed of the initial weights alone (default: the trial's)

    @field_validator("frozen", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _no_idle_knob(self) -> Self:
        if self.momentum is not None and self.optimizer != "sgd":
            raise ValueError(f"momentum has no effect with optimizer {self.optimizer!r}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov has no effect without momentum")
        if self.weight_decay_on != "all" and not self.weight_decay:
            raise ValueError("weight_decay_on has no effect without weight_decay")
        if self.lr_floor and self.schedule not in ("poly", "cosine"):
            raise ValueError(f"lr_floor has no effect with schedule {self.schedule!r}")
        if self.lr_floor >= self.lr:
            raise ValueError(f"lr_floor is {self.lr_floor:g}, which is not below lr")
        if self.score_over > self.epochs:
            raise ValueError(f"score_over is {self.score_over}, there are {self.epochs} epochs")
        self._refuse_idle_warmup()
        if self.milestones and self.schedule != "step":
            raise ValueError(f"milestones have no effect with schedule {self.schedule!r}")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule 'step' needs milestones")
        for name, schedule in (("gamma", "step"), ("power", "poly")):
            if self.schedule != schedule and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect with schedule {self.schedule!r}")
        if any(not 0 < point < 1 for point in self.milestones):
            raise ValueError("milestones are fractions of the training, between 0 and 1")
        return self

    def _refuse_idle_warmup(self) -> None:
        for name in ("warmup_steps", "warmup_epochs", "warmup_ratio"):
            if self.warmup == "none" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect without warmup")
        if self.warmup != "none" and bool(self.warmup_steps) == bool(self.warmup_epochs):
            raise ValueError(f"warmup {self.warmup!r} needs either warmup_steps or warmup_epochs")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}, there are {self.epochs} epochs")

    def evaluated_after(self, every: int) -> set[int]:
        """The epochs after which the network is scored: the last ones, and points of a curve, one every so many."""
        last = range(self.epochs - self.score_over + 1, self.epochs + 1)
        return {*last, *((1, *range(every, self.epochs, every)) if every else ())}

    def settled(self, *, on_gpu: bool) -> Self:
        """The same with `auto` replaced by what the device does best; keys are made of settled recipes only."""
        native = on_gpu or origin.has_bf16()
        precision = ("bf16" if native else "fp32") if self.precision == "auto" else self.precision
        layout = "channels_last" if self.memory_format == "auto" else self.memory_format
        return self.model_copy(update={"precision": precision, "memory_format": layout})


class Weights(BaseModel):
    """A checkpoint that the backbone starts from. Its content is in the key, its file's name is not."""

    model_config = STRICT
    file: str  # below the data folder, beside the study file, or absolute
    sha256: str  # the file's SHA-256: 64 hexadecimal digits, or the first 8 or more
    entry: str | None = None  # which network of a file that holds several

    @model_validator(mode="before")
    @classmethod
    def _tell_the_digest(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("file"), str):
            given = value.get("sha256")
            if not isinstance(given, str) or not re.fullmatch("[0-9a-f]{8,64}", given):
                what = (
                    "is missing" if given is None else f"is {given!r}, not 64 hexadecimal digits or the first 8 of them"
                )
                raise ValueError(f"sha256 {what}; {_digest_of(value['file'])}")
        return value


class Plugin(BaseModel):
    """A module of parts from elsewhere, as a trial used it."""

    model_config = FROZEN
    name: str  # of the module, or of its file
    digest: str  # of its code and of what it imports from beside it


class Recipe(BaseModel):
    """Everything that decides a number except the seed: the task, the data, the model, its training, its test."""

    model_config = FROZEN
    task: Part  # a name with knobs: {name: pose, size: [64, 64]}
    dataset: Part  # a name with knobs: {name: coco_pose, set: coco2017}
    model: Part  # a name with knobs: {name: hrnet, width: 32}
    weights: Weights | None = later(None)  # starting weights of the backbone (default: random, by seed)
    train: TrainSpec = TrainSpec()  # how the network is trained
    evaluation: dict[str, Any] = Field(default_factory=dict)  # knobs of the task's protocol, see ablate list knobs TASK

    def filled(self) -> Self:
        """The recipe with the defaults of all knobs filled in by today's code.

        Raises:
            PartError: a part or knob that no shelf has; the message begins with its path.
        """
        kinds = ("task", "dataset", "model")
        update: dict[str, Any] = {kind: getattr(self, kind).filled(kind) for kind in kinds}
        update["evaluation"] = filled_knobs("protocol", self.task.name, self.evaluation)
        return self.model_copy(update=update)

    def settled(self, *, on_gpu: bool) -> Self:
        """The filled recipe with nothing left automatic.

        Raises:
            PartError: a part or knob that no shelf has; the message begins with its path.
        """
        return self.filled().model_copy(update={"train": self.train.settled(on_gpu=on_gpu)})

    def meanings(self, scores: Collection[str] | None = None) -> dict[str, int]:
        """The `meaning` numbers of today's code for every part that has a say in these scores, or in all."""
        numbers = {role: part.meaning for role, part in self._parts(scores).items()}
        if self.weights:
            numbers["weights"] = WEIGHTS_MEANING
        if self.train.images and self.train.held_out:
            numbers["held out"] = HELD_OUT_MEANING
        return numbers | {"corridor": CORRIDOR_MEANING}

    def plugins(self, scores: Collection[str] | None = None) -> dict[str, Plugin]:
        """The plugins that bring a part with a say in these scores, or in all, by the part's role; often none."""
        found = {role: registry.module_of(part.kind, part.name) for role, part in self._parts(scores).items()}
        return {role: Plugin(name=m.shown, digest=m.digest) for role, m in found.items() if m}

    def _parts(self, scores: Collection[str] | None) -> dict[str, registry.Description]:
        parts = {kind: registry.describe(kind, getattr(self, kind).name) for kind in ("task", "dataset", "model")}
        for name in parts["task"].facts.get("metrics", ()):
            metric = registry.describe("metric", name)
            if scores is None or any(metric.gives(score) for score in scores):
                parts[f"metric {name}"] = metric
        return parts


class Trial(BaseModel):
    """One settled recipe with one seed. `arm` says which levels it stands for: factor name to level label."""

    model_config = FROZEN
    arm: dict[str, str]
    seed: int
    recipe: Recipe
    data_version: str | None = None
    meanings: dict[str, int]
    plugins: dict[str, Plugin] = later({})  # that bring one of its parts, by the part's role: model, metric closeness

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits; equal for equal recipe, seed, data version, meanings and content of plugins."""
        return key(self.recipe, self.seed, self.data_version, self.meanings, self.plugins)

    def refuse_other_plugins(self) -> None:
        """Another process may have other files of a plugin, or none.

        Raises:
            PartError: a part here is not the one that the trial is named after.
        """
        here = self.recipe.plugins()
        for role, plugin in self.plugins.items():
            if role not in here or here[role].digest != plugin.digest:
                raise PartError(
                    f"plugins: {platform.node()}: {plugin.name}, which brings the {role}, is not what the driver has"
                )


def filled_knobs(kind: str, name: str, knobs: dict[str, Any]) -> dict[str, Any]:
    """All knobs of a part, but for those that came later, which its decorator names, at their default.

    Raises:
        PartError: an unknown part or knob, or a value that is none; a knob's message begins with its path.
    """
    described = registry.describe(kind, name)  # what is wrong with the part itself needs no path
    try:
        filled = registry.check_knobs(kind, name, knobs)
    except PartError as error:
        raise PartError(f"{'evaluation' if kind == 'protocol' else kind}.{error}") from None
    defaults = {knob.name: knob.default for knob in described.knobs}
    older = [name for name in described.facts.get("later", ()) if filled[name] == defaults[name]]
    return {knob: value for knob, value in filled.items() if knob not in older}  # older ids stay what they are


def _digest_of(file: str) -> str:
    """In words, the digest of a file where it can be read from here, else how to get it."""
    path = Path(os.environ.get("ABLATE_DATA", ""), file)
    try:
        if not path.is_file():  # a device would never end
            return f"sha256sum {file} prints it"
        with path.open("rb") as stream:
            return f"{path} has {hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except (OSError, ValueError):
        return f"sha256sum {file} prints it"


def key(
    recipe: Recipe,
    seed: int,
    data_version: str | None,
    meanings: Mapping[str, int],
    plugins: Mapping[str, Plugin] = {},
) -> str:
    """The identity of a trial, from a settled recipe."""
    return next(trial_keys(recipe, seed, data_version, meanings, plugins))


def trial_keys(
    recipe: Recipe,
    seed: int,
    data_version: str | None,
    meanings: Mapping[str, int],
    plugins: Mapping[str, Plugin],
) -> Iterator[str]:
    """The identities of the trials that ask for all of these metrics, and of those that ask for some of them."""
    document = recipe.model_dump(mode="json")
    document.get("weights", {}).pop("file", None)  # the same content under another name is the same start
    metrics = [role for role in meanings if role.startswith("metric ")]
    fewer = range(len(metrics) - 1, 0, -1) if len(metrics) <= MOST_METRICS else ()
    for left_out in chain([()], *(combinations(metrics, len(metrics) - count) for count in fewer)):
        decided = {
            "recipe": document,
            "seed": seed,
            "data": data_version,
            "meanings": {role: number for role, number in meanings.items() if role not in left_out},
        }
        if used := {role: plugin.digest for role, plugin in plugins.items() if role not in left_out}:
            decided["plugins"] = used
        yield fingerprint(decided, digits=16)
