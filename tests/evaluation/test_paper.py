"""`ablate paper --evaluate`: rows whose files are there are scored, the others are named with their address."""

import json

import numpy as np
import painted
import pytest
import torch
from PIL import Image
from test_checkpoints import pose

from ablate.datasets import image_classes
from ablate.evaluation import published
from hrnet_core import ClassificationHead, HRNet, HRNetConfig, from_checkpoint


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
    assert row["also"].startswith("AP50 0.905, ours 0.")
    status, out, _ = called("paper", "--evaluate", "files", "--data", tmp_path, "--task", "segmentation")
    assert status == 0
    missing = [line for line in out.splitlines() if line.startswith("missing: ")]
    assert len(missing) == sum(row.task == "segmentation" for row in published.of_hrnet()) > 40
    assert any("sha256 93db27d0..." in line and "https://" in line for line in missing)
    assert any("no digest is published" in line for line in missing)


def test_classifiers_are_scored_by_both_scores(called, tmp_path):
    """Twelve pictures of four of ImageNet's classes; the scores are counted anew from torch's own logits."""
    names, rng = image_classes()["imagenet1000"][::250], np.random.default_rng(0)
    for place, name in enumerate(names):
        for split, pictures in (("train", 1), ("val", 3)):
            (tmp_path / "imagenet" / split / name).mkdir(parents=True)
            for number in range(pictures):
                pixels = rng.integers(0, 256, (256, 256, 3), np.uint8) // (1 + place)
                Image.fromarray(pixels).save(tmp_path / "imagenet" / split / name / f"{split}{number}.png")
    torch.manual_seed(0)
    body = HRNet(HRNetConfig(width=4, modules=(1, 1, 1), blocks=1, stage1_blocks=1, stage1_planes=8, stem_width=8))
    head = ClassificationHead(body.channels, classes=1000)
    file = tmp_path / "files" / "hrnetv2_w18_imagenet_pretrained.pth"
    file.parent.mkdir()
    state = body.state_dict() | head.state_dict()
    state["classifier.bias"][[0, 250]] += torch.tensor([40.0, 20.0])  # so that some are right, and more among five
    torch.save(state, file)
    command = ["paper", "--evaluate", "files", "--data", tmp_path, "--task", "classification", "--json"]
    status, out, err = called(*command)
    assert status == 0, err
    (row,) = [row for row in json.loads(out) if row["file"]]
    net, right = from_checkpoint(file), []
    for place in range(4):
        for number in range(3):
            picture = Image.open(tmp_path / "imagenet" / "val" / names[place] / f"val{number}.png")
            pixels = torch.from_numpy(np.array(picture)[16:240, 16:240]).permute(2, 0, 1) / 255
            mean, std = (torch.tensor(of)[:, None, None] for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            with torch.inference_mode():
                best = net(((pixels - mean) / std)[None]).topk(5).indices[0].tolist()
            right.append([place * 250 == best[0], place * 250 in best])
    top1, top5 = np.mean(right, axis=0)
    assert (row["row"], row["score"], row["published"]) == ("HRNet-W18-C", "top1", 0.768)
    assert row["ours"] == pytest.approx(top1)
    assert row["also"] == f"top5 0.934, ours {top5:.4f}"
    assert 0 < top1 <= top5 < 1
