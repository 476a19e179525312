"""ONNX networks of a few layers that read painted pictures: a map for each colour, high where the picture has it."""

from pathlib import Path

import numpy as np
import onnx
import painted
from onnx import TensorProto, helper, numpy_helper

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def write(
    file: Path, colours: np.ndarray, *, size=("h", "w"), batch="n", stride=1, white=1.0, normalised=True, bgr=False,
    layout="nchw", kind=TensorProto.FLOAT, sharp=8.0, ends="maps", name="data", relu=True,
) -> Path:  # fmt: skip
    """A network whose maps (N, C, h, w) are 1 where a pixel has a colour and fall with the squared distance from it.

    `ends`: maps, nhwc, classes (the place of the highest, int64), twice (two outputs that fit), one (of two colours the
    second's probability).
    """
    order = slice(None, None, -1) if bgr else slice(None)
    mean, std = (MEAN[order], STD[order]) if normalised else (np.zeros(3), np.ones(3))
    wanted = colours[:, order] / 255
    nodes, constants, count = [], {}, len(colours)

    def constant(label, values):
        constants[label] = numpy_helper.from_array(np.asarray(values, np.float32), label)
        return label

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    found = node("Cast", [name], "cast", to=TensorProto.FLOAT)
    if layout == "nhwc":
        found = node("Transpose", [found], "turned", perm=[0, 3, 1, 2])
    found = node("Mul", [found, constant("std", std.reshape(1, 3, 1, 1))], "spread")
    found = node("Add", [found, constant("mean", white * mean.reshape(1, 3, 1, 1))], "raw")
    found = node("Div", [found, constant("white", white)], "unit")
    near = node(
        "Conv", [found, constant("w", 2 * wanted[:, :, None, None]), constant("b", -(wanted**2).sum(1))], "near"
    )
    square = node("Mul", [found, found], "square")
    own = node("Conv", [square, constant("ones", np.ones((count, 3, 1, 1)))], "own")
    close = node("Sub", [near, own], "close")
    close = node("Mul", [close, constant("sharp", sharp)], "sharpened")
    maps = node("Add", [close, constant("one", 1.0)], "lifted")
    maps = node("Relu", [maps], "rectified") if relu else maps
    if stride > 1:
        maps = node("AveragePool", [maps], "pooled", kernel_shape=[stride] * 2, strides=[stride] * 2, ceil_mode=1)
    outputs = {"maps": (maps, TensorProto.FLOAT)}
    if ends == "nhwc":
        outputs = {"maps": (node("Transpose", [maps], "last", perm=[0, 2, 3, 1]), TensorProto.FLOAT)}
    elif ends == "classes":
        outputs = {"maps": (node("ArgMax", [maps], "which", axis=1, keepdims=0), TensorProto.INT64)}
    elif ends == "twice":
        outputs |= {"again": (node("Neg", [maps], "negative"), TensorProto.FLOAT)}
    elif ends == "one":
        soft = node("Softmax", [maps], "soft", axis=1)
        second = node("Slice", [soft, "from", "to", "axis"], "second")
        for label, value in (("from", 1), ("to", 2), ("axis", 1)):
            constants[label] = numpy_helper.from_array(np.array([value], np.int64), label)
        outputs = {"maps": (second, TensorProto.FLOAT)}
    shape = [batch, 3, *size] if layout == "nchw" else [batch, *size, 3]
    graph = helper.make_graph(
        nodes,
        "reader",
        [helper.make_tensor_value_info(name, kind, shape)],
        [
            helper.make_tensor_value_info(inner, number, list("nabc"[: 3 if ends == "classes" else 4]))
            for inner, number in outputs.values()
        ],
        list(constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return file


def of_joints(file: Path, **choices) -> Path:
    """A network that finds the painted joints."""
    return write(file, painted.COLOURS[: len(painted.COCO)], **choices)


def of_classes(file: Path, **choices) -> Path:
    """A network that tells the painted classes."""
    return write(file, painted.COLOURS[: len(painted.CLASSES)], **{"relu": False, **choices})
