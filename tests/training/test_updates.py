"""How weights change, beside torch's and timm's own: groups, rates, clipping, what is frozen, the running average."""

# ruff: noqa: E501  (tables of one case a line)

import math

import pytest
import safetensors.torch
import timm
import torch
from small_studies import small_study, write_study
from timm.layers import BatchNormAct2d
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.utils import ModelEmaV2
from torch import nn
from torch.optim import lr_scheduler
from trained import finish, site, trials

from ablate.errors import StudyError
from ablate.network.build import Network, build
from ablate.storage import Store
from ablate.study import Part, Recipe, TrainSpec, Trial, load
from ablate.training import updates
from ablate.training.fit import Training
from ablate.training.run_trial import run_trial
from ablate.training.updates import learning_rate

pytestmark = pytest.mark.usefixtures("small_shelf")

EPOCHS, STEPS = 12, 5


def spec(**changes) -> TrainSpec:
    return TrainSpec.model_validate({"epochs": EPOCHS, "lr": 0.1} | changes)


# -- learning rates --------------------------------------------------------------------------------------------


def rates(train: TrainSpec) -> list[float]:
    moments = [(epoch, step / STEPS) for epoch in range(train.epochs) for step in range(STEPS)]
    return [learning_rate(train, epoch, fraction, steps=STEPS) for epoch, fraction in moments]


def torchs(*schedulers) -> list[float]:
    """The rates of torch's schedulers together, each made of an optimiser and stepped after every step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    chain = lr_scheduler.ChainedScheduler([make(optimizer) for make in schedulers])
    found = []
    for _ in range(EPOCHS * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        chain.step()
    return found


def linear(optimizer, steps=7):
    return lr_scheduler.LinearLR(optimizer, start_factor=1 / 3, total_iters=steps)


def test_warm_up_is_torchs():
    warm = {"warmup": "linear", "warmup_steps": 7, "warmup_ratio": 1 / 3}
    assert rates(spec(**warm)) == pytest.approx(torchs(linear))
    fall = {"schedule": "step", "milestones": [0.5]}
    assert rates(spec(**warm, **fall)) == pytest.approx(torchs(linear, lambda o: lr_scheduler.StepLR(o, 6 * STEPS)))
    flat = torchs(lambda o: lr_scheduler.ConstantLR(o, factor=1 / 3, total_iters=7))
    assert rates(spec(**warm | {"warmup": "constant"})) == pytest.approx(flat)
    poly = torchs(linear, lambda o: lr_scheduler.PolynomialLR(o, total_iters=EPOCHS * STEPS, power=0.9))
    assert rates(spec(**warm, schedule="poly")) == pytest.approx(poly)


def test_warm_up_by_epochs_is_warm_up_by_their_steps():
    by_epochs = {"warmup": "linear", "warmup_epochs": 1.4, "warmup_ratio": 1 / 3}
    assert rates(spec(**by_epochs)) == pytest.approx(torchs(linear))


def test_a_cosine_that_ends_above_zero_is_torchs_and_timms():
    found = rates(spec(schedule="cosine", lr_floor=0.02))
    assert found == pytest.approx(torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * STEPS, eta_min=0.02)))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    timms = CosineLRScheduler(optimizer, t_initial=EPOCHS * STEPS, lr_min=0.02, t_in_epochs=False)
    assert found == pytest.approx([timms._get_lr(step)[0] for step in range(EPOCHS * STEPS)])


def test_warm_up_is_timms_where_nothing_else_changes_the_rate():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    timms = StepLRScheduler(
        optimizer, decay_t=6 * STEPS, decay_rate=0.1, warmup_t=7, warmup_lr_init=0.001, warmup_prefix=False
    )
    warm = {"warmup": "linear", "warmup_steps": 7, "warmup_ratio": 0.01, "schedule": "step", "milestones": [0.5]}
    assert rates(spec(**warm)) == pytest.approx([timms._get_lr(step)[0] for step in range(EPOCHS * STEPS)])


def test_a_poly_that_ends_above_zero_by_hand():
    """mmsegmentation's: (lr - floor) (1 - progress)^power + floor."""
    found = rates(spec(schedule="poly", power=0.9, lr_floor=1e-4))
    assert found[30] == pytest.approx((0.1 - 1e-4) * 0.5**0.9 + 1e-4)
    assert min(found) > 1e-4


# -- groups of parameters --------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.mix(x)).relu()


class Blocks(nn.Module):
    """Built as transformers are: an embedding, a list of layers, perhaps a last norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4, 1, 1))
        self.embed = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.norm = norm
        self.channels, self.strides = [4], [1]

    def forward(self, images):
        x = self.embed(images) + self.position
        for layer in self.layers:
            x = layer(x)
        return [self.norm(x)]


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 1)

    def forward(self, maps):
        return self.last(maps[0].mean((2, 3)))[:, 0]


class Whole(Network):
    """With what timm asks of a model whose layers are to have rates of their own."""

    def group_matcher(self, coarse=False):
        return {"stem": r"^backbone\.(?:position|embed)", "blocks": r"^backbone\.layers\.(\d+)", "head": r"^head"}


def network(norm: nn.Module | None = None) -> Whole:
    torch.manual_seed(0)
    return Whole(Blocks(norm or nn.BatchNorm2d(4)), Head())


def groups(net: nn.Module, train: TrainSpec) -> list[dict]:
    return updates.optimizer(net, train, updates.rates(net, train)).param_groups


def by_name(net: nn.Module, groups: list[dict], key: str, default: float) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {names[id(p)]: group.get(key, default) for group in groups for p in group["params"]}


def test_layers_have_timms_rates():
    net = network(nn.Identity())
    timms = by_name(net, param_groups_layer_decay(net, 0.0, layer_decay=0.7), "lr_scale", 1.0)
    ours = by_name(net, groups(net, spec(layer_decay=0.7)), "times", math.nan)
    assert ours == pytest.approx(timms)
    assert sorted(set(ours.values())) == pytest.approx([0.7**power for power in range(4, -1, -1)])


def test_a_transformer_of_timm_has_timms_rates():
    """The norm and the embeddings beside the blocks, too."""
    backbone = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, num_classes=0)
    depths = updates.blocks(backbone)
    timms = by_name(backbone, param_groups_layer_decay(backbone, 0.0, layer_decay=0.5), "lr_scale", 1.0)
    assert {name: 0.5 ** (max(depths.values()) - depth) for name, depth in depths.items()} == timms


def test_norms_and_biases_that_do_not_decay_are_timms():
    net = network()
    timms = by_name(net, param_groups_weight_decay(net, 0.3), "weight_decay", math.nan)
    train = spec(weight_decay=0.3, weight_decay_on="weights")
    assert by_name(net, groups(net, train), "weight_decay", math.nan) == timms


def test_the_head_has_its_own_rate():
    net = network()
    for changes, first in (({}, 1.0), ({"layer_decay": 0.5}, 0.5**4)):
        times = by_name(net, groups(net, spec(head_lr=10.0, **changes)), "times", math.nan)
        assert (times["head.last.weight"], times["backbone.embed.bias"]) == (10.0, first)


def test_every_shelf_network_has_blocks_from_first_to_last():
    for name, least in (("hrnet", 8), ("resnet", 6), ("segformer", 1), ("hrformer", 4)):
        document = {"task": "pose", "dataset": "figures", "model": name}
        with torch.device("meta"):
            net = build(Recipe.model_validate(document).settled(on_gpu=False))
        depths = updates.blocks(net.backbone)
        assert depths.keys() == dict(net.backbone.named_parameters()).keys()
        assert set(depths.values()) == set(range(max(depths.values()) + 1))
        assert max(depths.values()) >= least, name


# -- a step ----------------------------------------------------------------------------------------------------


class Halves:
    """A task whose batches are pictures and numbers."""

    def prepare(self, batch):
        return batch["image"]

    def loss(self, outputs, batch):
        return (outputs.float() - batch["truth"]).square().sum()


def drawn(number: int) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    return [{"image": torch.randn(6, 3, 8, 8), "truth": torch.randn(6)} for _ in range(number)]


def training(net: nn.Module, **changes) -> Training:
    train = TrainSpec.model_validate({"precision": "fp32", "memory_format": "contiguous"} | changes)
    recipe = Recipe(task=Part(name="brightness"), dataset=Part(name="noise"), model=Part(name="dots"), train=train)
    return Training(Trial(arm={}, seed=0, recipe=recipe, meanings={}), net, torch.device("cpu"))


def stepped(made: Training, batches, lr=0.1) -> Training:
    updates.train_mode(made.net, made.spec)
    for batch in batches:
        made.step(Halves(), batch, lr)
    return made


def by_hand(net: nn.Module, optimizer: torch.optim.Optimizer, batches, *, norm: float = 0.0) -> nn.Module:
    net.train()
    for batch in batches:
        loss = Halves().loss(net(batch["image"]), batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if norm:
            torch.nn.utils.clip_grad_norm_(net.parameters(), norm)
        optimizer.step()
    return net


def assert_equal(net: nn.Module, other: nn.Module) -> None:
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_nesterovs_momentum_is_torchs():
    ours = stepped(training(network(), optimizer="sgd", momentum=0.9, nesterov=True), drawn(4), 0.01)
    net = network()
    torchs = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True)
    assert_equal(ours.net, by_hand(net, torchs, drawn(4)))


def test_gradients_are_clipped_as_torch_does_it():
    ours = stepped(training(network(), optimizer="sgd", clip_norm=0.5), drawn(3), 0.1)
    net, unclipped = network(), network()
    by_hand(net, torch.optim.SGD(net.parameters(), 0.1, fused=True), drawn(3), norm=0.5)
    assert_equal(ours.net, net)
    by_hand(unclipped, torch.optim.SGD(unclipped.parameters(), 0.1, fused=True), drawn(3))
    assert not torch.equal(unclipped.head.last.weight, net.head.last.weight)


def test_rates_of_groups_are_what_steps_take():
    ours = stepped(training(network(), optimizer="sgd", head_lr=10.0), drawn(2), 0.01)
    net = network()
    two = [{"params": net.backbone.parameters()}, {"params": net.head.parameters(), "lr": 0.1}]
    assert_equal(ours.net, by_hand(net, torch.optim.SGD(two, 0.01, fused=True), drawn(2)))


def test_what_is_frozen_stays_as_it_was():
    before = network()
    for frozen, kept in (("backbone", "backbone."), (["embed", "layers.0"], ("backbone.embed", "backbone.layers.0"))):
        after = stepped(training(network(), frozen=frozen), drawn(3)).net.state_dict()
        same = {name for name, value in before.state_dict().items() if torch.equal(value, after[name])}
        assert same == {name for name in after if name.startswith(kept)}


def test_frozen_norms_train_but_keep_their_statistics():
    """As detection's norm_eval: scale and shift learn, mean and variance are those that training began with."""
    before = network()
    made = stepped(training(network(), frozen_norms=True), drawn(3))
    after = made.net.state_dict()
    same = {name for name, value in before.state_dict().items() if torch.equal(value, after[name])}
    assert same == {name for name, _ in made.net.named_buffers()}
    assert made.net.head.training
    assert made.net.backbone.embed.training


def test_the_momentum_of_every_norm_is_set():
    net = network(BatchNormAct2d(4))
    made = training(net, norm_momentum=0.01)
    norms = [m for m in made.net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 4
    assert {norm.momentum for norm in norms} == {0.01}
    batch = drawn(1)[0]
    inputs = net.backbone.embed(batch["image"]) + net.backbone.position
    expected = 0.01 * net.backbone.layers[0].mix(inputs).mean((0, 2, 3))
    stepped(made, [batch])
    torch.testing.assert_close(made.net.backbone.layers[0].norm.running_mean, expected.detach())


@pytest.mark.parametrize("model", ["unet", "deeplabv3plus", "fpn", "simple_baseline"])
def test_norms_inside_networks_of_libraries_are_reached(model):
    document = {"task": "segmentation", "dataset": "figures", "model": model, "train": {"norm_momentum": 0.03}}
    recipe = Recipe.model_validate(document).settled(on_gpu=False)
    with torch.device("meta"):
        net = build(recipe)
    updates.prepare(net, recipe.train)
    momenta = {m.momentum for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert momenta == {0.03}


# -- the running average ---------------------------------------------------------------------------------------


def test_the_average_is_timms_buffers_included():
    made = training(network(), ema=0.8)
    batches = drawn(5)
    stepped(made, batches[:1])
    timms = ModelEmaV2(made.net, decay=0.8)  # ours begins with the first step's weights, timm's with those it is given
    for batch in batches[1:]:
        stepped(made, [batch])
        timms.update(made.net)
    for name, value in timms.module.state_dict().items():
        if value.is_floating_point():  # nothing reads the norms' counts of batches
            torch.testing.assert_close(made.evaluated.state_dict()[name], value, rtol=1e-6, atol=1e-7)
            assert not torch.equal(value, made.net.state_dict()[name]), name


def test_the_average_is_torchs_bit_for_bit():
    made = training(network(), ema=0.8)
    torchs = updates.average(made.net, made.spec, torch.device("cpu"), made.layout)
    for batch in drawn(4):
        stepped(made, [batch])
        torchs.update_parameters(made.net)
    own = made.average.state_dict()
    assert own.keys() == torchs.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in torchs.state_dict().items())
    assert own["n_averaged"] == 4


def test_without_an_average_the_network_itself_is_evaluated():
    made = training(network())
    assert made.evaluated is made.net


def test_scores_and_kept_weights_are_those_of_the_average(tmp_path):
    """With so slow an average, the network that is scored is nearly that of the first step."""
    first = trials(tmp_path, train={"epochs": 3, "batch": 20, "ema": 0.999999})[0]
    one = trials(tmp_path, train={"epochs": 1, "batch": 20})[0]
    plain = trials(tmp_path, train={"epochs": 3, "batch": 20})[0]
    scores = [finish(t, site(tmp_path, f"{i}", keep_weights=True))[1].scores for i, t in enumerate((first, one, plain))]
    assert scores[0]["closeness"] == pytest.approx(scores[1]["closeness"], abs=1e-4)
    assert scores[0]["closeness"] != pytest.approx(scores[2]["closeness"], abs=1e-3)
    kept = [Store(tmp_path / str(i)).weights(t.id) for i, t in enumerate((first, one, plain))]
    averaged, early, late = (safetensors.torch.load(content) for content in kept)
    name = "backbone.first.0.weight"
    torch.testing.assert_close(averaged[name], early[name], rtol=1e-3, atol=1e-4)
    assert (averaged[name] - late[name]).abs().max() > 1e-3


# -- the declared score ----------------------------------------------------------------------------------------


def test_the_declared_score_is_the_mean_of_the_last_epochs(tmp_path):
    over = trials(tmp_path, train={"epochs": 5, "score_over": 3})[0]
    last = trials(tmp_path, train={"epochs": 5})[0]
    result = finish(over, site(tmp_path, "over"))[1]
    each = finish(last, site(tmp_path, "last", evaluate_every=1))[1]
    assert [bool(row.scores) for row in result.curve] == [False, False, True, True, True]
    assert [row.scores for row in result.curve[2:4]] == [row.scores for row in each.curve[2:4]]
    assert result.curve[-1].scores == each.scores
    for name in ("closeness", "near"):
        mean = sum(row.scores[name] for row in (*each.curve[2:4], each)) / 3
        assert result.scores[name] == pytest.approx(mean, rel=1e-12)
    mine, theirs = (Store(tmp_path / name).statistics(t.id) for name, t in (("over", over), ("last", last)))
    assert all((mine[name] == theirs[name]).all() for name in theirs)  # those of the last epoch


def test_a_stopped_trial_declares_the_same_mean(tmp_path):
    trial = trials(tmp_path, train={"epochs": 5, "score_over": 4})[0]
    whole = finish(trial, site(tmp_path, "whole"))[1]
    cut = site(tmp_path, "cut", checkpoint_minutes=0)
    events = run_trial(trial, cut)
    [next(events) for _ in range(4)]
    events.close()
    assert finish(trial, cut)[1].scores == whole.scores


# -- what has no effect is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"nesterov": True}, "nesterov has no effect without momentum"),
        ({"optimizer": "sgd", "nesterov": True}, "nesterov has no effect without momentum"),
        ({"weight_decay_on": "weights"}, "weight_decay_on has no effect without weight_decay"),
        ({"lr_floor": 0.001}, "lr_floor has no effect with schedule 'constant'"),
        ({"lr_floor": 0.5, "schedule": "cosine"}, "lr_floor is 0.5, which is not below lr"),
        ({"warmup_steps": 5}, "warmup_steps has no effect without warmup"),
        ({"warmup_ratio": 0.5}, "warmup_ratio has no effect without warmup"),
        ({"warmup": "linear"}, "warmup 'linear' needs either warmup_steps or warmup_epochs"),
        ({"warmup": "linear", "warmup_steps": 3, "warmup_epochs": 1}, "warmup 'linear' needs either warmup_steps or warmup_epochs"),
        ({"warmup": "linear", "warmup_epochs": 3}, "warmup_epochs is 3, there are 3 epochs"),
        ({"score_over": 4}, "score_over is 4, there are 3 epochs"),
        ({"clip_norm": -1}, "should be greater than or equal to 0"),
        ({"ema": 1.0}, "should be less than 1"),
        ({"nesterof": True}, "did you mean 'nesterov'?"),
    ],
)  # fmt: skip
def test_knobs_without_effect_are_refused(tmp_path, train, message):
    recipe = small_study()["recipe"]
    with pytest.raises(StudyError, match=message.replace("?", r"\?")):
        load(write_study(tmp_path, recipe=recipe | {"train": recipe["train"] | train}))


def test_a_module_that_the_backbone_lacks_is_refused_before_training(called, tmp_path):
    recipe = small_study()["recipe"]
    study = write_study(tmp_path, recipe=recipe | {"train": recipe["train"] | {"frozen": ["frist"]}})
    status, _, said = called("plan", study)
    assert status == 2
    assert "train.frozen: the backbone has no module 'frist'; did you mean 'first'?" in said
