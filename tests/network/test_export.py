"""Export: what one study trained is what another starts from; whatever stands in the way is one line."""

import pytest
from small_studies import small_study, write_study

from ablate.storage import Store
from ablate.study import Design, load

pytestmark = pytest.mark.usefixtures("small_shelf")


def recipe(**changes) -> dict:
    return small_study()["recipe"] | changes


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
