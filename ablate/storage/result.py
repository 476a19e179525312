"""Result: the one typed document that a trial leaves, whether it went well or not."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from ablate.study import FROZEN, Plugin, Recipe, Trial, later, trial_keys

VERSION = 1
KINDS = ("cpu", "cuda")  # of devices
NAMED = 6  # arms that a sentence names before it only counts
NEWEST = 1000  # a document that claims a version beyond it is damaged, and none of a newer ablate
LARGEST = 1e39  # more than any float32; the squares and sums of what is larger are no numbers
Count = Annotated[int, Field(ge=0, lt=2**63)]  # what has no bound cannot be shown, divided or drawn


def _bounded(value: float) -> float:
    if LARGEST < abs(value) < math.inf:
        raise ValueError(f"{value:.3g} is larger than any number of a training")
    return value


Number = Annotated[float, AfterValidator(_bounded)]  # nan and infinity are findings, and stay


class Epoch(BaseModel):
    """One row of a learning curve."""

    model_config = FROZEN
    epoch: Count  # 1 is the first
    loss: Number  # mean over the epoch's batches
    lr: float  # at the epoch's last step
    seconds: Number  # training only
    images_per_second: Number  # training throughput
    scores: dict[str, Number] = {}  # on the evaluation split, where this epoch was evaluated
    loss_parts: dict[str, Number] = {}  # means of the losses that the loss is the sum of, where the task names them


class Cost(BaseModel):
    """What one trained network costs. MACs count convolution and linear layers, one multiply-add = 1."""

    model_config = FROZEN
    parameters: Count  # all
    used_parameters: Count  # those that the output depends on
    macs: Count  # for one image; GFLOPs in the papers = MACs / 2**30
    image: tuple[Count, Count] | None = None  # height and width of that image: what the task evaluates on
    transposed_excess: Count = 0  # MACs that the papers' tool adds: transposed convolutions by their output's size
    matmul_macs: Count = 0  # not in `macs`: matrix products outside such layers, attention's above all
    activations: Count = 0  # elements of these layers' outputs, for one image; 0: not counted
    uncounted: list[str] = []  # operators with arithmetic that all these leave out
    images_per_second: Number = 0.0  # evaluation throughput on this machine, flip test as in the protocol
    peak_memory: Count = 0  # bytes: the process (CPU) or the device (GPU) at its peak

    @property
    def gflops(self) -> float:
        """GFLOPs in the papers' unit: MACs / 2**30."""
        return self.macs / 2**30

    @property
    def tool_gflops(self) -> float:
        """GFLOPs as the papers' tool counts them, with its excess for transposed convolutions."""
        return (self.macs + self.transposed_excess) / 2**30


def little_trained(costs: Iterable[tuple[str, Cost]]) -> str:
    """A sentence on the networks, by the labels of their arms, of which gradients reach less than half; else empty."""
    few = [
        f"{label} {cost.used_parameters / 1e6:.3g} of {cost.parameters / 1e6:.3g} million "
        f"({100 * cost.used_parameters / cost.parameters:.0f} %)"
        for label, cost in costs
        if 2 * cost.used_parameters < cost.parameters
    ]
    if not few:
        return ""
    more = [f"{len(few) - NAMED} more arms"] if len(few) > NAMED else []
    return (
        f"Less than half of the parameters get a gradient, the others stay as they start: "
        f"{'; '.join(few[:NAMED] + more)}."
    )


class Imported(BaseModel):
    """The mark of a result that was not trained here but taken in. It stands beside the body that the result has
    everywhere, and says nothing of how it came to be."""

    model_config = FROZEN
    source: str = Field(max_length=4096)  # the folder, as it was named to `ablate import`
    when: str = Field(max_length=40)  # UTC, ISO 8601
    checked: bool  # id and scores were computed again; False: its parts were on no shelf here


class Result(BaseModel):
    """What one trial found, what it cost, and where and how it ran."""

    model_config = FROZEN
    version: int = Field(default=VERSION, ge=1, le=NEWEST)
    id: str
    recipe: Recipe
    seed: Count
    data_version: str | None = None  # declared by the data set
    data_digest: dict[str, str] = {}  # found on disk, per split
    meanings: dict[str, int]  # of every part, the metrics that nobody asked for included
    plugins: dict[str, Plugin] = later({})  # that brought one of these parts
    status: Literal["done", "failed", "diverged"]
    reason: str = ""  # one line when not done
    traceback: str = later("")  # the last lines of what an exception left; empty where there was none
    scores: dict[str, Number] = {}
    curve: list[Epoch] = []
    cost: Cost | None = None
    env: dict[str, str] = {}
    kept_weights: str = later("")  # their sha256; empty where the budget kept none
    seconds: Number = Field(default=0.0, ge=0)  # training and evaluation, over all sittings
    finished: str = ""  # UTC, ISO 8601
    imported: Imported | None = Field(default=None, exclude=True)  # None: trained here

    @property
    def kind(self) -> str:
        """The kind of device that it ran on; those that do not say are of CPUs."""
        return kind_named(self.env)

    def answers(self) -> list[str]:
        """The keys that trials have today which this result is of: those that ask for all of its metrics first, then
        those that ask for some. A new knob whose default is the old behaviour orphans nothing, nor does a new metric.

        Raises:
            PartError: a part or knob of its recipe is on no shelf of today.
        """
        return list(trial_keys(self.recipe.filled(), self.seed, self.data_version, self.meanings, self.plugins))


def kind_named(env: Mapping[str, str]) -> str:
    """The kind of device that a result's provenance names."""
    return KINDS[env.get("device", "cpu") != "cpu"]


def whose(trial: Trial) -> dict[str, Any]:
    """What a result says of the trial that it belongs to; its scores are those of all of the task's metrics."""
    return {
        "id": trial.id,
        "recipe": trial.recipe,
        "seed": trial.seed,
        "data_version": trial.data_version,
        "meanings": trial.recipe.meanings() | trial.meanings,
        "plugins": trial.recipe.plugins() | trial.plugins,
    }
