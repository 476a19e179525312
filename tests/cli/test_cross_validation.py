"""A study on a cross-validated folder, from its file to its report."""

import json

import cv2
import numpy as np
import pytest

from ablate.storage import Store


@pytest.fixture
def study(tmp_path):
    """Discs on noise: eight images, four parts, two arms."""
    rows, columns = np.mgrid[:48, :48]
    for number in range(8):
        rng = np.random.default_rng(number)
        disc = (rows - rng.uniform(12, 36)) ** 2 + (columns - rng.uniform(12, 36)) ** 2 < 100
        image = (disc * 150 + rng.integers(0, 60, disc.shape)).astype(np.uint8)
        for kind, pixels in (("images", image), ("labels", disc.astype(np.uint8))):
            (tmp_path / "discs" / kind).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(tmp_path / "discs" / kind / f"{number}.png"), pixels)
    document = {
        "name": "discs",
        "question": "Does width help?",
        "recipe": {
            "task": {"name": "segmentation", "size": [32, 32]},
            "dataset": {
                "name": "label_folder", "set": "discs", "images": "images", "labels": "labels/{name}.png",
                "classes": ["background", "disc"], "folds": 4, "spacing": [0.5, 0.5],
            },
            "model": {"name": "hrnet", "width": 4, "stem_width": 8, "stage1_planes": 4, "blocks": 1, "stage1_blocks": 1,
                      "modules": [1, 1, 1], "output": "v2"},
            "train": {"preset": "segmentation", "epochs": 2, "batch": 3, "lr": 0.1},
        },
        "factors": {"width": {"at": "model.width", "levels": [4, 8]}},
        "metrics": ["Dice", "HD95", "mIoU"],
        "seeds": 4,
        "budget": {"keep_predictions": True},
    }  # fmt: skip
    file = tmp_path / "discs.yaml"
    file.write_text(json.dumps(document))
    return file


@pytest.mark.slow
def test_each_seed_has_its_part_and_the_report_its_intervals(called, study, tmp_path):
    assert called("run", study, "--local", "--data", tmp_path)[0] == 0
    store = Store(tmp_path / "results")
    results = list(store.read().results.values())
    tested = {}
    for result in results:
        arrays = store.statistics(result.id)
        assert {name.partition("/")[0] for name in arrays} >= {"mean_iou", "dice", "hausdorff"}
        tested.setdefault(result.seed, set()).add(tuple(arrays["dice/image_ids"]))
        assert 0 <= result.scores["Dice"] <= 1
    assert tested == {seed: {(2 * seed + 1, 2 * seed + 2)} for seed in range(4)}
    assert len({json.dumps(result.data_digest) for result in results}) == 1
    assert called("report", study, "--data", tmp_path, "--pictures", "--format", "md", "--to", "report")[0] == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "HD95" in text
    assert "Pictures" in text
    asked = json.loads(study.read_text()) | {"metrics": ["mIoU"]}
    study.write_text(json.dumps(asked))
    assert "0 trials to run" in called("run", study, "--local", "--data", tmp_path)[2]
    assert called("run", study, "--local", "--data", tmp_path, "--results", "other")[0] == 0
    assert not any("Dice" in result.scores for result in Store(tmp_path / "other").read().results.values())
