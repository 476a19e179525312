"""Starting weights: only the file that was meant, only into the network it belongs to, and whole.

Networks to load from are timm's, torchvision's and segmentation_models_pytorch's own, with random weights: what
comes out after loading must equal what they give themselves.
"""

import hashlib
import re

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from small_studies import small_study, write_study
from torch import nn
from trained import at

from ablate import registry
from ablate.errors import DataError, StudyError
from ablate.network.build import build
from ablate.storage import Result, Store
from ablate.study import Design, Recipe, Trial, Weights, load
from ablate.training import weights
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

pytestmark = pytest.mark.usefixtures("small_shelf")
DIGEST = "0123456789abcdef" * 4


def saved(path, content) -> Weights:
    """The content as a file, and a recipe's words for it."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return Weights(file=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def site(tmp_path, **changes) -> Site:
    return at(tmp_path / "results", **changes)


def start(backbone: nn.Module, spec: Weights, tmp_path) -> str:
    return weights.start(backbone, spec, site(tmp_path))


# -- the key ---------------------------------------------------------------------------------------------------


def small_trials(tmp_path, **recipe) -> list[Trial]:
    return Design(load(write_study(tmp_path, recipe=small_study()["recipe"] | recipe))).trials


def without_plugins(trial) -> str:
    """The id before the content of plug-ins was in it."""
    return trial.model_validate(trial.model_dump(exclude={"plugins"})).id


def test_keys_are_those_of_recipes_that_could_not_name_weights(tmp_path):
    # As computed before recipes had starting weights.
    ids = ["e5c808dbc8cc8997", "b5c8bb22a3de31e8", "a659b5f01066e046", "c0d72c4583180672"]
    assert [without_plugins(trial) for trial in small_trials(tmp_path)] == ids
    assert [without_plugins(trial) for trial in small_trials(tmp_path, weights=None)] == ids
    assert "weights" not in small_trials(tmp_path)[0].recipe.model_dump()


def test_the_content_is_in_the_key_and_the_name_is_not(tmp_path):
    one, other, content, entry, none = (
        small_trials(tmp_path, weights=value)[0].id
        for value in (
            {"file": "a.pth", "sha256": DIGEST}, {"file": "/elsewhere/b.pth", "sha256": DIGEST},
            {"file": "a.pth", "sha256": DIGEST[::-1]}, {"file": "a.pth", "sha256": DIGEST, "entry": "ema"}, None,
        )
    )  # fmt: skip
    assert one == other
    assert len({one, content, entry, none}) == 4


def test_levels_of_equal_content_are_the_same_trial(tmp_path):
    factors = {"start": {"at": "weights", "levels": {
        "scratch": None, "a": {"file": "a.pth", "sha256": DIGEST}, "b": {"file": "b.pth", "sha256": DIGEST},
    }}}  # fmt: skip
    with pytest.raises(StudyError, match="levels 'a' and 'b' are the same trial"):
        Design(load(write_study(tmp_path, factors=factors)))
    del factors["start"]["levels"]["b"]
    control, level = Design(load(write_study(tmp_path, factors=factors))).trials[:2]
    assert (control.recipe.weights, level.recipe.weights.file) == (None, "a.pth")


def test_a_trial_with_weights_survives_json(tmp_path):
    trial = small_trials(tmp_path, weights={"file": "a.pth", "sha256": DIGEST})[0]
    again = Trial.model_validate_json(trial.model_dump_json())
    assert (again, again.id) == (trial, trial.id)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"file": "{file}"}, "recipe.weights: sha256 is missing; {file} has {digest}"),
        (
            {"file": "{file}", "sha256": "abc"},
            "'abc', not 64 hexadecimal digits or the first 8 of them; {file} has {digest}",
        ),
        ({"file": "gone.pth"}, "recipe.weights: sha256 is missing; sha256sum gone.pth prints it"),
        ({"sha256": DIGEST}, "recipe.weights.file: is missing"),
        ({"file": "a", "sha256": DIGEST, "entri": "ema"}, "recipe.weights.entri: unknown key; did you mean 'entry'?"),
        ("a.pth", "recipe.weights: should be a mapping"),
    ],
)
def test_a_slip_in_the_study_is_one_line_that_says_the_digest(tmp_path, value, message):
    file = tmp_path / "a.pth"
    file.write_bytes(b"some content")
    known = {"file": str(file), "digest": hashlib.sha256(b"some content").hexdigest()}
    if isinstance(value, dict):
        value = {key: text.format(**known) for key, text in value.items()}
    with pytest.raises(StudyError, match=re.escape(message.format(**known))):
        small_trials(tmp_path, weights=value)


def test_the_digest_is_looked_up_in_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.pth").write_bytes(b"x")
    monkeypatch.setenv("ABLATE_DATA", str(tmp_path / "data"))
    with pytest.raises(StudyError, match=hashlib.sha256(b"x").hexdigest()):
        small_trials(tmp_path, weights={"file": "a.pth"})


# -- the file --------------------------------------------------------------------------------------------------


def test_a_file_is_found_by_its_content_under_data_and_beside_the_study(tmp_path):
    folders = {name: tmp_path / name for name in ("data", "beside")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "a.pth").write_bytes(name.encode())
    place = site(tmp_path, **folders)
    for name, folder in folders.items():
        spec = Weights(file="a.pth", sha256=hashlib.sha256(name.encode()).hexdigest())
        assert weights.find(spec, place) == folder / "a.pth"
        beginning = Weights(file="a.pth", sha256=spec.sha256[:8])  # all that some publishers tell, in a file's name
        assert weights.find(beginning, place) == folder / "a.pth"
    with pytest.raises(DataError, match=f"{folders['data'] / 'a.pth'} has sha256 [0-9a-f]{{64}}, not {DIGEST}"):
        weights.find(Weights(file="a.pth", sha256=DIGEST), place)
    with pytest.raises(DataError, match=f"no file at {folders['data'] / 'b.pth'} or {folders['beside'] / 'b.pth'}"):
        weights.find(Weights(file="b.pth", sha256=DIGEST), place)


def test_code_in_a_file_is_never_run(tmp_path):
    spec = saved(tmp_path / "a.pth", {"state_dict": {}, "trap": Recipe})
    with pytest.raises(DataError, match="holds code"):
        start(dots(), spec, tmp_path)


def test_a_damaged_file_is_said_to_be(tmp_path):
    file = tmp_path / "a.pth"
    file.write_bytes(b"no checkpoint")
    spec = Weights(file=str(file), sha256=hashlib.sha256(b"no checkpoint").hexdigest())
    with pytest.raises(DataError, match="damaged or no checkpoint"):
        start(dots(), spec, tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_name_of_many_dots_is_one_line(tmp_path, suffix):
    spec = saved(tmp_path / f"w{suffix}", {"a." * 20_000 + "w": torch.zeros(1)})
    with pytest.raises(DataError, match="20,000 dots, which no network has") as caught:
        start(dots(), spec, tmp_path)
    assert len(str(caught.value)) < 400


# -- which tensor goes where -----------------------------------------------------------------------------------


def dots(**knobs) -> nn.Module:
    return registry.build("model", "dots", registry.check_knobs("model", "dots", knobs))


def hrnet(**knobs) -> nn.Module:
    small_v1 = {"width": 16, "modules": [1, 1, 1], "blocks": 2, "stage1_blocks": 1, "stage1_planes": 32}
    return registry.build("model", "hrnet", registry.check_knobs("model", "hrnet", small_v1 | knobs)).eval()


def drawn(net: nn.Module) -> nn.Module:
    """The network in eval mode, with normalisation that lets something through (timm starts some at zero)."""
    generator = torch.Generator().manual_seed(1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for value in layer.state_dict().values():
                if value.dim():
                    value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return net.eval()


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    return drawn(timm.create_model("hrnet_w18_small"))


def timm_maps(net: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """timm's maps before its classification head."""
    with torch.no_grad():
        return net.stages(net.act2(net.bn2(net.conv2(net.act1(net.bn1(net.conv1(images)))))))


WRAPPERS = {
    "bare": lambda state: state,
    "parallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "mmpose": lambda state: {"meta": {"epoch": 3}, "state_dict": {f"backbone.{n}": v for n, v in state.items()}},
    "in training": lambda state: {"epoch": 1, "state_dict": state, "optimizer": {"state": {0: {"m": torch.ones(3)}}}},
    "old": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    "half": lambda state: {name: value.half() for name, value in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_classification_checkpoint_starts_a_pose_backbone(tmp_path, classifier, wrapper):
    backbone = hrnet()
    told = start(backbone, saved(tmp_path / "hrnet.pth", WRAPPERS[wrapper](classifier.state_dict())), tmp_path)
    total = sum(parameter.numel() for parameter in backbone.parameters())
    assert told == f"hrnet.pth: {total:,} of the backbone's {total:,} parameters"
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    expected = timm_maps(classifier, images)[0]
    with torch.no_grad():
        found = backbone(images)[0]
    tolerance = 0.02 if wrapper == "half" else 1e-5
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


def test_what_a_pose_checkpoint_lacks_of_a_segmentation_backbone_stays_as_drawn(tmp_path):
    pose, segmentation = hrnet(output="v1"), hrnet(output="v2")
    before = {name: value.clone() for name, value in segmentation.state_dict().items()}
    told = start(segmentation, saved(tmp_path / "pose.safetensors", pose.state_dict()), tmp_path)
    loaded = sum(p.numel() for p in pose.parameters())
    assert told.startswith(f"pose.safetensors: {loaded:,} of the backbone's ")
    given = pose.state_dict()
    for name, value in segmentation.state_dict().items():
        assert torch.equal(value, given.get(name, before[name])), name
    assert set(before) > set(given)


def features(backbone: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return backbone.eval()(images)[-1]


@pytest.mark.parametrize("decoder", [smp.Unet, smp.DeepLabV3Plus, smp.UPerNet])
def test_torchvisions_resnet_starts_the_encoder_of_a_decoder_network(tmp_path, decoder):
    original = drawn(torchvision.models.resnet18())
    net = decoder("resnet18", encoder_weights=None)
    spec = saved(tmp_path / "resnet18.pth", original.state_dict())
    told = start(net, spec, tmp_path)
    trunk = sum(p.numel() for name, p in original.named_parameters() if not name.startswith("fc."))
    assert f" {trunk:,} of the backbone's {sum(p.numel() for p in net.parameters()):,} parameters" in told
    given = original.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in net.encoder.state_dict().items())


SHELF = {
    "cpn": {"depth": 50},
    "deeplabv3": {"encoder": "resnet50"},
    "deeplabv3plus": {"encoder": "resnet50"},
    "fpn": {"encoder": "resnet50"},
    "pspnet": {"encoder": "resnet50"},
    "resnet": {"depth": 50, "pyramid": True},
    "simple_baseline": {"depth": 50},
    "timm_encoder": {"encoder": "resnet50"},
    "unet": {"encoder": "resnet50"},
    "unetpp": {"encoder": "resnet50"},
    "upernet": {"encoder": "resnet50"},
}


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory) -> Weights:
    return saved(tmp_path_factory.mktemp("weights") / "resnet50.pth", torchvision.models.resnet50().state_dict())


@pytest.mark.parametrize("name", SHELF)
def test_one_resnet_starts_every_network_of_the_shelf_that_is_built_on_it(tmp_path, resnet50, name):
    with torch.device("meta"):
        backbone = registry.build("model", name, registry.check_knobs("model", name, SHELF[name]))
    # 25,557,032 parameters as published, less those of the classifier.
    assert start(backbone, resnet50, tmp_path).startswith(f"resnet50.pth: {25_557_032 - 2048 * 1000 - 1000:,} of ")


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050", "resnet10t"])
def test_timms_features_start_from_timms_own_checkpoint(tmp_path, name):
    original = drawn(timm.create_model(name))
    net = timm.create_model(name, features_only=True)
    start(net, saved(tmp_path / "timm.safetensors", original.state_dict()), tmp_path)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        taken = original.forward_intermediates(images, intermediates_only=True)[-1]
    assert torch.allclose(features(net, images), taken, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda: timm.create_model("hrnet_w18_small_v2"),
            "another network: .*layer1.0.conv1.weight is \\(64, .*, not \\(32, ",
        ),
        (torchvision.models.resnet18, "of another network: conv1.weight is \\(64, 3, 7, 7\\), not "),
        (torchvision.models.squeezenet1_1, "fits nowhere: it has .*; the backbone has body.conv1.weight"),
        (lambda: hrnet(modules=[1, 4, 3]), "of another network: left over: .*stage3.1"),
        (lambda: hrnet(streams=2), "of another network: missing: "),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path, given, message):
    backbone = hrnet()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(DataError, match=message) as error:
        start(backbone, saved(tmp_path / "a.pth", given().state_dict()), tmp_path)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_shallower_residual_network_is_not_filled_from_a_deeper_one(tmp_path):
    # Every tensor of ResNet-18 has a namesake of its shape in ResNet-34.
    with torch.device("meta"):
        net = smp.Unet("resnet18", encoder_weights=None)
    spec = saved(tmp_path / "resnet34.pth", torchvision.models.resnet34().state_dict())
    with pytest.raises(DataError, match=r"left over: layer1\.2\..* and \d+ more"):
        start(net, spec, tmp_path)


def test_a_checkpoint_that_is_cut_short_is_not_enough(tmp_path):
    state = torchvision.models.resnet18().state_dict()
    cut = {name: value for name, value in state.items() if not name.startswith("layer4.")}
    with pytest.raises(DataError, match=r"fills less than half of the backbone; missing: layer4\.0\.conv1"):
        start(smp.Unet("resnet18", encoder_weights=None), saved(tmp_path / "cut.pth", cut), tmp_path)


def test_of_several_networks_one_must_be_named(tmp_path):
    nets = {"ema": dots(), "student": dots()}
    spec = saved(tmp_path / "two.pth", {name: net.state_dict() for name, net in nets.items()})
    backbone = dots()
    with pytest.raises(DataError, match="holds several networks: add entry: one of ema, student"):
        start(backbone, spec, tmp_path)
    with pytest.raises(DataError, match=r"recipe\.weights\.entry: .*: no 'emma'; did you mean 'ema'"):
        start(backbone, spec.model_copy(update={"entry": "emma"}), tmp_path)
    start(backbone, spec.model_copy(update={"entry": "ema"}), tmp_path)
    assert torch.equal(backbone.first[0].weight, nets["ema"].first[0].weight)


# -- a trial ---------------------------------------------------------------------------------------------------


def result_of(trial: Trial, place: Site) -> Result:
    return list(run_trial(trial, place))[-1]


def test_a_trial_starts_from_what_another_one_kept(tmp_path):
    source = small_trials(tmp_path)[0]
    place = site(tmp_path, keep_weights=True)
    result_of(source, place)
    kept = Store(place.results).folder(source.id) / "weights.safetensors"
    trained = safetensors.torch.load_file(kept)
    spec = {"file": str(kept), "sha256": hashlib.sha256(kept.read_bytes()).hexdigest()}
    still = {"epochs": 1, "batch": 8, "lr": 1e-12, "precision": "fp32"}
    first, second = (small_trials(tmp_path, weights=spec, train=still)[seed * 2] for seed in (0, 1))
    results = [result_of(trial, place) for trial in (first, second)]
    assert "head.weight" in trained or any(name.startswith("head.") for name in trained)
    # Two convolution weights and biases of normalisation: 4*3*9 + 4 + 4 + 4.
    assert {result.env["starting weights"] for result in results} == {
        "weights.safetensors: 120 of the backbone's 120 parameters"
    }
    for trial in (first, second):
        after = safetensors.torch.load(Store(place.results).weights(trial.id))
        assert torch.allclose(after["backbone.first.0.weight"], trained["backbone.first.0.weight"], atol=1e-7)
    scratch = small_trials(tmp_path, train=still)[0]
    result = result_of(scratch, place)
    assert "starting weights" not in result.env
    drawn_by_seed = safetensors.torch.load(Store(place.results).weights(scratch.id))
    assert not torch.allclose(drawn_by_seed["backbone.first.0.weight"], trained["backbone.first.0.weight"], atol=1e-3)


def test_weights_are_kept_only_where_that_is_asked_and_always_as_the_same_bytes(tmp_path):
    trial = small_trials(tmp_path)[0]
    result_of(trial, site(tmp_path))
    assert Store(tmp_path / "results").weights(trial.id) is None
    digests = set()
    for name in ("one", "two"):
        result_of(trial, at(tmp_path / name, keep_weights=True))
        digests.add(hashlib.sha256(Store(tmp_path / name).weights(trial.id)).hexdigest())
    assert len(digests) == 1


def test_a_wrong_file_stores_no_result(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"x")
    trial = small_trials(tmp_path, weights={"file": "a.pth", "sha256": DIGEST})[0]
    with pytest.raises(DataError, match="has sha256"):
        result_of(trial, site(tmp_path, beside=tmp_path))
    assert Store(tmp_path / "results").get(trial.id) is None


def test_the_core_reads_what_a_trial_keeps(tmp_path):
    from hrnet_core import from_checkpoint

    file = tmp_path / "pose.safetensors"
    file.write_bytes(weights.packed(hrnet(), trial_id="ab"))
    assert from_checkpoint(file, upsample="nearest").config.stream_widths == (16, 32, 64, 128)


def test_a_pose_net_starts_a_wider_readout_on_drawn_figures(tmp_path):
    recipe = {
        "task": {"name": "pose", "size": [32, 32], "sigma": 1.0}, "dataset": {"name": "figures", "train": 4, "val": 4},
        "model": {"name": "hrnet", "width": 4, "blocks": 1, "modules": [1, 1, 1], "stage1_blocks": 1},
        "train": {"epochs": 1, "batch": 4, "precision": "fp32"},
    }  # fmt: skip
    study = {"factors": {"output": {"at": "model.output", "levels": ["v1", "v2"]}}, "metrics": ["AP"], "plugins": []}
    place = site(tmp_path, keep_weights=True)
    pose = Design(load(write_study(tmp_path, recipe=recipe, **study))).trials[0]
    assert result_of(pose, place).status == "done"
    kept = Store(place.results).folder(pose.id) / "weights.safetensors"
    start_from = {"weights": {"file": str(kept), "sha256": hashlib.sha256(kept.read_bytes()).hexdigest()}}
    other = Design(load(write_study(tmp_path, recipe=recipe | start_from, **study))).trials[1]
    with torch.device("meta"):
        total = sum(p.numel() for p in build(other.recipe).backbone.parameters())
    result = result_of(other, place)
    loaded, of = (int(n.replace(",", "")) for n in re.findall(r"[\d,]{4,}", result.env["starting weights"]))
    assert (result.status, of) == ("done", total)
    assert 0.9 * total < loaded < total
