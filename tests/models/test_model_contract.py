"""What every model on the shelf promises: maps as announced, gradients, a state dict that round-trips, strict knobs."""

import re

import pytest
import torch

from ablate import registry
from ablate.errors import PartError
from hrnet_core import neck

# Knobs that make a network small enough to try, by name; a model that is not here is tried as it comes.
SMALL = {
    "cpn": {"width": 4},
    "deeplabv3": {"encoder": "resnet18", "width": 0.125},
    "deeplabv3plus": {"encoder": "resnet18", "width": 0.125},
    "dilated_resnet": {"encoder": "resnet50", "width": 0.125},
    "fabrics": {"width": 4, "layers": 3, "scales": 3},
    "fpn": {"encoder": "resnet18", "width": 0.125},
    "gridnet": {"width": 4, "rows": 3},
    "hourglass": {"stages": 2, "width": 16},
    "hrformer": {"width": 4, "modules": (1, 1, 1), "stage1_blocks": 1},
    "hrnet": {"width": 4, "blocks": 1, "stage1_blocks": 1, "stage1_planes": 4},
    "lite_hrnet": {"width": 8, "modules": (1, 1, 1)},
    "pspnet": {"encoder": "resnet18", "width": 0.125},
    "resnet": {"depth": 18},
    "segformer": {"width": 0.25},
    "segnet": {"width": 4.0},
    "simple_baseline": {"depth": 18, "width": 4, "deconv_widths": (8, 8, 8)},
    "timm_encoder": {"encoder": "resnet18", "width": 0.25},
    "unet": {"width": 4.0},
    "unetpp": {"encoder": "resnet18", "width": 0.125},
    "upernet": {"encoder": "resnet18", "width": 0.125},
    "vgg": {"depth": 11},
}
SIZES = [(64, 96), (128, 64)]  # multiples of 32, the coarsest stride of most


@pytest.fixture(params=registry.names("model"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str, **knobs: object) -> torch.nn.Module:
    return registry.build("model", name, registry.check_knobs("model", name, {**SMALL.get(name, {}), **knobs}))


def announced(backbone: torch.nn.Module, size: tuple[int, int], images: int = 2) -> list[tuple[int, ...]]:
    """The shapes of the maps that `channels` and `strides` promise."""
    kinds = zip(backbone.channels, backbone.strides, strict=True)
    return [(images, channels, size[0] // stride, size[1] // stride) for channels, stride in kinds]


@pytest.mark.parametrize("size", SIZES)
def test_maps_have_the_announced_channels_and_strides_finest_first(name: str, size: tuple[int, int]) -> None:
    backbone = build(name).eval()
    shapes = announced(backbone, size)
    with torch.no_grad():
        found = [tuple(tensor.shape) for tensor in backbone(torch.zeros(2, 3, *size))]
    predicting = [shape for place, shape in enumerate(shapes) if place not in getattr(backbone, "intermediate", ())]
    assert found in (shapes, predicting)  # maps that only training supervises may stay out of evaluation
    assert list(backbone.strides) == sorted(backbone.strides)


@pytest.mark.parametrize("size", [(64, 48), (72, 88)])
def test_a_pixel_of_the_finest_map_stays_its_stride_at_sizes_that_are_no_multiples(
    name: str, size: tuple[int, int]
) -> None:
    """Else joints and labels lie between pixels that the network saw elsewhere, and it hardly learns."""
    backbone = build(name).eval()
    stride = backbone.strides[0]
    with torch.no_grad():
        found = tuple(backbone(torch.zeros(1, 3, *size))[0].shape[2:])
    rounded = tuple(-(-length // stride) for length in size)
    assert found in (rounded, tuple(length // stride for length in size))


def test_training_gives_all_maps_and_every_parameter_a_gradient(name: str) -> None:
    backbone = build(name).train()
    maps = backbone(torch.rand(2, 3, 64, 64))
    assert [tuple(tensor.shape) for tensor in maps] == announced(backbone, (64, 64))
    sum(tensor.square().sum() for tensor in maps).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_intermediate_places_are_maps_beside_the_first_which_predicts(name: str) -> None:
    backbone = build(name)
    places = list(getattr(backbone, "intermediate", ()))
    assert places == sorted(set(places) & set(range(1, len(backbone.channels))))


def test_a_state_dict_brings_the_same_outputs_back(name: str) -> None:
    first, second = build(name).eval(), build(name).eval()
    second.load_state_dict(first.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(first(images), second(images), strict=True):
            assert torch.equal(a, b)


def test_it_is_built_and_run_without_memory_for_its_weights(name: str) -> None:
    """Costs are counted there; the knobs keep their defaults, for it is published networks that are counted."""
    with torch.device("meta"):
        backbone = registry.build("model", name, registry.check_knobs("model", name, {})).eval()
        maps = backbone(torch.empty(1, 3, 64, 64))
    assert {parameter.device.type for parameter in backbone.parameters()} == {"meta"}
    assert tuple(maps[0].shape) == announced(backbone, (64, 64), images=1)[0]


def test_an_unknown_knob_is_refused_with_the_nearest_name(name: str) -> None:
    knob = registry.describe("model", name).knobs[0].name
    with pytest.raises(PartError, match=f"did you mean '{knob}'"):
        registry.check_knobs("model", name, {knob[:-1]: 1})


def test_every_knob_says_what_it_is(name: str) -> None:
    assert [knob.name for knob in registry.describe("model", name).knobs if not knob.doc] == []


def test_its_description_says_where_imagenet_weights_are_if_there_are_any(name: str) -> None:
    where = registry.describe("model", name).facts.get("imagenet", "nowhere")
    assert isinstance(where, str)
    assert where.strip()


OUTPUTS = {"v1": (4,), "v1h": (60,), "v2": (60,), "v2p": (256,) * 5, "streams": (4, 8, 16, 32), "stream3": (16,)}


@pytest.mark.parametrize(("output", "channels"), OUTPUTS.items())
def test_hrnet_outputs_have_the_papers_widths(output: str, channels: tuple[int, ...]) -> None:
    # PAMI III-C: V1 has C channels, V2 and V1h 15 C, V2p 256 on every level; Fig. 9 reads one stream, here 4 C
    assert tuple(build("hrnet", output=output).channels) == channels


def test_a_narrower_pyramid_has_the_channels_asked_for_and_its_cost() -> None:
    wide, narrow = (build("hrnet", output="v2p", **knobs) for knobs in ({}, {"pyramid_width": 32}))
    assert tuple(narrow.channels) == (32,) * 5
    # 60 channels of all streams to the pyramid's, then a 3x3 convolution a level, both with a bias
    weights = [width * (60 + 1) + 5 * width * (9 * width + 1) for width in (256, 32)]
    assert parameters(wide.neck) - parameters(narrow.neck) == weights[0] - weights[1]
    assert parameters(wide.body) == parameters(narrow.body)


@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        ({"output": "v2p", "pyramid_width": 0}, "pyramid_width: 0 is not a whole number from 1 on"),
        ({"output": "v2p", "pyramid_width": -4}, "pyramid_width: -4 is not a whole number from 1 on"),
        ({"output": "v2", "pyramid_width": 64}, "pyramid_width: 64 needs output='v2p', not 'v2'"),
        ({"pyramid_stride": 2}, "pyramid_stride: 2 needs output='v2p', not 'v1'"),
    ],
)
def test_a_pyramid_that_cannot_be_is_one_line(knobs, line) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        build("hrnet", **knobs)
    with pytest.raises(ValueError, match=r"^out_channels: 0 is not a whole number from 1 on$"):
        neck("v2p", channels=(4, 8), strides=(4, 8), out_channels=0)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
