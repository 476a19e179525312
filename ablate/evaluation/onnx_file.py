"""Networks in ONNX files, run by onnxruntime. The only file that knows it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from ablate.beside import Subject
from ablate.errors import DataError, one_line
from ablate.evaluation.networks import Loaded, Size
from ablate.evaluation.prediction_files import digest
from ablate.evaluation.reading import Reading, reading
from ablate.tasks._simcc import NAMES

KINDS = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
}  # fmt: skip
TAGGED = ("heatmaps_and_tags", "heatmaps")  # outputs of a HigherHRNet, as `hrnet_core` names them
CHANNELS = (1, 3)  # of pictures
QUIET = 3  # onnxruntime's level of its log: errors


def load(file: Path, given: dict[str, object], *, gpu: bool = False) -> Loaded:
    """The network of a file.

    Raises:
        DataError: it is no ONNX file, or its input is no picture (one line that names it).
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    there = onnxruntime.get_available_providers()
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(file, options, providers=[name for name in wanted if name in there])
    except Exception as error:  # onnxruntime's own classes, which share no parent but this
        raise DataError(f"{file}: no ONNX network that onnxruntime reads: {one_line(error)}") from None
    knobs = reading(given)
    picture = _picture(session, file)
    kind = KINDS.get(picture.type)
    if kind is None:
        raise DataError(f"{file}: its input {picture.name} is {picture.type}; wanted one of {', '.join(KINDS)}")
    layout, channels, size = _shape(picture, knobs, file)
    batch = picture.shape[0] if isinstance(picture.shape[0], int) and picture.shape[0] > 0 else None
    names = [output.name for output in session.get_outputs()]

    def run(pictures: Tensor) -> dict[str, Tensor]:
        array = pictures.cpu().numpy()
        array = array.transpose(0, 2, 3, 1) if layout == "nhwc" else array
        parts = [array] if batch is None else [array[i : i + batch] for i in range(0, len(array), batch)]
        found = [_called(session, names, picture.name, part, kind, batch, file) for part in parts]
        return {name: torch.from_numpy(np.concatenate([one[name] for one in found])) for name in names}

    said = f"input {picture.name} {_shown(picture.shape)} {picture.type[7:-1]}, outputs " + ", ".join(
        f"{output.name} {_shown(output.shape)}" for output in session.get_outputs()
    )
    subject = Subject(kind="onnx", file=file.name, sha256=digest(file), network=said, read=knobs.changed)
    if kind is np.uint8:
        knobs = knobs.model_copy(update={"white": 255.0, "mean": (0.0,), "std": (1.0,)})
    found = Loaded(subject, run, knobs, size=size, channels=channels, likely=_likely(session, layout))
    if tuple(names) == TAGGED:
        joints = session.get_outputs()[1].shape[1]
        return replace(found, task="bottom_up_pose", outputs=joints if isinstance(joints, int) else None)
    return replace(found, task="pose", knobs={"head": "simcc"}) if set(NAMES) == set(names) else found


def _picture(session: Any, file: Path) -> Any:
    """The one input, which is a picture."""
    inputs = session.get_inputs()
    pictures = [one for one in inputs if len(one.shape) == 4]
    if len(inputs) != 1 or len(pictures) != 1:
        there = ", ".join(f"{one.name} {_shown(one.shape)}" for one in inputs)
        raise DataError(f"{file}: wanted one input, pictures of four axes; its inputs are {there}")
    return pictures[0]


def _likely(session: Any, layout: str) -> int | None:
    """How many maps its one output of four axes has, where its shape says so."""
    shapes = [output.shape for output in session.get_outputs() if len(output.shape) == 4]
    count = shapes[0][1 if layout == "nchw" else 3] if len(shapes) == 1 else None
    return count if isinstance(count, int) and count > 0 else None


def _shape(picture: Any, knobs: Reading, file: Path) -> tuple[str, int, Size | None]:
    """How the axes of the input lie, how many channels it has, and its size if that is fixed."""
    shape = picture.shape
    fitting = {"nchw": shape[1] in CHANNELS, "nhwc": shape[3] in CHANNELS}
    layout = knobs.layout
    if layout == "auto":
        names = [name for name, fits in fitting.items() if fits]
        if len(names) != 1:
            raise DataError(
                f"{file}: its input {picture.name} {_shown(shape)} does not show where its channels are; "
                "--set network.layout=nchw or nhwc says so"
            )
        layout = names[0]  # type: ignore[assignment]  # one of the two
    place = 1 if layout == "nchw" else 3
    if isinstance(shape[place], int) and shape[place] not in CHANNELS:
        raise DataError(f"{file}: its input {picture.name} {_shown(shape)} has {shape[place]} channels, not 1 or 3")
    sides = [side for axis, side in enumerate(shape) if axis not in (0, place)]
    fixed = all(isinstance(side, int) and side > 0 for side in sides)
    return layout, 1 if shape[place] == 1 else 3, (sides[0], sides[1]) if fixed else None


def _called(
    session: Any, names: list[str], name: str, pictures: np.ndarray, kind: Any, batch: int | None, file: Path
) -> dict[str, np.ndarray]:
    """The outputs for some pictures; fewer than the network takes at once are filled up."""
    count = len(pictures)
    if batch and count < batch:
        pictures = np.concatenate([pictures, np.repeat(pictures[-1:], batch - count, axis=0)])
    if kind is np.uint8:
        pictures = pictures.round().clip(0, 255)
    try:
        found = session.run(names, {name: np.ascontiguousarray(pictures, dtype=kind)})
    except Exception as error:  # as above
        size = " x ".join(map(str, pictures.shape))
        hint = "--set network.multiple=32 or network.size=[H, W] if it takes other sizes"
        raise DataError(f"{file}: does not run on pictures of {size}: {one_line(error)}; {hint}") from None
    return {name: np.asarray(value)[:count] for name, value in zip(names, found, strict=True)}


def _shown(shape: list[Any]) -> str:
    return "x".join("?" if not isinstance(side, int) else str(side) for side in shape)
