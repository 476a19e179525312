"""What every model on the shelf promises: maps as announced, gradients, a state dict that round-trips, strict knobs."""

import pytest
import torch

from ablate import registry
from ablate.errors import PartError

SMALL = {"hrnet": {"width": 4, "blocks": 1, "stage1_blocks": 1, "stage1_planes": 4}}
SIZES = [(64, 48), (96, 128)]


@pytest.fixture(params=registry.names("model"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str, **knobs: object) -> torch.nn.Module:
    return registry.build("model", name, registry.check_knobs("model", name, {**SMALL.get(name, {}), **knobs}))


@pytest.mark.parametrize("size", SIZES)
def test_maps_have_the_announced_channels_and_strides_finest_first(name: str, size: tuple[int, int]) -> None:
    backbone = build(name).eval()
    maps = backbone(torch.zeros(2, 3, *size))
    assert len(maps) == len(backbone.channels) == len(backbone.strides)
    for tensor, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert tensor.shape == (2, channels, size[0] // stride, size[1] // stride)
    assert list(backbone.strides) == sorted(backbone.strides)


def test_every_parameter_gets_a_gradient(name: str) -> None:
    backbone = build(name)
    sum(tensor.square().sum() for tensor in backbone(torch.rand(2, 3, 64, 64))).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_a_state_dict_brings_the_same_outputs_back(name: str) -> None:
    first, second = build(name).eval(), build(name).eval()
    second.load_state_dict(first.state_dict())
    images = torch.rand(1, 3, 64, 64)
    for a, b in zip(first(images), second(images), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_knob_is_refused_with_the_nearest_name(name: str) -> None:
    knob = registry.describe("model", name).knobs[0].name
    with pytest.raises(PartError, match=f"did you mean '{knob}'"):
        registry.check_knobs("model", name, {knob[:-1]: 1})


def test_every_knob_says_what_it_is(name: str) -> None:
    assert [knob.name for knob in registry.describe("model", name).knobs if not knob.doc] == []


OUTPUTS = {"v1": (4,), "v1h": (60,), "v2": (60,), "v2p": (256,) * 5, "stream3": (16,)}


@pytest.mark.parametrize(("output", "channels"), OUTPUTS.items())
def test_hrnet_outputs_have_the_papers_widths(output: str, channels: tuple[int, ...]) -> None:
    # PAMI III-C: V1 has C channels, V2 and V1h 15 C, V2p 256 on every level; Fig. 9 reads one stream, here 4 C
    assert tuple(build("hrnet", output=output).channels) == channels
