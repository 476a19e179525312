"""Checkpoints of every family give back what their network computes; what does not fit is one line.

The body that the expected values come from is timm's, its upsampling exchanged where a family's differs.
"""

import io
import pickle
from functools import cache
from zipfile import ZipFile

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torch.nn import functional as F

from hrnet_core import HRNet, HRNetConfig, from_checkpoint
from hrnet_core.config import FUSIONS
from hrnet_core.fusion import DOWNSAMPLES, OPERATORS, ROUTES
from hrnet_core.infer import infer_config

WIDTHS = (16, 32, 64, 128)  # of hrnet_w18_small
IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@cache
def trunk(upsample: str = "nearest", align_corners: bool | None = None) -> nn.Module:
    """timm's body without a head, with random weights and statistics of a random batch."""
    torch.manual_seed(0)
    model = timm.create_model("hrnet_w18_small", features_only=True, feature_location="", out_indices=(1, 2, 3, 4))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.momentum = None
        if isinstance(module, nn.Upsample):
            module.mode, module.align_corners = upsample, align_corners
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 64, 96))
    return model.eval()


def maps_of(body: nn.Module) -> list[torch.Tensor]:
    with torch.no_grad():
        return body(IMAGE)


def concatenated(maps: list[torch.Tensor], align_corners: bool = False) -> torch.Tensor:
    size = maps[0].shape[2:]
    up = [F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners) for x in maps[1:]]
    return torch.cat([maps[0], *up], dim=1)


def layer(name: str, out: int, source: int, kernel: int = 1, bias: bool = True) -> dict[str, torch.Tensor]:
    weights = {f"{name}.weight": torch.randn(out, source, kernel, kernel) / (source * kernel**2) ** 0.5}
    return weights | ({f"{name}.bias": torch.randn(out)} if bias else {})


def batch_norm(name: str, channels: int) -> dict[str, torch.Tensor]:
    values = {
        "weight": torch.rand(channels) + 0.5,
        "bias": torch.randn(channels),
        "running_mean": torch.randn(channels),
    }
    values |= {"running_var": torch.rand(channels) + 0.5, "num_batches_tracked": torch.tensor(7)}
    return {f"{name}.{key}": value for key, value in values.items()}


def finest_only(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if not k.startswith(tuple(f"stage4.0.fuse_layers.{i}" for i in (1, 2, 3)))}


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


def equal(ours: object, theirs: object) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(2)
    with torch.no_grad():
        yield


HEATMAP_LAYOUTS = {
    "pose": ("", "final_layer"),
    "mmpose 0.x": ("backbone.", "keypoint_head.final_layer"),
    "mmpose 1.x": ("backbone.", "head.final_layer"),
}


@pytest.mark.parametrize("layout", HEATMAP_LAYOUTS)
def test_pose_gives_heatmaps(layout):
    prefix, name = HEATMAP_LAYOUTS[layout]
    head = layer("h", 17, WIDTHS[0])
    state = prefixed(prefix, finest_only(trunk().state_dict())) | {
        key.replace("h.", f"{name}.", 1): value for key, value in head.items()
    }
    model = from_checkpoint({"state_dict": state})
    equal(model(IMAGE), F.conv2d(maps_of(trunk())[0], head["h.weight"], head["h.bias"]))
    assert model.config == HRNetConfig(
        width=16, modules=(1, 1, 1), blocks=2, stage1_blocks=1, stage1_planes=32, multi_scale_output=False
    )
    assert not model.training
    assert not model.leftover


SEGMENTATION_LAYOUTS = {  # where the mixing convolution, its normalisation and the classifier stand
    "segmentation": ("model.", "model.last_layer.0", "model.last_layer.1", "model.last_layer.3"),
    "face": ("", "head.0", "head.1", "head.3"),
    "mmpose_v2 0.x": ("backbone.", *(f"keypoint_head.final_layer.{i}" for i in (0, 1, 3))),
    "mmpose_v2 1.x": ("backbone.", "head.conv_layers.0", "head.conv_layers.1", "head.final_layer"),
    "mmseg": ("backbone.", "decode_head.convs.0.conv", "decode_head.convs.0.bn", "decode_head.conv_seg"),
}


@pytest.mark.parametrize("layout", SEGMENTATION_LAYOUTS)
def test_segmentation_gives_logits(layout):
    prefix, mixing, norm, classifier = SEGMENTATION_LAYOUTS[layout]
    body, wide = trunk("bilinear", False), sum(WIDTHS)
    mix, normed, classify = layer("m", wide, wide, bias=layout != "mmseg"), batch_norm("n", wide), layer("c", 19, wide)
    state = prefixed(prefix, body.state_dict())
    for short, place, part in (("m", mixing, mix), ("n", norm, normed), ("c", classifier, classify)):
        state |= {key.replace(f"{short}.", f"{place}.", 1): value for key, value in part.items()}
    state |= {"loss.criterion.weight": torch.ones(19)}
    model = from_checkpoint(state)
    x = F.conv2d(concatenated(maps_of(body)), mix["m.weight"], mix.get("m.bias"))
    x = F.batch_norm(x, normed["n.running_mean"], normed["n.running_var"], normed["n.weight"], normed["n.bias"]).relu()
    equal(model(IMAGE), F.conv2d(x, classify["c.weight"], classify["c.bias"]))
    assert model.family == layout.split()[0]
    assert model(IMAGE).shape == (2, 19, 16, 24)


# From the official names (HRNet-OCR branch) to mmsegmentation's (ocr_head.py, self_attention_block.py, fcn_head.py).
MMSEG_OCR_NAMES = {
    "aux_head.0.": "decode_head.0.convs.0.conv.",
    "aux_head.1.": "decode_head.0.convs.0.bn.",
    "aux_head.3.": "decode_head.0.conv_seg.",
    "cls_head.": "decode_head.1.conv_seg.",
    "conv3x3_ocr.0.": "decode_head.1.bottleneck.conv.",
    "conv3x3_ocr.1.": "decode_head.1.bottleneck.bn.",
    "ocr_distri_head.object_context_block.f_pixel.0.": "decode_head.1.object_context_block.query_project.0.conv.",
    "ocr_distri_head.object_context_block.f_pixel.1.0.": "decode_head.1.object_context_block.query_project.0.bn.",
    "ocr_distri_head.object_context_block.f_pixel.2.": "decode_head.1.object_context_block.query_project.1.conv.",
    "ocr_distri_head.object_context_block.f_pixel.3.0.": "decode_head.1.object_context_block.query_project.1.bn.",
    "ocr_distri_head.object_context_block.f_object.0.": "decode_head.1.object_context_block.key_project.0.conv.",
    "ocr_distri_head.object_context_block.f_object.1.0.": "decode_head.1.object_context_block.key_project.0.bn.",
    "ocr_distri_head.object_context_block.f_object.2.": "decode_head.1.object_context_block.key_project.1.conv.",
    "ocr_distri_head.object_context_block.f_object.3.0.": "decode_head.1.object_context_block.key_project.1.bn.",
    "ocr_distri_head.object_context_block.f_down.0.": "decode_head.1.object_context_block.value_project.conv.",
    "ocr_distri_head.object_context_block.f_down.1.0.": "decode_head.1.object_context_block.value_project.bn.",
    "ocr_distri_head.object_context_block.f_up.0.": "decode_head.1.object_context_block.out_project.conv.",
    "ocr_distri_head.object_context_block.f_up.1.0.": "decode_head.1.object_context_block.out_project.bn.",
    "ocr_distri_head.conv_bn_dropout.0.": "decode_head.1.object_context_block.bottleneck.conv.",
    "ocr_distri_head.conv_bn_dropout.1.0.": "decode_head.1.object_context_block.bottleneck.bn.",
}


def ocr_weights(bias: bool, classes: int = 5, middle: int = 32, keys: int = 16) -> dict[str, torch.Tensor]:
    wide, block = sum(WIDTHS), "ocr_distri_head.object_context_block"
    weights = layer("aux_head.0", wide, wide, bias=bias) | batch_norm("aux_head.1", wide)
    weights |= layer("aux_head.3", classes, wide) | layer("cls_head", classes, middle)
    weights |= layer("conv3x3_ocr.0", middle, wide, 3, bias=bias) | batch_norm("conv3x3_ocr.1", middle)
    for name in ("f_pixel", "f_object"):
        weights |= layer(f"{block}.{name}.0", keys, middle, bias=False) | batch_norm(f"{block}.{name}.1.0", keys)
        weights |= layer(f"{block}.{name}.2", keys, keys, bias=False) | batch_norm(f"{block}.{name}.3.0", keys)
    for name, out, source in (("f_down", keys, middle), ("f_up", middle, keys)):
        weights |= layer(f"{block}.{name}.0", out, source, bias=False) | batch_norm(f"{block}.{name}.1.0", out)
    weights |= layer("ocr_distri_head.conv_bn_dropout.0", middle, 2 * middle, bias=False)
    return weights | batch_norm("ocr_distri_head.conv_bn_dropout.1.0", middle)


@pytest.mark.parametrize("family", ["ocr", "mmseg_ocr"])
def test_ocr_gives_auxiliary_and_main_logits(family):
    official = family == "ocr"
    body = trunk("bilinear", official)  # align_corners: True in the official OCR networks, False in mmsegmentation
    weights = ocr_weights(bias=official)
    if official:
        state = prefixed("model.", body.state_dict() | weights)
    else:
        state = prefixed("backbone.", body.state_dict()) | rename(weights, MMSEG_OCR_NAMES)
    model = from_checkpoint(state)
    assert model.family == family
    auxiliary, main = model(IMAGE)
    assert main.shape == (2, 5, 16, 24)
    wide = concatenated(maps_of(body), align_corners=official)
    equal([auxiliary, main], model.head([wide]))  # the head itself: test_hrnet_parts.py
    x = F.conv2d(wide, weights["aux_head.0.weight"], weights.get("aux_head.0.bias"))
    moments = weights["aux_head.1.running_mean"], weights["aux_head.1.running_var"]
    x = F.batch_norm(x, *moments, weights["aux_head.1.weight"], weights["aux_head.1.bias"]).relu()
    equal(auxiliary, F.conv2d(x, weights["aux_head.3.weight"], weights["aux_head.3.bias"]))
    kept = model.head.state_dict()
    assert all(torch.equal(kept[key], value) for key, value in weights.items())


def rename(weights: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, value in weights.items():
        start = max((name for name in names if key.startswith(name)), key=len)
        renamed[names[start] + key.removeprefix(start)] = value
    return renamed


DETECTION_LAYOUTS = {
    "official": ("neck.reduction_conv.0", "neck.fpn_conv.{}"),
    "mmdetection": ("neck.reduction_conv.conv", "neck.fpn_convs.{}.conv"),
}


@pytest.mark.parametrize("fcos", [False, True])
@pytest.mark.parametrize("layout", DETECTION_LAYOUTS)
def test_detectors_give_the_pyramid_and_hand_their_heads_back(layout, fcos):
    reduction, level = DETECTION_LAYOUTS[layout]
    reduce, convs = layer("r", 24, sum(WIDTHS)), [layer("l", 24, 24, kernel=3) for _ in range(5)]
    state = prefixed("backbone.", trunk().state_dict())
    state |= {key.replace("r.", f"{reduction}.", 1): value for key, value in reduce.items()}
    for i, conv in enumerate(convs):
        state |= {key.replace("l.", f"{level.format(i)}.", 1): value for key, value in conv.items()}
    heads = {"bbox_head.conv_centerness.weight" if fcos else "roi_head.bbox_head.fc_cls.weight": torch.ones(3)}
    model = from_checkpoint(state | heads)
    finest = F.conv2d(concatenated(maps_of(trunk())), reduce["r.weight"], reduce["r.bias"])
    pooled = [finest, *(F.avg_pool2d(finest, 2**i) for i in range(1, 5))]
    stride = 2 if fcos else 1  # mmdetection's FCOS: HRFPN(stride=2)
    expected = [
        F.conv2d(x, conv["l.weight"], conv["l.bias"], stride=stride, padding=1)
        for x, conv in zip(pooled, convs, strict=True)
    ]
    equal(model(IMAGE), expected)
    assert model.leftover.keys() == heads.keys()
    assert model.neck.strides == tuple(4 * stride * 2**i for i in range(5))


WRAPPERS = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "meta": {"version": "1"}},
    "module": lambda state: prefixed("module.", state),
    "nested": lambda state: {"model": prefixed("module.model.", state), "optimizer": {"state": {}}},
    "no counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    "thop": lambda state: state | {"total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_and_training_extras_do_not_matter(wrapper):
    state = finest_only(trunk().state_dict()) | layer("final_layer", 17, WIDTHS[0])
    equal(from_checkpoint(WRAPPERS[wrapper](state))(IMAGE), from_checkpoint(state)(IMAGE))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_load_like_state_dicts(tmp_path, suffix):
    from safetensors.torch import save_file

    state = finest_only(trunk().state_dict()) | layer("final_layer", 17, WIDTHS[0])
    path = tmp_path / f"pose{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    for source in (path, str(path)):
        equal(from_checkpoint(source)(IMAGE), from_checkpoint(state)(IMAGE))


def test_a_loaded_network_shares_nothing_with_its_source():
    state = {key: value.clone() for key, value in trunk().state_dict().items()}
    model = from_checkpoint(state, family="classification")
    before = model(IMAGE)[0].clone()
    for value in state.values():
        value.zero_()
    equal(model(IMAGE)[0], before)


@pytest.mark.parametrize(
    ("choices", "upsample", "align_corners"),
    [
        ({"family": "classification"}, "nearest", False),
        ({"family": "segmentation"}, "bilinear", False),
        ({"family": "ocr"}, "bilinear", True),
        ({"upsample": "bilinear", "align_corners": True}, "bilinear", True),
        ({"family": "ocr", "upsample": "nearest"}, "nearest", False),
    ],
)
def test_a_body_alone_takes_its_upsampling_from_the_caller(choices, upsample, align_corners):
    body = trunk(upsample, align_corners if upsample == "bilinear" else None)
    model = from_checkpoint(body.state_dict(), **choices)
    assert (model.config.upsample, model.config.align_corners) == (upsample, align_corners)
    equal(model(IMAGE), maps_of(body))


def test_the_caller_overrules_the_family():
    state = finest_only(trunk().state_dict()) | layer("final_layer", 17, WIDTHS[0])
    assert from_checkpoint(state, upsample="bilinear").config.upsample == "bilinear"


def test_without_its_head_a_network_gives_maps():
    state = trunk().state_dict() | layer("final_layer", 17, WIDTHS[0]) | {"other.weight": torch.ones(2)}
    model = from_checkpoint(state, head=False)
    equal(model(IMAGE), maps_of(trunk()))
    assert model.leftover.keys() == {"final_layer.weight", "final_layer.bias", "other.weight"}
    model = from_checkpoint(state, ignore=["other."])
    assert model.leftover.keys() == {"other.weight"}
    assert model(IMAGE).shape == (2, 17, 16, 24)


SMALL = {"width": 8, "modules": (1, 2, 2), "blocks": 1, "stage1_blocks": 1, "stage1_planes": 8, "stem_width": 8}
ABLATED = [
    *({"fusions": fusions} for fusions in (*FUSIONS, (1, 3, 4), ())),
    *({"routes": routes} for routes in ROUTES),
    *({"operator": operator} for operator in OPERATORS if operator != "geometric_mean"),  # as a sum, it leaves no trace
    *({"downsample": downsample} for downsample in DOWNSAMPLES),
    *({"streams": streams} for streams in range(1, 7)),
    {"parallel_from_start": True},
    {"widths": (8, 12, 10, 6)},
    {"blocks": (1, 2, 1)},
    {"norm": "group"},
    {"in_channels": 1},
    {"multi_scale_output": False},
    {"multi_scale_output": False, "fusions": "final"},
]


@pytest.mark.parametrize("knobs", ABLATED, ids=str)
def test_the_architecture_is_read_off_the_keys(knobs):
    config = HRNetConfig(**(SMALL | knobs))
    found = infer_config(HRNet(config).state_dict())
    assert (found.stages, found.stage_modules, found.stage_blocks) == (
        config.stages,
        config.stage_modules,
        config.stage_blocks,
    )
    same = {"modules": config.modules, "blocks": config.blocks}  # two ways to say the same
    assert HRNetConfig(**(vars(found) | same)) == config


def test_what_keys_do_not_show_can_be_said():
    torch.manual_seed(0)
    ablated = HRNet(HRNetConfig(**SMALL, stem_stride=2)).eval()
    model = from_checkpoint(ablated.state_dict(), config=ablated.config)
    equal(model(IMAGE), ablated(IMAGE))


def pose_state() -> dict[str, torch.Tensor]:
    return finest_only(trunk().state_dict()) | layer("final_layer", 17, WIDTHS[0])


def without(*keys: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in pose_state().items() if key not in keys}


REFUSED = [
    (lambda: trunk().state_dict(), ["(a body alone)", "upsample='nearest' or 'bilinear'", "family="]),
    (lambda: trunk().state_dict() | {"deconv.weight": torch.ones(1)}, ["deconv.weight", "upsample="]),
    (lambda: without("layer1.0.bn2.running_var"), ["missing: layer1.0.bn2.running_var"]),
    (lambda: without("conv1.weight"), ["missing: conv1.weight"]),
    (lambda: without("final_layer.bias"), ["missing: final_layer.bias"]),
    (
        lambda: pose_state() | {"deconv.0.weight": torch.ones(1)},
        ["left over: deconv.0.weight", "head=False", "ignore="],
    ),
    (lambda: pose_state() | {"bn1.weight": torch.ones(7)}, ["bn1.weight (7,) instead of (64,)"]),
    (lambda: timm.create_model("resnet18").state_dict(), ["no HRNet in it", "it begins with conv1.weight"]),
    (lambda: {}, ["no HRNet in it"]),
    (
        lambda: {"state_dict": pose_state(), "best_state_dict": pose_state()},
        ["several networks", "entry=", "best_state_dict"],
    ),
]


@pytest.mark.parametrize(("source", "words"), REFUSED, ids=lambda x: x[0] if isinstance(x, list) else "")
def test_what_does_not_fit_is_listed_in_one_line(source, words):
    with pytest.raises(ValueError, match=r"^checkpoint: ") as caught:
        from_checkpoint(source())
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_of_several_networks_can_be_chosen():
    other = {key: torch.zeros_like(value) for key, value in pose_state().items()}
    source = {"state_dict": other, "best_state_dict": pose_state()}
    assert from_checkpoint(source, entry="best_state_dict")(IMAGE).abs().sum() > 0
    assert from_checkpoint(source, entry="state_dict")(IMAGE).abs().sum() == 0


@pytest.mark.parametrize(
    ("choices", "words"),
    [({"family": "posse"}, "did you mean 'pose'"), ({"upsample": "cubic"}, "upsample: 'cubic' is not one of")],
)
def test_wrong_choices_are_refused(choices, words):
    with pytest.raises(ValueError, match=words):
        from_checkpoint(pose_state(), **choices)


class Harmful:
    def __reduce__(self):
        return (print, ("this must not run",))


def damaged(tmp_path, kind: str):
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "code":
        path.write_bytes(pickle.dumps({"state_dict": Harmful()}))
    elif kind == "code inside torch":
        torch.save({"state_dict": {}, "meta": Harmful()}, path)
    elif kind == "cut off":
        torch.save(pose_state(), path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == "a tensor":
        torch.save(torch.ones(3), path)
    elif kind != "absent":
        path.write_bytes(b"<html>sign in to download</html>" * (kind != "empty"))
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("code", "is damaged or no checkpoint"),
        ("code inside torch", "holds code (print)"),
        ("cut off", "is damaged or no checkpoint"),
        ("a web page", "is damaged or no checkpoint"),
        ("safetensors", "is damaged or no checkpoint"),
        ("empty", "is damaged or no checkpoint"),
        ("a tensor", "holds a Tensor, not a state dict"),
        ("absent", "no file at"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(tmp_path, capsys, kind, words):
    path = damaged(tmp_path, kind)
    with pytest.raises(ValueError, match=r"^checkpoint: ") as caught:
        from_checkpoint(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "must not run" not in capsys.readouterr().out


# -- files that were made to do harm ---------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """A checkpoint of mappings within each other, written by hand: pickle itself would go too deep."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"w": torch.zeros(1)}}, buffer)
    made = io.BytesIO()
    with ZipFile(buffer) as good, ZipFile(made, "w") as file:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("data.pkl"):  # protocol 2, mappings, and SETITEM for each of them at the end
                within = content[2:-1]
                content = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * depth + within + b"s" * depth + b"."
            file.writestr(name, content)
    return made.getvalue()


def claims(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(()).expand(shape)


def wide_state() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        net = HRNet(HRNetConfig(width=48))
    return {key: claims(tuple(value.shape)) for key, value in net.state_dict().items()}


def sharing_state() -> dict[str, torch.Tensor]:
    """All tensors of a network over the numbers of its largest one."""
    state = wide_state()
    numbers = torch.zeros(max(value.numel() for value in state.values()))
    return {key: numbers[: value.numel()].view(value.shape) for key, value in state.items()}


HARM = {
    "deep": (nested(3000), "more than 20 deep"),
    "dots": ({"a." * 20_000 + "w": torch.zeros(1)}, "20,000 dots"),
    "long": ({"a" * 10_000: torch.zeros(1)}, "a name of 10,000 characters"),
    "numbers": ({3: torch.zeros(1), (1, 2): torch.zeros(1), None: torch.zeros(1)}, "no tensor under a name"),
    "below a number": ({3: {"w": torch.zeros(1)}}, "no tensor under a name"),
    "expanded": ({"w": claims((10**6, 10**6))}, "claims 4,000,000,000,000 bytes"),
    "nothing of a shape": ({"conv1.weight": torch.zeros(2**40, 0, 3, 3)}, "has no numbers"),
}


@pytest.mark.parametrize("name", HARM)
def test_a_file_that_was_made_to_do_harm_is_one_line(tmp_path, name):
    content, message = HARM[name]
    file = tmp_path / "w.pth"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(ValueError, match=message) as caught:
        from_checkpoint(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("made", [wide_state, sharing_state])
def test_a_network_larger_than_its_file_is_not_made(tmp_path, made):
    torch.save(made(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="bytes of numbers, and has"):
        from_checkpoint(tmp_path / "w.pth")


def test_what_stands_twice_in_a_file_is_no_harm(tmp_path):
    """A state dict under two names, tied tensors and a small expanded buffer are found in files of good faith."""
    state = pose_state()
    torch.save({"model": state, "args": {"ema": state}, "ids": claims((1000,))}, tmp_path / "w.pth")
    assert from_checkpoint(tmp_path / "w.pth", entry="model").config == from_checkpoint(state).config


def test_keys_that_name_a_thousand_blocks_build_none():
    state = pose_state()
    state |= {f"stage2.{module}.branches.0.0.conv1.weight": torch.zeros(1) for module in range(1000)}
    with pytest.raises(ValueError, match="its keys name 4,015 blocks"):
        from_checkpoint(state)


def test_a_file_of_more_tensors_than_any_network_is_one_line(tmp_path):
    safetensors.torch.save_file({f"w{n}": torch.zeros(0) for n in range(50_001)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="50,001 tensors, more than any network"):
        from_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.parametrize("key", ["conv1.weight", "final_layer.weight", "stage4.0.branches.0.0.conv1.weight"])
@pytest.mark.parametrize("shape", [(), (64,)])
def test_a_weight_of_too_few_dimensions_is_one_line(key, shape):
    with pytest.raises(ValueError, match="checkpoint: "):
        from_checkpoint(pose_state() | {key: torch.zeros(shape)})
