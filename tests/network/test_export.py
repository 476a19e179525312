"""Export: what one study trained is what another starts from; whatever stands in the way is one line."""

import json

import pytest
from small_studies import small_study, write_study

from ablate.storage import Store
from ablate.study import Design, load

pytestmark = pytest.mark.usefixtures("small_shelf")


def recipe(**changes) -> dict:
    return small_study()["recipe"] | changes


@pytest.mark.slow
def test_a_trained_backbone_becomes_the_start_of_another_study(called, tmp_path):
    study = write_study(tmp_path, budget={"keep_weights": True}, seeds=[0])
    assert called("run", study, "--local")[0] == 0
    trial = Design(load(study)).trials[0].id
    status, out, _ = called("export", trial[:6], "--to", "checkpoints.safetensors")
    assert status == 0
    words = out.removeprefix("weights: {").rstrip("}\n").split(", ")
    start = dict(word.split(": ") for word in words)
    assert start["file"] == "checkpoints.safetensors"
    study = write_study(tmp_path, name="second", recipe=recipe(weights=start), seeds=[0])
    assert called("run", study, "--local")[0] == 0  # found beside the study file
    results = [Store(tmp_path / "results").get(trial.id) for trial in Design(load(study)).trials]
    assert all(result.env["starting weights"].startswith("checkpoints.safetensors: ") for result in results)


@pytest.mark.slow
def test_damaged_weights_are_not_exported(called, tmp_path):
    study = write_study(tmp_path, budget={"keep_weights": True}, seeds=[0])
    assert called("run", study, "--local")[0] == 0
    trial = Design(load(study)).trials[0].id
    kept = tmp_path / "results" / "trials" / trial / "weights.safetensors"
    content = bytearray(kept.read_bytes())
    content[-3] ^= 1
    kept.write_bytes(content)
    text = one_line(called("export", trial, "--to", "a.safetensors"))
    assert "weights.safetensors: damaged: not what the trial kept" in text
    assert not (tmp_path / "a.safetensors").exists()


def one_line(answer: tuple[int, str, str]) -> str:
    status, out, err = answer
    assert (status, out, err.count("\n")) == (2, "", 1), err
    return err


@pytest.mark.slow
def test_what_cannot_be_exported_is_one_line(called, tmp_path):
    study = write_study(tmp_path, seeds=[0])
    assert called("run", study, "--local")[0] == 0
    trial = Design(load(study)).trials[0].id
    assert "not kept; set keep_weights: true in the study's budget" in one_line(
        called("export", trial, "--to", "a.pth")
    )
    (Store(tmp_path / "results").folder(trial) / "weights.safetensors").write_bytes(b"tensors")
    assert "--to a.pth: does not end in .safetensors" in one_line(called("export", trial, "--to", "a.pth"))
    assert called("export", trial, "--to", "a.safetensors")[0] == 0
    assert "a.safetensors: is there already" in one_line(called("export", trial, "--to", "a.safetensors"))


def test_a_wrong_checkpoint_stops_a_run_before_any_training(called, tmp_path):
    for name in ("absent", "wrong"):
        (tmp_path / "wrong.pth").write_bytes(b"other content")
        weights = {"file": f"{name}.pth", "sha256": "a" * 64}
        status, _, err = called("run", write_study(tmp_path, recipe=recipe(weights=weights)), "--local")
        line = err.splitlines()[-1]
        assert (status, line.startswith("ablate: recipe.weights: ")) == (2, True)
        assert {"absent": "no file at ", "wrong": "wrong.pth has sha256 "}[name] in line
    assert not list((tmp_path / "results").glob("trials/*"))


DRAWN = {"val": 5, "train": 8, "size": [48, 48]}


@pytest.fixture
def kept(called, tmp_path):
    """A trial of a small pose network whose weights are kept: its id and its scores."""
    return trained(called, tmp_path)


def trained(called, tmp_path, **task):
    network = {
        "task": {"name": "pose", "size": [32, 32], **task},
        "dataset": {"name": "figures", **DRAWN},
        "model": {"name": "dots", "width": 4},
        "train": {"epochs": 1, "batch": 4, "lr": 0.01, "precision": "fp32", "memory_format": "contiguous"},
    }
    study = write_study(tmp_path, recipe=network, metrics=["AP"], seeds=1, budget={"keep_weights": True})
    status, out, err = called("trial", study, "--seed", "0", "--json")
    assert status == 0, err
    found = json.loads(out)
    return found["id"], found["scores"]


def evaluated(called, file) -> dict:
    knobs = [f"dataset.{name}={value}" for name, value in {"name": "figures", **DRAWN}.items()]
    words = [word for knob in [*knobs, "task.size=[32, 32]"] for word in ("--set", knob)]
    status, out, err = called("evaluate", file, "--task", "pose", *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_an_exported_network_scores_what_its_trial_scored(called, kept):
    trial, scores = kept
    assert called("export", trial, "--to", "net.safetensors")[0] == 0
    found = evaluated(called, "net.safetensors")
    assert found["scores"] == pytest.approx(scores, abs=1e-5)
    assert "dots, trained by ablate" in found["subject"]["network"]
    assert called("export", "net.safetensors", "--to", "again.safetensors")[0] == 0
    assert evaluated(called, "again.safetensors")["scores"] == found["scores"]


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
def test_a_program_is_no_checkpoint(called, tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    assert f"{name}: holds a program, not weights" in one_line(called("export", name, "--to", "more.safetensors"))
    if name == "net.pt2":
        words = ("--task", "pose", "--set", "dataset.name=figures")
        assert "predict read programs as .onnx" in one_line(called("evaluate", name, *words))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_an_exported_program_agrees_with_its_network_at_two_sizes(called, kept, suffix):
    trial, scores = kept
    status, out, err = called("export", trial, "--to", f"net{suffix}", "--json")
    assert status == 0, err
    compared = json.loads(out)["compared"]
    assert [one["size"] for one in compared] == [[32, 32], [96, 96]]
    assert all(one["difference"] < 1e-4 for one in compared)
    if suffix == ".onnx":
        assert evaluated(called, "net.onnx")["scores"] == pytest.approx(scores, abs=1e-3)


@pytest.mark.slow
def test_a_released_network_is_exported_with_its_head(called, tmp_path):
    import torch

    from hrnet_core import HeatmapHead, HRNet, HRNetConfig

    body = HRNet(
        HRNetConfig(
            width=4, modules=(1, 1, 1), blocks=1, stage1_blocks=1, stage1_planes=8, stem_width=8,
            multi_scale_output=False,
        )
    )  # fmt: skip
    head = HeatmapHead(body.channels, joints=17)
    state = {f"module.{name}": value for part in (body, head) for name, value in part.state_dict().items()}
    torch.save(state, tmp_path / "net.pth")
    status, out, err = called("export", "net.pth", "--to", "net.onnx", "--size", "64", "96", "--json")
    assert status == 0, err
    assert [one["size"] for one in json.loads(out)["compared"]] == [[64, 96], [128, 160]]
    assert called("export", "net.pth", "--to", "plain.safetensors")[0] == 0
    from safetensors.torch import load_file

    assert {name.removeprefix("module.") for name in state} == set(load_file(tmp_path / "plain.safetensors"))


@pytest.mark.slow
def test_simcc_is_written_with_both_outputs_at_its_size(called, tmp_path):
    """onnxruntime's own outputs are read by hand: the place of the highest of two bins a pixel."""
    import numpy as np
    import onnxruntime

    trial, scores = trained(called, tmp_path, head="simcc", size=[64, 48])
    for suffix in ("onnx", "pt2", "safetensors"):
        status, out, err = called("export", trial, "--to", f"net.{suffix}", "--json")
        assert status == 0, err
        compared = json.loads(out)["compared"]
        assert [one["size"] for one in compared] == ([] if suffix == "safetensors" else [[64, 48]])
        assert all(one["difference"] < 1e-4 for one in compared)
    text = one_line(called("export", trial, "--to", "other.onnx", "--size", "96", "48"))
    assert "other.onnx: the network's head reads images of 64 x 48 alone, not of 96 x 48" in text
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    images = np.random.default_rng(0).normal(size=(3, 3, 64, 48)).astype(np.float32)
    columns, rows = session.run(names, {"images": images})
    assert (names, columns.shape[::2], rows.shape[::2]) == (["simcc_x", "simcc_y"], (3, 96), (3, 128))
    knobs = [f"dataset.{name}={value}" for name, value in {"name": "figures", **DRAWN}.items()]
    words = [word for knob in knobs for word in ("--set", knob)]
    text = one_line(called("evaluate", "net.onnx", *words, "--set", "task.size=[32, 32]", "--task", "pose"))
    assert (
        "net.onnx: SimCC has outputs (B, 17, 64) and (B, 17, 64) here; its outputs are (5, 17, 96), (5, 17, 128)"
        in text
    )
    for file in ("net.onnx", "net.safetensors"):  # both say their size and their head
        status, out, err = called("evaluate", file, *words, "--task", "pose", "--json")
        assert status == 0, err
        assert json.loads(out)["scores"] == pytest.approx(scores, abs=1e-3)


@pytest.mark.slow
def test_higher_hrnet_is_written_with_its_tags(called, tmp_path):
    import numpy as np
    import onnxruntime
    import torch

    from hrnet_core import HigherHead, HRNet, HRNetConfig, from_checkpoint

    body = HRNet(
        HRNetConfig(
            width=4, modules=(1, 1, 1), blocks=1, stage1_blocks=1, stage1_planes=8, stem_width=8,
            multi_scale_output=False,
        )
    )  # fmt: skip
    head = HigherHead(body.channels, joints=17)
    torch.save(body.state_dict() | head.state_dict(), tmp_path / "net.pth")
    status, _, err = called("export", "net.pth", "--to", "new/net.onnx", "--size", "64", "96")
    assert status == 0, err
    (tmp_path / "file").touch()
    assert "file" in one_line(called("export", "net.pth", "--to", "file/net.onnx"))
    words = [f"--set={word}" for word in ("dataset.name=figures", "dataset.val=4", "task.size=[64, 64]")]
    both = [json.loads(called("evaluate", file, *words, "--json")[1]) for file in ("net.pth", "new/net.onnx")]
    assert [one["task"]["name"] for one in both] == ["bottom_up_pose"] * 2  # both files say so
    assert both[1]["scores"] == pytest.approx(both[0]["scores"], abs=1e-3, nan_ok=True)
    session = onnxruntime.InferenceSession("new/net.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(2, 3, 96, 64)).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {"images": images})
    assert names == ["heatmaps_and_tags", "heatmaps"]
    with torch.inference_mode():
        wanted = from_checkpoint(tmp_path / "net.pth")(torch.from_numpy(images))
    assert [one.shape for one in found] == [(2, 34, 24, 16), (2, 17, 48, 32)]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=1e-3, atol=1e-4)
