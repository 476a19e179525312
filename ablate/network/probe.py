"""One tiny pass, forward and backward, through a network with a part from outside, before anything is trained.

It runs on the meta device: shapes and the ways of gradients are real, values are not computed, so it costs as little as
counting does. What breaks a contract is one line with its place in the part's own file. Shipped parts are not tried
here, for tests do that.
"""

import inspect
import operator
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import torch
from torch import Tensor, nn

from ablate import registry
from ablate.datasets import Info, build_dataset
from ablate.errors import PartError
from ablate.models import Backbone, Supervised, build_model
from ablate.network.cost import Size, leaves
from ablate.study import Recipe
from ablate.tasks import Outputs, SomeTask, Task, build_task

IMAGES = 2  # in the batch: one value of a channel has no deviation to normalise by
METHODS = [name for name in vars(Task) if not name.startswith("_")]


def probe(recipe: Recipe) -> None:
    """Try a settled recipe's network, if its model or its task is a plug-in.

    Knobs that do not go together pass: whoever prices the network says so, and names the arm.

    Raises:
        PartError: what a contract asks for and the part does not keep, with the file and the line.
        Exception: whatever the part's own forward raises.
    """
    parts = ("model", recipe.model.name), ("task", recipe.task.name)
    model, task = (part if registry.is_plugin(*part) else None for part in parts)
    if not model and not task:
        return
    try:
        with torch.device("meta"):
            _try_out(recipe, model, task)
    except (ValueError, RuntimeError) as error:
        own = {registry.describe(*part).path.parent for part in (model, task) if part}
        if any(code.co_name == "forward" and Path(code.co_filename).parent in own for code in _codes(error)):
            raise


Part = tuple[str, str]  # the kind and the name


def _codes(error: Exception) -> Iterator[CodeType]:
    return (frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__))


def _try_out(recipe: Recipe, model: Part | None, task: Part | None) -> None:
    backbone, made = build_model(recipe.model), build_task(recipe.task)
    if task:
        _check_methods(task, made)
    info = build_dataset(recipe.dataset).info
    maps = _maps(model, backbone, made.input_size(info, training=True))
    _pass_back(model, task, backbone, *_outputs(task, made, info, backbone, maps))


def _check_methods(task: Part, made: SomeTask) -> None:
    absent = [name for name in METHODS if not callable(getattr(made, name, None))]
    if absent:
        raise _fault(task, type(made), f"it has no {', '.join(absent)}", "all methods of ablate.tasks.Task")


def _maps(model: Part | None, backbone: Backbone, size: Size) -> list[Tensor]:
    """The backbone's maps in training; those of a plug-in are what it promises."""
    if model and not isinstance(backbone, nn.Module):
        raise _fault(model, None, f"its builder gives a {type(backbone).__name__}", "a module of torch")
    assert isinstance(backbone, nn.Module)
    promised = _promised(model, backbone, size) if model else []
    maps: list[Tensor] = backbone.train()(torch.empty(IMAGES, 3, *size))
    if not model:
        return maps
    forward = type(backbone).forward
    if not isinstance(maps, list | tuple) or not all(isinstance(one, Tensor) for one in maps):
        raise _fault(model, forward, f"its forward gives a {type(maps).__name__}", "a list of maps, finest first")
    if len(maps) != len(promised):
        raise _fault(model, forward, f"its forward gives {len(maps)} maps", f"{len(promised)}, as `channels` has")
    for place, (one, (channels, stride)) in enumerate(zip(maps, promised, strict=True)):
        if not _fits(tuple(one.shape), channels, stride, size):
            wanted = (IMAGES, channels, *(side // stride for side in size))
            asked = f"{wanted}, by `channels` and `strides` and images of {tuple(size)}"
            raise _fault(model, forward, f"map {place} of its forward is {tuple(one.shape)}", asked)
    return list(maps)


def _fits(shape: tuple[int, ...], channels: int, stride: int, size: Size) -> bool:
    """Whether a map is of this shape, its sides rounded down or up."""
    sides = [(side // stride, -(-side // stride)) for side in size]
    return (
        len(shape) == 4
        and shape[:2] == (IMAGES, channels)
        and all(least <= side <= most for side, (least, most) in zip(shape[2:], sides, strict=True))
    )


def _promised(model: Part, backbone: nn.Module, size: Size) -> list[tuple[int, int]]:
    """Channels and stride of each map, as the backbone says them."""
    lists = []
    for name, of in (("channels", "the number of channels"), ("strides", "the pixels of the image for one")):
        value: object = getattr(backbone, name, None)
        try:
            lists.append([operator.index(number) for number in value])  # type: ignore[attr-defined]  # TypeError, too
        except TypeError:
            found = f"it has no `{name}`" if value is None else f"its `{name}` is {value!r}"
            raise _fault(model, type(backbone), found, f"a list with {of} of each map, finest first") from None
    channels, strides = lists
    if len(channels) != len(strides) or not channels or min(strides) < 1:
        found = f"its `channels` is {channels} and its `strides` {strides}"
        raise _fault(model, type(backbone), found, "one of each, at least 1, for every map")
    return list(zip(channels, strides, strict=True))


def _outputs(
    task: Part | None, made: SomeTask, info: Info, backbone: Backbone, maps: list[Tensor]
) -> tuple[nn.Module, Outputs]:
    """The task's head and what it gives in training."""
    places = backbone.intermediate if isinstance(backbone, Supervised) else ()
    head = made.head(info, backbone.channels, backbone.strides, intermediate=places)
    if task and not isinstance(head, nn.Module):
        raise _fault(task, type(made).head, f"its head is a {type(head).__name__}", "a module of torch")
    outputs: Outputs = head.train()(maps)
    if task and not _nested(outputs):
        raise _fault(task, type(made).head, f"its head gives a {type(outputs).__name__}", "a tensor or a list of them")
    return head, outputs


def _nested(outputs: object) -> bool:
    """Whether it is tensors, in lists or not."""
    return isinstance(outputs, Tensor) or (isinstance(outputs, list | tuple) and all(map(_nested, outputs)))


def _pass_back(model: Part | None, task: Part | None, backbone: Backbone, head: nn.Module, outputs: Outputs) -> None:
    """Every plug-in of the two that has parameters to train gets a gradient for one of them."""
    ends = [leaf.float().square().mean() for leaf in leaves(outputs) if leaf.requires_grad]
    if ends:
        torch.stack(ends).sum().backward()
    assert isinstance(backbone, nn.Module)
    for part, module, where in ((task, head, type(head).forward), (model, backbone, type(backbone).forward)):
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if part and trained and all(parameter.grad is None for parameter in trained):
            found = f"none of its {len(trained)} parameters gets a gradient in training"
            raise _fault(part, where, found, "one at least, or that none of them asks for one")


def _fault(part: Part, thing: object, found: str, expected: str) -> PartError:
    """The line: where `thing` is written, if that is beside the part's own file, or else where the part is."""
    described = registry.describe(*part)
    file, line = described.path, described.line
    try:
        source = Path(inspect.getsourcefile(thing) or "")  # type: ignore[arg-type]  # what has none is a TypeError
        if source.is_relative_to(file.parent):
            file, line = source, inspect.getsourcelines(thing)[1]  # type: ignore[arg-type]  # as above
    except (OSError, TypeError):
        pass
    return PartError(f"{file}:{line}: {part[0]} {part[1]!r}: {found}; expected: {expected}")
