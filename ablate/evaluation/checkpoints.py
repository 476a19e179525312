"""Networks in checkpoints of torch or safetensors: released ones, told by their keys, and those of a study's arm.

Files are read by the restricted readers alone; one that holds code is refused with the object's name.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from ablate import registry
from ablate.beside import Subject
from ablate.datasets import build_dataset, things
from ablate.errors import DataError
from ablate.evaluation.asked import Settings
from ablate.evaluation.networks import FINDS, SEVERAL, Loaded
from ablate.evaluation.prediction_files import digest
from ablate.evaluation.reading import reading
from ablate.network.build import build
from ablate.network.cost import input_size
from ablate.study import Recipe
from ablate.study.presets import presets
from ablate.tasks import NamedOutputs
from ablate.tasks._detector_files import Held, is_torchvisions, of_mmdetection, of_torchvision
from ablate.training.weights import packed, recipe_of, unpacked
from hrnet_core import Pretrained, SimpleBaselineConfig, from_checkpoint
from hrnet_core.checkpoint import official_state, read
from hrnet_core.necks import V2p

HEADS = {  # whose outputs a task reads
    "heatmap": "pose",
    "bottom_up": "bottom_up_pose",
    "segmentation": "segmentation",
    "ocr": "segmentation",
    "classification": "classification",
}
PROGRAMS = (".onnx", ".pt2")  # files of whole networks that hold no checkpoint
NAMED = 4  # tensors that a message names before it only counts
REDUCTION = r"(^|\.)neck\.reduction_conv\.(0|conv)\."  # of mmdetection's pyramid
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
        source, sha256 = tensors_of(file), digest(file)
        if made := detector(source, sha256, entry=knobs.entry):
            return _detector(file, made, chosen, device)
        net = from_checkpoint(source, family=knobs.family, entry=knobs.entry)
    except (ValueError, RuntimeError) as error:
        raise DataError(_of_file(file, error)) from None
    kind = net.kind
    if kind not in HEADS:
        head = f"a head for {kind}" if kind else "no head that is known"
        wanted = "heatmaps of joints, maps of classes or classes of images"
        raise DataError(f"{file}: has {head}; wanted {wanted} ({net.family or 'a body'})")
    # microsoft/human-pose-estimation.pytorch feeds pictures as OpenCV reads them, with RGB's mean and deviation.
    swapped = net.family == "pose" and isinstance(net.config, SimpleBaselineConfig) and "colours" not in given
    if swapped:
        knobs = reading({**given, "colours": "bgr", "mean": MEAN_OF_RGB[::-1], "std": STD_OF_RGB[::-1]})
    subject = Subject(kind="checkpoint", file=file.name, sha256=sha256, network=said(net), read=knobs.changed)
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


def tensors_of(file: Path) -> Mapping[str, object]:
    """What a checkpoint holds.

    Raises:
        DataError: it is a program.
        ValueError: as `hrnet_core.checkpoint.read`.
    """
    if file.suffix in PROGRAMS:
        raise DataError(f"{file}: holds a program, not weights; evaluate, compare and predict read programs as .onnx")
    return read(file)


def _of_file(file: Path, error: Exception) -> str:
    return str(error) if str(file) in str(error) else f"{file}: {error}"


@dataclass(frozen=True)
class Detector:
    """A detector that others trained, as a network of ours."""

    recipe: Recipe
    state: dict[str, Tensor]  # by our names
    read: dict[str, object]  # knobs of `network.`
    names: tuple[str, ...]  # of its classes
    whose: str

    def network(self, task: Mapping[str, object]) -> nn.Module:
        """With some rules of the task changed. Raises ValueError."""
        recipe = _ruled(self.recipe, task)
        with torch.device("meta"):  # what does not fit takes no memory
            fitting(build(recipe), self.state)
        net = build(recipe)
        net.load_state_dict(fitting(net, self.state))
        return net.eval()


def detector(source: Mapping[str, object], sha256: str = "", *, entry: str | None = None) -> Detector | None:
    """The detector of mmdetection's (on HRNet) or torchvision's that a file holds; None where it holds none.

    Raises:
        ValueError: it holds one, of which something is missing.
    """
    for tensors in _mappings(source):
        if is_torchvisions(tensors):
            held, depth = of_torchvision(tensors, sha256=sha256)
            model = {"name": "resnet", "depth": depth, "pyramid": True}
            names = list(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])[-held.classes :]
            names = [f"{name} {place}" if names.count(name) > 1 else name for place, name in enumerate(names)]
            return _as_ours(held, model, held.state, names if held.classes in (90, 91) else [], "torchvision")
    if not any(re.search(REDUCTION, key) for tensors in _mappings(source) for key in tensors):
        return None
    net = from_checkpoint(source, entry=entry)
    if not isinstance(net.neck, V2p) or not any("_head." in key for key in net.leftover):
        return None
    held = of_mmdetection(net.leftover)
    known = {knob.name for knob in registry.describe("model", "hrnet").knobs}
    model = {name: value for name, value in vars(net.config).items() if name in known}
    model |= {"name": "hrnet", "output": "v2p", "pyramid_stride": net.neck.strides[0] // net.body.strides[0]}
    parts = {"backbone.body.": net.body, "backbone.neck.": net.neck}
    state = {f"{place}{name}": value for place, part in parts.items() for name, value in part.state_dict().items()}
    return _as_ours(held, model, state | held.state, _named(source, held.classes), "mmdetection")


def _mappings(source: Mapping[str, object]) -> Iterator[dict[str, Tensor]]:
    """The tensors of a file, and of the mappings in it, without wrappers' `module.`."""
    for of in (source, *(value for value in source.values() if isinstance(value, Mapping))):
        yield {re.sub(r"^module\.", "", str(key)): value for key, value in of.items() if isinstance(value, Tensor)}


def _as_ours(
    held: Held, model: Mapping[str, object], state: dict[str, Tensor], names: Sequence[str], whose: str
) -> Detector:
    coco = tuple(things()["coco80"])
    names = tuple(names) or (coco if held.classes == len(coco) else tuple(f"class{n}" for n in range(held.classes)))
    document = {
        "task": {"name": "detection"} | held.knobs,
        "dataset": {"name": "coco_instances"} | ({} if names == coco else {"classes": names}),
        "model": model,
        "train": presets()["detection"]["train"],
    }
    recipe = Recipe.model_validate(json.loads(json.dumps(document))).settled(on_gpu=False)
    return Detector(recipe, state, held.read, names, whose)


def _named(source: Mapping[str, object], count: int) -> list[str]:
    """The classes as mmdetection writes them beside the weights."""
    meta = source.get("meta")
    if not isinstance(meta, Mapping):
        return []
    of_set = meta.get("dataset_meta")
    found = (of_set if isinstance(of_set, Mapping) else meta).get("CLASSES") or meta.get("classes")
    names = [str(name) for name in found] if isinstance(found, list | tuple) else []
    return names if len(set(names)) == count else []


def _detector(file: Path, made: Detector, chosen: Settings, device: torch.device) -> Loaded:
    knobs = reading(chosen["network"], **made.read)
    net = made.network(chosen["task"])
    model, task = made.recipe.model, made.recipe.task.knobs
    body = f"HRNet W{model.knobs['width']}" if model.name == "hrnet" else f"ResNet-{model.knobs['depth']}"
    millions = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    name = f"{body}, {task['detector']} of {len(made.names)} classes, {millions:.1f} M parameters ({made.whose})"
    subject = Subject(kind="checkpoint", file=file.name, sha256=digest(file), network=name, read=knobs.changed)
    run = runner(net, device, task="detection")
    found = Loaded(subject, run, knobs, task="detection", outputs=len(made.names), names=made.names)
    bgr = "its official code feeds BGR pictures, so they are fed here; network.colours=rgb feeds the other order"
    return replace(
        found, knobs=_of_task(made.recipe), notes=(bgr,) if made.read and "colours" not in chosen["network"] else ()
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
        state = whole_state(net, tensors_of(file), digest(file))
        net.load_state_dict(state)
    except (ValueError, RuntimeError) as error:
        raise DataError(_of_file(file, error)) from None
    name = f"{recipe.model.name} with {sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters"
    subject = Subject(kind="arm", file=file.name, sha256=digest(file), network=name, read=knobs.changed)
    run, names = runner(net, device, task=recipe.task.name), _names(recipe)
    return Loaded(subject, run, knobs, task=recipe.task.name, outputs=len(names) or None, names=names)


def _names(recipe: Recipe) -> tuple[str, ...]:
    """Of a detector's classes."""
    return tuple(build_dataset(recipe.dataset).info.things or ()) if recipe.task.name in FINDS else ()


def _ruled(recipe: Recipe, task: Mapping[str, object]) -> Recipe:
    """The same, and where the network applies the task's rules itself, with those that are asked for."""
    if recipe.task.name not in FINDS:
        return recipe
    part = recipe.task.model_copy(update={"knobs": recipe.task.knobs | dict(task)})
    return recipe.model_copy(update={"task": part.filled("task")})


def _own(file: Path, recipe: Recipe, given: dict[str, object], device: torch.device) -> Loaded:
    """A network that `ablate export` wrote; its task's knobs go with it."""
    net, knobs = _rebuilt(file, recipe), reading(given)
    name = f"{recipe.model.name}, trained by ablate, {sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters"
    subject = Subject(kind="checkpoint", file=file.name, sha256=digest(file), network=name, read=knobs.changed)
    run, names = runner(net, device, task=recipe.task.name), _names(recipe)
    found = Loaded(subject, run, knobs, task=recipe.task.name, outputs=len(names) or None, names=names)
    return replace(found, knobs=_of_task(recipe))


def _rebuilt(file: Path, recipe: Recipe) -> nn.Module:
    """The network of a file with its recipe. Raises DataError, also where a part is of a plug-in that nobody named."""
    for kind, part in (("model", recipe.model), ("task", recipe.task), ("dataset", recipe.dataset)):
        if part.name not in registry.names(kind):
            raise DataError(f"{file}: is of the {kind} {part.name!r}, which is not here; --plugin names its file")
    net = unpacked(file, recipe)
    assert net is not None  # it has a recipe
    return net


def _of_task(recipe: Recipe) -> dict[str, object]:
    """The knobs of the task that go with a network: all but augmentation's."""
    docs = {knob.name: knob.doc for knob in registry.describe("task", recipe.task.name).knobs}
    return {n: v for n, v in recipe.task.knobs.items() if not docs.get(n, "").startswith("augmentation")}


def whole(file: Path) -> tuple[nn.Module, tuple[int, int]]:
    """The network of a file, in evaluation mode on the CPU, and the size of images that it is made for.

    Raises:
        DataError: as `load`.
    """
    if recipe := recipe_of(file):
        return _rebuilt(file, recipe), input_size(recipe)
    try:
        source = tensors_of(file)
        if made := detector(source, digest(file)):
            return made.network({}), input_size(made.recipe)
        return from_checkpoint(source), (256, 192)
    except (ValueError, RuntimeError) as error:
        raise DataError(_of_file(file, error)) from None


def official_weights(file: Path) -> bytes:
    """A released checkpoint's tensors as safetensors, by the official names, without what training left beside them.

    Of a detector by our names, with its recipe, which says what it is; a file of ours stays as it is.

    Raises:
        DataError: as `load`.
    """
    if recipe_of(file):
        return file.read_bytes()
    try:
        source = tensors_of(file)
        if made := detector(source, digest(file)):
            return packed(made.network({}), trial_id="", recipe=made.recipe)
        state = official_state(source)
    except (ValueError, RuntimeError) as error:
        raise DataError(_of_file(file, error)) from None
    return bytes(safetensors.torch.save({name: value.contiguous().clone() for name, value in state.items()}))


def runner(net: nn.Module, device: torch.device, *, task: str) -> "Module":
    """Runs a network of torch on the device."""
    return Module(net.eval().to(device), device, every=task in (*SEVERAL, *FINDS))


class Module:
    """Pictures (B, 3, H, W), and what the head takes besides -> the last output, the main one, or every one."""

    def __init__(self, net: nn.Module, device: torch.device, *, every: bool = False) -> None:
        self.net, self.device, self.every = net, device, every
        head = getattr(net, "head", None)
        self.names = head.output_names if isinstance(head, NamedOutputs) else None

    def __call__(self, pictures: Tensor, *given: Tensor) -> dict[str, Tensor]:
        outputs = self.net(pictures.to(self.device), *(one.to(self.device) for one in given))
        if self.names:
            return dict(zip(self.names, outputs, strict=True))
        if self.every:
            return {f"output {place}": output for place, output in enumerate(outputs)}
        return {"maps": outputs[-1] if isinstance(outputs, list | tuple) else outputs}


def said(net: Pretrained) -> str:
    """What a released checkpoint is, in words."""
    config, millions = net.config, sum(p.numel() for p in net.parameters()) / 1e6
    what = f"SimpleBaseline, ResNet-{config.depth}" if isinstance(config, SimpleBaselineConfig) else f"W{config.width}"
    name = what if what.startswith("Simple") else f"HRNet {what}"
    return f"{name} with a {net.kind} head of {net.outputs} outputs, {millions:.1f} M parameters ({net.family})"


def whole_state(net: nn.Module, source: Mapping[str, object], sha256: str = "") -> dict[str, Tensor]:
    """The tensors of a checkpoint by the names of a network of ours: its own names, or others' that are known.

    The digest of its file tells those of torchvision's whose norms add nothing to the variance.

    Raises:
        ValueError: some are missing, left over, or of another shape.
    """
    wanted = net.state_dict()
    tensors = {re.sub(r"^module\.", "", str(k)): v for k, v in source.items() if isinstance(v, Tensor)}
    if made := detector(source, sha256):
        return fitting(net, made.state)
    if set(tensors) & set(wanted):
        return fitting(net, tensors)
    official = official_state(source)
    tensors = {name: official[short] for name in wanted if (short := _short(name)) in official}
    return fitting(net, tensors, more=set(official) - {_short(name) for name in wanted})


def fitting(net: nn.Module, tensors: Mapping[str, Tensor], *, more: Iterable[str] = ()) -> dict[str, Tensor]:
    """All tensors of a network by its own names, `more` being the names of others that the file has.

    Raises:
        ValueError: some are missing, left over, or of another shape.
    """
    wanted = net.state_dict()
    left = {*more, *(set(tensors) - set(wanted))}
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
