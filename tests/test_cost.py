"""What networks cost: known numbers, and a count that agrees with hand and with another library."""

import pytest
import torch
from small_studies import write_study
from torch import nn

from ablate import cost, network
from ablate.check import price_arms
from ablate.design import expand
from ablate.errors import StudyError
from ablate.study import load
from ablate.trial import Part, Recipe


def pose(size=(256, 192), **knobs) -> Recipe:
    recipe = Recipe(
        task=Part(name="pose", knobs={"size": list(size)}), dataset=Part(name="coco_pose"),
        model=Part(name="hrnet", knobs=knobs),
    )  # fmt: skip
    return recipe.settled(on_gpu=False)


@pytest.mark.parametrize(
    ("width", "size", "parameters", "gflops"),
    [
        # parameters: the official models; GFLOPs: CVPR 2019, Table 1, as the papers print them
        (32, (256, 192), 28_536_113, 7.10),
        (48, (256, 192), 63_595_745, 14.6),
        (32, (384, 288), 28_536_113, 16.0),
        (48, (384, 288), 63_595_745, 32.9),
    ],
)
def test_the_papers_networks(width, size, parameters, gflops):
    found = cost.price(pose(size, width=width))
    assert found.parameters == parameters
    assert found.macs / 2**30 == pytest.approx(gflops, rel=0.01)
    assert found.used_parameters == found.parameters


def test_a_count_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10))
    macs, uncounted = cost.count(net, torch.rand(1, 3, 8, 8))
    assert macs == 4 * 4 * 8 * 27 + 128 * 10
    assert uncounted == ["relu"]


def test_grouped_and_transposed_convolutions_by_hand():
    grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
    assert cost.count(grouped, torch.rand(1, 8, 5, 5))[0] == 25 * 8 * 2 * 9
    transposed = nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False)
    assert cost.count(transposed, torch.rand(1, 8, 5, 5))[0] == 25 * 8 * 4 * 4  # every input pixel, every weight


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # fvcore's own, on import and on tracing
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Converting a tensor:torch.jit.TracerWarning")
def test_the_count_agrees_with_fvcore():
    from fvcore.nn import FlopCountAnalysis

    recipe = pose((64, 64), width=8, blocks=1)
    net = network.build(recipe).eval()
    images = torch.rand(1, 3, 64, 64)
    analysis = FlopCountAnalysis(net, images).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = analysis.by_operator()  # fvcore's flop is our multiply-add
    assert cost.price(recipe).macs == by_operator["conv"] + by_operator["linear"]


def test_streams_that_nothing_reads_are_not_used():
    """With only the last fusion gone the coarse streams still feed nothing of V1's finest map."""
    whole = cost.price(pose((64, 64), width=8, fusions="within"))
    none = cost.price(pose((64, 64), width=8, fusions=[]))
    assert whole.used_parameters == whole.parameters
    assert none.used_parameters < none.parameters


def test_counting_leaves_the_network_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    cost.used_parameters(net, torch.rand(1, 3, 8, 8))
    assert not net.training
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.usefixtures("small_shelf")
def test_an_impossible_network_is_one_line_with_its_arm(tmp_path):
    factors = {"width": {"at": "model.width", "levels": [4, 5]}}
    trials = expand(load(write_study(tmp_path, factors=factors, seeds=1)))
    with pytest.raises(StudyError, match=r"recipe\.model: arm width=5: width: 5 is odd"):
        price_arms(trials)


def test_knobs_that_do_not_go_together_are_one_line(tmp_path):
    recipe = {
        "task": {"name": "pose", "size": [64, 64]}, "dataset": "figures", "train": {"preset": "pose"},
        "model": {"name": "hrnet", "width": 8, "blocks": 1, "modules": [1, 1, 1]},
    }  # fmt: skip
    for knob, levels in (("widths", [None, [8, 16]]), ("fusions", ["within", "witin"]), ("streams", [4, 7])):
        factors = {"f": {"at": f"model.{knob}", "levels": {"a": levels[0], "b": levels[1]}}}
        study = write_study(tmp_path, recipe=recipe, factors=factors, metrics=["AP"], seeds=1, plugins=[])
        with pytest.raises(StudyError) as caught:
            price_arms(expand(load(study)))
        assert str(caught.value).startswith(f"recipe.model: arm f=b: {knob}: ")
        assert "\n" not in str(caught.value)


def test_an_input_too_small_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"\d+"):
        cost.price(pose((16, 16), width=8))
