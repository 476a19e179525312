"""What networks cost: known numbers, and counts that agree with hand, with torch's own shapes and with fvcore."""

from itertools import accumulate

import pytest
import torch
from small_studies import write_study
from torch import nn
from torch.nn import functional as F

from ablate import registry
from ablate.errors import StudyError
from ablate.machine import origin
from ablate.network import cost, speed
from ablate.network.build import build
from ablate.network.count import Counter
from ablate.planning.arm_costs import arm_prices
from ablate.storage import Cost
from ablate.study import Design, Part, Recipe, TrainSpec, Trial, load
from ablate.training.fit import Training


def pose(size=(256, 192), model="hrnet", **knobs) -> Recipe:
    recipe = Recipe(
        task=Part(name="pose", knobs={"size": list(size)}), dataset=Part(name="coco_pose"),
        model=Part(name=model, knobs=knobs),
    )  # fmt: skip
    return recipe.settled(on_gpu=False)


def counted(layer: nn.Module, *shape: int) -> tuple[Counter, torch.Tensor]:
    with Counter(layer) as counter:
        return counter, layer(torch.empty(shape, device="meta"))


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
    assert found.gflops == found.tool_gflops == pytest.approx(gflops, rel=0.01)
    assert found.used_parameters == found.parameters


def test_a_count_by_hand():
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 10))
    counter, _ = counted(net, 1, 3, 8, 8)
    assert counter.macs == 4 * 4 * 8 * 27 + 128 * 10
    assert counter.activations == 8 * 4 * 4 + 10
    assert counter.uncounted == {"relu"}
    assert (counter.matmul_macs, counter.transposed_excess) == (0, 0)


def test_grouped_and_transposed_convolutions_by_hand():
    grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False, device="meta")
    assert counted(grouped, 1, 8, 5, 5)[0].macs == 25 * 8 * 2 * 9
    transposed = nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False, device="meta")
    counter, _ = counted(transposed, 1, 8, 5, 5)
    assert counter.macs == 25 * 8 * 4 * 4  # every pixel of the input, every weight
    assert counter.macs + counter.transposed_excess == 100 * 8 * 4 * 4  # the papers' tool: every pixel of the output


def test_attention_is_counted_apart_from_linear_layers():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(6, 18, bias=False)

        def forward(self, x):
            query, key, value = self.mix(x).chunk(3, dim=-1)
            return F.scaled_dot_product_attention(query, key, value), query @ key.mT

    counter, _ = counted(Attention().to("meta"), 2, 5, 6)
    assert counter.macs == 2 * 5 * 6 * 18
    assert counter.matmul_macs == 3 * (2 * 5 * 5 * 6)
    assert any("softmax" in name for name in counter.uncounted)


def test_a_linear_layer_of_the_papers_tool_is_ours_for_one_vector():
    layer = nn.Linear(7, 3, device="meta")
    counter, output = counted(layer, 1, 7)
    assert counter.macs == output.numel() * 7


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(6, 4, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(2, 1)), (2, 6, 17, 13)),
        (nn.Conv2d(6, 6, 3, padding="same", groups=3), (1, 6, 9, 8)),
        (nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, dilation=2), (2, 6, 5, 7)),
        (nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, groups=2), (1, 6, 5, 7)),
        (nn.Conv1d(6, 4, 3, stride=2), (2, 6, 11)),
        (nn.Sequential(nn.BatchNorm2d(6), nn.GroupNorm(2, 6), nn.GELU(), nn.Hardswish(inplace=True)), (2, 6, 4, 4)),
        (nn.LayerNorm(5), (2, 6, 5)),
        (nn.Upsample(scale_factor=2), (1, 6, 5, 4)),
        (nn.MaxPool2d(3, 2, 1), (2, 6, 11, 8)),
        (nn.MaxPool2d(2, ceil_mode=True), (2, 6, 11, 8)),
        (nn.MaxPool2d(3, (2, 3), 1, ceil_mode=True), (2, 6, 8, 12)),
        (nn.MaxPool2d(2, 3, 1, dilation=2, ceil_mode=True), (6, 8, 13)),
        (nn.Upsample(size=(7, 9), mode="bilinear", align_corners=True), (1, 6, 5, 4)),
    ],
    ids=str,
)
def test_shapes_and_graphs_are_those_of_torch(layer, shape):
    real = layer(torch.rand(shape))
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    layer = layer.to("meta")
    _, worked_out = counted(layer, *shape)
    assert worked_out.shape == real.shape
    assert worked_out.dtype == real.dtype
    assert cost.used_parameters(worked_out) == parameters


@pytest.mark.parametrize("dim", [1, -1, 0, -4])
def test_joined_maps_are_those_of_torch(dim):
    class Joined(nn.Module):
        def forward(self, x):
            return torch.cat([x, x.relu(), x], dim)

    assert counted(Joined(), 2, 3, 4, 5)[1].shape == Joined()(torch.rand(2, 3, 4, 5)).shape


def test_what_cannot_be_joined_as_it_is_is_left_to_torch():
    class Joined(nn.Module):
        def forward(self, x):
            return torch.cat([x, (x[:, :1] > 0).long(), x.new_empty(0)], dim=1)

    class Unlike(nn.Module):
        def forward(self, x):
            return torch.cat([x, x[:, :, 1:]], dim=1)

    found = counted(Joined(), 2, 3, 4, 5)[1]
    assert (found.shape, found.dtype) == ((2, 4, 4, 5), torch.float32)
    with pytest.raises(RuntimeError, match=r"[Ss]izes of tensors must match"):
        counted(Unlike(), 2, 3, 4, 5)


def test_elementwise_operators_of_unlike_shapes_are_left_to_torch():
    class Gate(nn.Module):
        def forward(self, x):
            return x.mean((2, 3), keepdim=True) * x + x.sum()

    assert counted(Gate(), 2, 3, 4, 5)[1].shape == (2, 3, 4, 5)


def test_a_convolution_that_cannot_be_is_an_error():
    with pytest.raises(ValueError, match=r"cannot take maps of \(1, 3, 2, 2\)"):
        counted(nn.Conv2d(3, 4, 5, device="meta"), 1, 3, 2, 2)
    with pytest.raises(ValueError, match=r"cannot take maps of \(1, 4, 9, 9\)"):
        counted(nn.Conv2d(3, 4, 5, device="meta"), 1, 4, 9, 9)


CHEAP = {
    "hrnet": {"width": 8, "blocks": 1},
    "simple_baseline": {"depth": 18, "width": 16},
    "hourglass": {"stages": 1, "width": 32},
    "unet": {"width": 8},
    "unetpp": {"encoder": "resnet18", "width": 0.25},
    "lite_hrnet": {"width": 8, "modules": [1, 1, 1]},
    "gridnet": {"width": 4},
    "fabrics": {"width": 8, "layers": 3},
    "vgg": {},
    "fpn": {"encoder": "resnet18", "width": 0.25},
    "hrformer": {"width": 8, "modules": [1, 1, 1], "blocks": 1},
}


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # fvcore's own, on import and on tracing
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("model", CHEAP)
def test_counts_agree_with_fvcore(model):
    from fvcore.nn import FlopCountAnalysis

    recipe = pose((64, 64), model, **CHEAP[model])
    net = build(recipe).eval()
    analysis = FlopCountAnalysis(net, torch.rand(1, 3, 64, 64))
    by_operator = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    assert cost.price(recipe).macs == by_operator["conv"] + by_operator["linear"]  # its flop is our multiply-add


def test_streams_that_nothing_reads_are_not_used():
    """With only the last fusion gone the coarse streams still feed nothing of V1's finest map."""
    whole = cost.price(pose((64, 64), width=8, fusions="within"))
    none = cost.price(pose((64, 64), width=8, fusions=[]))
    assert whole.used_parameters == whole.parameters
    assert none.used_parameters < none.parameters


def test_counting_leaves_the_network_as_it_was():
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    cost.price_network(net, (8, 8))
    assert not net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(layer._forward_hooks for layer in net.modules())


def test_another_size_than_the_tasks():
    small, large = (cost.price(pose((64, 64), width=8), size=size) for size in (None, (128, 128)))
    assert large.macs == 4 * small.macs
    assert large.activations == 4 * small.activations


def test_costs_of_before_activations_were_counted_read_back():
    old = Cost.model_validate_json('{"parameters": 5, "used_parameters": 5, "macs": 1073741824}')
    assert (old.gflops, old.tool_gflops, old.activations) == (1.0, 1.0, 0)


def peak_bytes(recipe: Recipe) -> int:
    """What torch's allocator holds at the peak of a training step, the network's state included."""
    trial = Trial(arm={}, seed=0, recipe=recipe, meanings={})
    training = Training(trial, build(recipe).train(), torch.device("cpu"))
    info = registry.build("dataset", recipe.dataset.name, recipe.dataset.knobs).info
    task = registry.build("task", recipe.task.name, recipe.task.knobs)
    size, batch, joints = task.size, recipe.train.batch, len(info.joints)
    samples = {
        "image": torch.zeros(batch, 3, *size, dtype=torch.uint8), "joints": torch.full((batch, joints, 2), 30.0),
        "labelled": torch.ones(batch, joints),
    }  # fmt: skip
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        for _ in range(2):  # in the second there are gradients and moments
            training.step(task, samples, 1e-3)
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    there = sum(tensor.nbytes for tensor in training.net.state_dict().values())
    return there + max(accumulate(changes))


@pytest.mark.parametrize(
    ("model", "knobs", "train"),
    [
        ("hrnet", {"width": 16, "blocks": 1}, {"batch": 8}),
        ("simple_baseline", {"depth": 18}, {"batch": 4, "optimizer": "sgd", "momentum": 0.9}),
        ("hrnet", {"width": 16, "blocks": 1}, {"batch": 8, "precision": "bf16", "memory_format": "channels_last"}),
    ],
    ids=["hrnet", "simple_baseline", "hrnet in bf16"],
)
def test_estimated_memory_is_within_five_per_cent_of_a_measured_peak(model, knobs, train):
    spec = TrainSpec(**{"precision": "fp32", "memory_format": "contiguous"} | train)
    recipe = pose((128, 96), model, **knobs).model_copy(update={"train": spec})
    assert cost.training_memory(recipe) == pytest.approx(peak_bytes(recipe), rel=0.05)


def memory(train: dict, **knobs) -> int:
    return cost.training_memory(
        pose((64, 64), width=8, blocks=1, **knobs).model_copy(update={"train": TrainSpec(**train)})
    )


def test_memory_follows_the_optimiser_the_batch_and_checkpointing():
    parameters = 4 * cost.price(pose((64, 64), width=8, blocks=1)).parameters
    plain = {"batch": 8, "precision": "fp32", "optimizer": "sgd"}
    assert memory(plain | {"optimizer": "adam"}) - memory(plain) == 2 * parameters
    assert memory(plain | {"momentum": 0.9}) - memory(plain) == parameters
    growth = memory(plain | {"batch": 16}) - memory(plain)
    assert memory(plain | {"batch": 24}) - memory(plain | {"batch": 16}) == growth
    assert memory(plain | {"batch": 1}) == pytest.approx(memory(plain) - 7 * growth / 8, rel=0.01)
    assert memory(plain, checkpointing=True) < memory(plain) - growth / 4


def test_speed_is_measured_on_this_machine():
    recipe = pose((32, 32), width=4, blocks=1, modules=[1, 1, 1])
    found = speed.measure(recipe.model_copy(update={"train": TrainSpec(batch=2).settled(on_gpu=False)}))
    assert 0 < found.low <= found.latency <= found.high
    assert found.image == (32, 32)
    assert 5 <= found.runs <= 50
    assert (found.memory > 0) == torch.cuda.is_available()
    assert found.images_per_second > 0
    assert found.batch in (1, 2)
    if not torch.cuda.is_available():
        assert found.where.startswith(f"{origin.processor()}, {torch.get_num_threads()} CPU threads, ")


@pytest.mark.usefixtures("small_shelf")
def test_an_impossible_network_is_one_line_with_its_arm(tmp_path):
    factors = {"width": {"at": "model.width", "levels": [4, 5]}}
    design = Design(load(write_study(tmp_path, factors=factors, seeds=1)))
    with pytest.raises(StudyError, match=r"recipe\.model: arm width=5: width: 5 is odd"):
        arm_prices(design)


def test_knobs_that_do_not_go_together_are_one_line(tmp_path):
    recipe = {
        "task": {"name": "pose", "size": [64, 64]}, "dataset": "figures", "train": {"preset": "pose"},
        "model": {"name": "hrnet", "width": 8, "blocks": 1, "modules": [1, 1, 1]},
    }  # fmt: skip
    for knob, levels in (("widths", [None, [8, 16]]), ("fusions", ["within", "witin"]), ("streams", [4, 7])):
        factors = {"f": {"at": f"model.{knob}", "levels": {"a": levels[0], "b": levels[1]}}}
        study = write_study(tmp_path, recipe=recipe, factors=factors, metrics=["AP"], seeds=1, plugins=[])
        with pytest.raises(StudyError) as caught:
            arm_prices(Design(load(study)))
        assert f"recipe.model: arm f=b: {knob}: " in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_input_too_small_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"\d+"):
        cost.price(pose((16, 16), width=8))
