"""The script that pretrains, exports, fine-tunes and compares runs from its first step to its last."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch

import ablate

ROOT = Path(__file__).parent.parent
SMALL = ("dataset.train=16", "dataset.val=8", "train.epochs=1", "train.batch=8")


@pytest.mark.slow
def test_the_route_leads_from_pretraining_to_a_comparison(tmp_path):
    folder = tmp_path / "route"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ABLATE_", "MLFLOW_"))}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, ROOT / "docs" / "pretrain.py", folder, *SMALL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tensors = safetensors.torch.load_file(folder / "pretrained.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {"backbone", "head"}
    found = ablate.evidence(ablate.load_study(folder / "finetune.yaml"), results=folder / "results", images=False)
    trials = found.to_frame("trials")
    assert set(trials.status) == {"done"}
    assert sorted(trials["level/start"]) == ["pretrained"] * 3 + ["scratch"] * 3
    (comparison,) = found.comparisons_in("AP")
    assert comparison.arm == "pretrained"
