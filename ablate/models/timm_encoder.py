"""Any encoder of timm, or a Mix Transformer of segmentation_models_pytorch, at any width, as a list of maps.

The shelf's networks with a decoder build their encoders here too: `Encoder.levels` is what the decoders of
segmentation_models_pytorch read. Raising this file's `meaning` therefore asks for raising theirs.
"""

import inspect
from itertools import chain
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ablate.errors import PartError, nearest
from ablate.registry import model

MIX_TRANSFORMERS = tuple(f"mit_b{size}" for size in range(6))  # not in timm
PYRAMID = (4, 8, 16, 32)  # strides that decoders expect of a transformer
# What timm, torch and our own checks raise where an architecture does not take an argument.
REFUSALS = (AssertionError, AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


class Encoder(nn.Module):
    """images (B, 3, H, W) -> maps, finest first; `channels` and `strides` say what each map is.

    `levels` gives the same maps as segmentation_models_pytorch's decoders take them: place i has stride 2**i (or the
    output stride of a dilated network); place 0 is the image unless a map has its size, and a place that the
    encoder skips has no channels. `level_channels` counts the channels of these places.
    """

    def __init__(self, network: nn.Module, channels: list[int], strides: list[int], *, resized: bool) -> None:
        super().__init__()
        self.model = network  # the name that segmentation_models_pytorch gives it, so that weights fit
        self.channels = tuple(channels)
        self.strides = PYRAMID if resized else tuple(strides)
        self.resized = resized
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        skipped = self.strides[0].bit_length() - 1  # places between the image and the first map, the image's included
        self.level_channels = [3, *[0] * (skipped - 1), *channels] if skipped else list(channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = list(self.model(images)[-len(self.channels) :])
        if self.channels_last:
            maps = [tensor.permute(0, 3, 1, 2).contiguous() for tensor in maps]  # (B, C, H, W)
        if self.resized:
            sizes = [[length // stride for length in images.shape[2:]] for stride in PYRAMID]
            maps = [F.interpolate(tensor, size, mode="bilinear") for tensor, size in zip(maps, sizes, strict=True)]
        return maps

    def levels(self, images: Tensor) -> list[Tensor]:
        """images (B, 3, H, W) -> as many maps as `level_channels` has places, finest first."""
        maps = self(images)
        sizes = [[length >> place for length in images.shape[2:]] for place in range(len(self.level_channels))]
        missing = len(self.level_channels) - len(maps)
        empty = [images.new_empty(len(images), 0, *size) for size in sizes[1:missing]]
        return [images, *empty, *maps] if missing else maps


@model("timm_encoder", meaning=1, imagenet="timm (huggingface.co/timm), under the encoder's name; mit_b*: smp-hub")
def timm_encoder(
    *,
    encoder: str = "convnext_tiny",  # a name of timm's, with or without `tu-` before it, or mit_b0 to mit_b5
    width: float = 1.0,  # times the published channel counts; transformers keep their number of heads
    output_stride: Literal[8, 16, 32] = 32,  # below 32: later stages are dilated instead (DeepLabv3, sec. 3.1)
    image_size: tuple[int, int] | None = None,  # height and width, for the few encoders that must know them
    pyramid: bool = False,  # maps at strides up to 32 for a decoder; those of a plain ViT are resized to 4, 8, 16, 32
) -> Encoder:
    """An encoder of timm without a decoder: residual networks, ConvNeXt, Swin, ViT and hundreds more."""
    name = encoder.removeprefix("tu-")
    known = {*timm.list_models(), *MIX_TRANSFORMERS}
    if name not in known:
        raise PartError(f"encoder: timm has no {encoder!r}; {nearest(name, known)}")
    if width <= 0:
        raise PartError(f"width: must be above 0, not {width}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # position embeddings and the like, which no layer can draw again: alike in every build
        if name in MIX_TRANSFORMERS:
            return _mix_transformer(name, width, output_stride)
        return _of_timm(name, width, output_stride, image_size, pyramid)


def _of_timm(name: str, width: float, output_stride: int, image_size: Any, pyramid: bool) -> Encoder:
    with torch.device("meta"):
        plain = timm.create_model(name)  # tells the class, whose arguments differ from family to family
        published = timm.create_model(name, features_only=True).feature_info
    accepted = inspect.signature(type(plain).__init__).parameters
    single = len(set(published.reduction())) == 1  # a plain ViT
    if pyramid and not single and published.reduction()[-5:] not in ([2, *PYRAMID], [*PYRAMID]):
        raise PartError(f"encoder: {name!r} has strides {published.reduction()}; a decoder needs 4, 8, 16 and 32")
    options: dict[str, Any] = {"img_size": image_size} if image_size is not None else {}
    options |= {"output_stride": output_stride} if output_stride != 32 else {}
    options |= {option: True for option in ("dynamic_img_size", "dynamic_img_pad") if option in accepted}
    if single:  # its last map alone, or one after each quarter of its blocks
        blocks = len(published)
        options["out_indices"] = [blocks * quarter // 4 - 1 for quarter in (1, 2, 3, 4)] if pyramid else [blocks - 1]
    widths = _widths_of_transformer(plain, published.channels(), width)
    try:
        network = timm.create_model(name, features_only=True, **options, **widths)
        channels = network.feature_info.channels()
        if width != 1 and not widths:
            _scale(network, width)
            channels = [_scaled(count, width) for count in channels]
        attends = any(isinstance(layer, nn.Linear) for layer in network.modules())
        if width != 1 or (attends and "dynamic_img_size" not in accepted):
            _try_out(network, image_size or (448, 224))  # whole patches of 14 and 16, whole windows of 7 and 8
    except REFUSALS as error:
        changed = {"width": width != 1, "output_stride": output_stride != 32, "image_size": image_size is not None}
        knob = next((knob for knob, is_changed in changed.items() if is_changed), "encoder")
        raise PartError(f"{knob}: {name!r} cannot be built so: {error}") from None
    return Encoder(network, channels, network.feature_info.reduction(), resized=single and pyramid)


def _widths_of_transformer(plain: nn.Module, channels: list[int], width: float) -> dict[str, Any]:
    """The argument that sets a network's channels, where its class takes one and they are to change."""
    accepted = inspect.signature(type(plain).__init__).parameters
    word = next((word for word in ("dims", "embed_dims", "embed_dim") if word in accepted), None)
    if width == 1 or word is None:
        return {}
    widths = [_scaled(count, width, heads=_heads(plain, count)) for count in channels]
    return {word: tuple(widths) if isinstance(accepted[word].default, tuple | list) else widths[0]}


def _mix_transformer(name: str, width: float, output_stride: int) -> Encoder:
    from segmentation_models_pytorch.encoders.mix_transformer import mix_transformer_encoders  # seconds to import

    if output_stride != 32:
        raise PartError(f"output_stride: {name!r} has 32 and cannot be dilated, not {output_stride}")
    entry = mix_transformer_encoders[name]
    pairs = zip(entry["params"]["embed_dims"], entry["params"]["num_heads"], strict=True)
    widths = [_scaled(channels, width, heads=heads) for channels, heads in pairs]
    with _RealRates():
        network = entry["encoder"](**entry["params"] | {"embed_dims": widths, "out_channels": [3, 0, *widths]})
    return Encoder(network, widths, list(PYRAMID), resized=False)


def _scaled(channels: int, width: float, *, heads: int = 1) -> int:
    """A channel count times `width`, rounded to a multiple of the attention heads."""
    return heads * max(1, round(channels / heads * width))


def _heads(network: nn.Module, channels: int) -> int:
    """How many attention heads the blocks with this many channels have; 1 without attention."""
    for block in network.modules():
        if isinstance(heads := getattr(block, "num_heads", None), int):
            first = next((layer for layer in block.modules() if isinstance(layer, nn.Linear)), None)
            if first is not None and first.in_features == channels:
                return heads
    return 1


def _scale(network: nn.Module, width: float) -> None:
    """Give every convolution and batch normalisation of a network `width` times its channels, the image's aside.

    Raises:
        ValueError: the network has other layers with parameters.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups in (1, layer.in_channels):
            inputs = layer.in_channels if layer.in_channels == 3 else _scaled(layer.in_channels, width)
            layer.groups = inputs if layer.groups > 1 else 1
            layer.in_channels, layer.out_channels = inputs, _scaled(layer.out_channels, width)
            shape = (layer.out_channels, inputs // layer.groups, *layer.kernel_size)
            layer.weight = nn.Parameter(layer.weight.new_empty(shape))
            if layer.bias is not None:
                layer.bias = nn.Parameter(layer.bias.new_empty(layer.out_channels))
            layer.reset_parameters()
        elif isinstance(layer, nn.BatchNorm2d):
            layer.num_features = _scaled(layer.num_features, width)
            for tensor in chain(layer.parameters(), layer.buffers()):
                if tensor.dim():  # the count of batches has none
                    tensor.data = tensor.new_empty(layer.num_features)
            layer.reset_parameters()
        elif any(True for _ in layer.parameters(recurse=False)):
            raise ValueError(f"{type(layer).__name__} of {getattr(layer, 'groups', 1)} group(s) cannot be scaled")


def _try_out(network: nn.Module, size: tuple[int, int]) -> None:
    """Run a network on the meta device. Raises ValueError where channel counts or the image's size do not fit."""
    tensors = {name: t.to("meta") for name, t in chain(network.named_parameters(), network.named_buffers())}
    try:
        torch.func.functional_call(network, tensors, torch.empty(2, 3, *size, device="meta"))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"it does not run on images of {size[0]}x{size[1]} ({error})") from None


class _RealRates(TorchFunctionMode):
    """Keeps `linspace` off the meta device: smp's Mix Transformers compute drop-path rates with it, as numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"device": "cpu"} if func is torch.linspace else kwargs))
