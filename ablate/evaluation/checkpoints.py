"""Networks in checkpoints of torch or safetensors: released ones, told by their keys, and those of a study's arm.

Files are read by the restricted readers alone; one that holds code is refused with the object's name.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ablate import registry
from ablate.datasets import build_dataset
from ablate.errors import DataError
from ablate.evaluation.asked import Settings
from ablate.evaluation.networks import FINDS, SEVERAL, Loaded
from ablate.evaluation.prediction_files import digest
from ablate.evaluation.reading import reading
from ablate.evaluation.stored import Subject
from ablate.network.build import build
from ablate.network.cost import input_size
from ablate.study import Recipe
from ablate.training.weights import recipe_of, unpacked
from hrnet_core import Pretrained, SimpleBaselineConfig, from_checkpoint
from hrnet_core.checkpoint import official_state, read

HEADS = {  # whose outputs a task reads
    "heatmap": "pose",
    "bottom_up": "bottom_up_pose",
    "segmentation": "segmentation",
    "ocr": "segmentation",
    "classification": "classification",
}
NAMED = 4  # tensors that a message names before it only counts
PLACES = ("backbone.body.", "backbone.", "head.")  # of our networks, before the official names


def load(file: Path, chosen: Settings, device: torch.device) -> Loaded:
    """The network of a released checkpoint, head included, its architecture read off keys and shapes.

    Raises:
        DataError: no such file, one that holds code, or no network with a head that a task reads.
    """
    given = chosen["network"]
    knobs = reading(given)
    if own := recipe_of(file):
        return _own(file, _ruled(own, chosen["task"]), given, device)
    try:
        net = from_checkpoint(file, family=knobs.family, entry=knobs.entry)
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error)) from None
    kind = net.kind
    if kind not in HEADS:
        head = f"a head for {kind}" if kind else "no head that is known"
        wanted = "heatmaps of joints, maps of classes or classes of images"
        raise DataError(f"{file}: has {head}; wanted {wanted} ({net.family or 'a body'})")
    # microsoft/human-pose-estimation.pytorch feeds pictures as OpenCV reads them, with RGB's mean and deviation.
    swapped = net.family == "pose" and isinstance(net.config, SimpleBaselineConfig) and "colours" not in given
    if swapped:
        knobs = reading({**given, "colours": "bgr", "mean": MEAN_OF_RGB[::-1], "std": STD_OF_RGB[::-1]})
    subject = Subject(kind="checkpoint", file=file.name, sha256=digest(file), network=said(net), read=knobs.changed)
    notes = ["its official code feeds BGR pictures, so they are fed here; network.colours=rgb feeds the other order"]
    return Loaded(
        subject,
        runner(net, device, task=HEADS[kind]),
        knobs,
        task=HEADS[kind],
        size=None,
        outputs=net.outputs,
        knobs={"align_corners": True} if net.family == "ocr" else {},
        notes=tuple(notes if swapped else ()),
    )


MEAN_OF_RGB, STD_OF_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # used on B, G, R in that order


def of_arm(recipe: Recipe, file: Path, chosen: Settings, device: torch.device) -> Loaded:
    """The network of a recipe with the weights of a file, all of them, the head's included.

    Raises:
        DataError: no such file, one that holds code, or weights of another network.
    """
    knobs = reading(chosen["network"])
    net = build(_ruled(recipe, chosen["task"]))
    try:
        state = whole_state(net, read(file))
        net.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{file}: {error}" if str(file) not in str(error) else str(error)) from None
    name = f"{recipe.model.name} with {sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters"
    subject = Subject(kind="arm", file=file.name, sha256=digest(file), network=name, read=knobs.changed)
    run, names = runner(net, device, task=recipe.task.name), _names(recipe)
    return Loaded(subject, run, knobs, task=recipe.task.name, outputs=len(names) or None, names=names)


def _names(recipe: Recipe) -> tuple[str, ...]:
    """Of a detector's classes."""
    return tuple(build_dataset(recipe.dataset).info.things or ()) if recipe.task.name in FINDS else ()


def _ruled(recipe: Recipe, task: dict[str, object]) -> Recipe:
    """The same, and where the network applies the task's rules itself, with those that are asked for."""
    if recipe.task.name not in FINDS:
        return recipe
    part = recipe.task.model_copy(update={"knobs": recipe.task.knobs | task})
    return recipe.model_copy(update={"task": part.filled("task")})


def _own(file: Path, recipe: Recipe, given: dict[str, object], device: torch.device) -> Loaded:
    """A network that `ablate export` wrote; its task's knobs go with it."""
    net = unpacked(file, recipe)
    assert net is not None  # it has a recipe
    knobs = reading(given)
    name = f"{recipe.model.name}, trained by ablate, {sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters"
    subject = Subject(kind="checkpoint", file=file.name, sha256=digest(file), network=name, read=knobs.changed)
    own = {knob.name: knob.doc for knob in registry.describe("task", recipe.task.name).knobs}
    of_task = {n: v for n, v in recipe.task.knobs.items() if not own.get(n, "").startswith("augmentation")}
    run, names = runner(net, device, task=recipe.task.name), _names(recipe)
    found = Loaded(subject, run, knobs, task=recipe.task.name, outputs=len(names) or None, names=names)
    return replace(found, knobs=of_task)


def whole(file: Path) -> tuple[nn.Module, tuple[int, int]]:
    """The network of a file, in evaluation mode on the CPU, and the size of images that it is made for.

    Raises:
        DataError: as `load`.
    """
    if recipe := recipe_of(file):
        net = unpacked(file)
        assert net is not None  # it has a recipe
        return net, input_size(recipe)
    try:
        return from_checkpoint(file), (256, 192)
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error)) from None


def official_weights(file: Path) -> bytes:
    """A released checkpoint's tensors as safetensors, by the official names, without what training left beside them.

    Raises:
        DataError: as `load`.
    """
    try:
        state = official_state(file)
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error)) from None
    return bytes(safetensors.torch.save({name: value.contiguous().clone() for name, value in state.items()}))


def runner(net: nn.Module, device: torch.device, *, task: str) -> "Module":
    """Runs a network of torch on the device."""
    return Module(net.eval().to(device), device, every=task in (*SEVERAL, *FINDS))


class Module:
    """Pictures (B, 3, H, W), and what the head takes besides -> the last output, the main one, or every one."""

    def __init__(self, net: nn.Module, device: torch.device, *, every: bool = False) -> None:
        self.net, self.device, self.every = net, device, every

    def __call__(self, pictures: Tensor, *given: Tensor) -> dict[str, Tensor]:
        outputs = self.net(pictures.to(self.device), *(one.to(self.device) for one in given))
        if self.every:
            return {f"output {place}": output for place, output in enumerate(outputs)}
        return {"maps": outputs[-1] if isinstance(outputs, list | tuple) else outputs}


def said(net: Pretrained) -> str:
    """What a released checkpoint is, in words."""
    config, millions = net.config, sum(p.numel() for p in net.parameters()) / 1e6
    what = f"SimpleBaseline, ResNet-{config.depth}" if isinstance(config, SimpleBaselineConfig) else f"W{config.width}"
    name = what if what.startswith("Simple") else f"HRNet {what}"
    return f"{name} with a {net.kind} head of {net.outputs} outputs, {millions:.1f} M parameters ({net.family})"


def whole_state(net: nn.Module, source: Mapping[str, object]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by the names of a network of ours: its own names, or the official ones.

    Raises:
        ValueError: some are missing, left over, or of another shape.
    """
    wanted = net.state_dict()
    tensors = {re.sub(r"^module\.", "", str(k)): v for k, v in source.items() if isinstance(v, Tensor)}
    if not set(tensors) & set(wanted):
        official = official_state(source)
        tensors = {name: official[short] for name in wanted if (short := _short(name)) in official}
        left = set(official) - {_short(name) for name in wanted}
    else:
        left = set(tensors) - set(wanted)
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    wrong = [name for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape]
    left = {name for name in left if not name.endswith("num_batches_tracked")}
    for what, names in (("missing", missing), ("of another shape", wrong), ("left over", sorted(left))):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            raise ValueError(f"weights of another network: {what}: {', '.join(names[:NAMED])}{more}")
    return {name: tensors.get(name, value) for name, value in wanted.items()}


def _short(name: str) -> str:
    return next((name.removeprefix(place) for place in PLACES if name.startswith(place)), name)
