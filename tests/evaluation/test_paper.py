"""`ablate paper --evaluate`: rows whose files are there are scored, the others are named with their address."""

import json

import painted
import torch
from test_checkpoints import pose

from ablate.evaluation import published


def test_a_row_whose_file_is_there_is_scored_and_the_others_are_named(called, tmp_path):
    people = painted.people(tmp_path, images=2)
    people.rename(tmp_path / "coco2017")
    for split in ("train", "val"):
        file = tmp_path / f"coco2017/annotations/person_keypoints_{split}.json"
        file.rename(file.with_stem(f"{file.stem}2017"))
        (tmp_path / f"coco2017/images/{split}").rename(tmp_path / f"coco2017/images/{split}2017")
    *_, state = pose()
    (tmp_path / "files").mkdir()
    torch.save(state, tmp_path / "files" / "pose_hrnet_w32_256x192.pth")
    status, out, err = called("paper", "--evaluate", "files", "--data", tmp_path, "--task", "pose", "--json")
    assert status == 0, err
    rows = json.loads(out)
    (row,) = [row for row in rows if row["file"]]
    assert (row["row"], row["published"]) == ("pose_coco/pose_hrnet_w32_256x192.pth", 0.744)
    assert row["difference"] == row["ours"] - 0.744
    assert "no digest is published" in row["why"]
    status, out, _ = called("paper", "--evaluate", "files", "--data", tmp_path, "--task", "segmentation")
    assert status == 0
    missing = [line for line in out.splitlines() if line.startswith("missing: ")]
    assert len(missing) == sum(row.task == "segmentation" for row in published.of_hrnet()) > 40
    assert any("sha256 93db27d0..." in line and "https://" in line for line in missing)
    assert any("no digest is published" in line for line in missing)
