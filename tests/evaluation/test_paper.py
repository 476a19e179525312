"""`ablate paper --evaluate`: rows whose files are there are scored, the others are named with their address."""

import json

import numpy as np
import painted
import pytest
import torch
from PIL import Image
from test_checkpoints import WIDE, drawn, pose

from ablate.datasets import build_dataset, catalog, image_classes
from ablate.evaluation import evaluate, published
from ablate.evaluation.asked import asked
from ablate.evaluation.evaluate import Question
from ablate.planning.open_study import opened
from ablate.study import Part
from hrnet_core import ClassificationHead, HRNet, HRNetConfig, OCRHead, SegmentationHead, from_checkpoint


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


def on_person_parts(folder, classes):
    """One picture in LIP's layout."""
    place = {"image": "TrainVal_images/val_images", "labels": "TrainVal_parsing_annotations/val_segmentations"}
    lay(folder / "lip", place, shape=(60, 40), numbers=range(classes))


def on_scenes(folder, classes):
    """One picture as PASCAL-Context is laid out here; number 0 is the background."""
    lists = folder / "pascal_context/ImageSets/SegmentationContext"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\n")
    place = {"image": "JPEGImages", "labels": "SegmentationClassContext"}
    lay(folder / "pascal_context", place, shape=(26, 52), numbers=range(60))


def version(folder, name):
    """Of the few pictures, for the whole sets are larger."""
    return f"{'0' * 16}-{build_dataset(as_published(name)).open('val', folder).digest()}"


def as_published(name):
    return Part(name="label_folder", knobs=catalog()[name].knobs | {"set": name}).filled("dataset")


def lay(home, place, *, shape, numbers):
    rng = np.random.default_rng(0)
    for kind, inner in place.items():
        (home / inner).mkdir(parents=True)
        pixels = rng.integers(0, 256, (*shape, 3), np.uint8) if kind == "image" else rng.choice(numbers, shape)
        Image.fromarray(pixels.astype(np.uint8)).save(home / inner / f"a.{'jpg' if kind == 'image' else 'png'}")


@pytest.mark.parametrize(
    ("study", "arm", "row", "lay_out"),
    [
        ("lip", "mixing", "HRNetV2-W48", on_person_parts),
        ("lip", "ocr", "HRNetV2-W48 + OCR", on_person_parts),
        ("pascal_context", "hrnetv2", "HRNetV2-W48 + 59 classes", on_scenes),
        ("pascal_context", "ocr", "HRNetV2-W48 + OCR + 59 classes", on_scenes),
    ],
)
def test_rows_of_parts_and_scenes_have_the_protocol_of_the_study_s_arm(called, tmp_path, study, arm, row, lay_out):
    """Sets, sizes, windows, scales and mirroring of the study at paper scale, whose values are written by hand."""
    (recipe,) = [one.recipe for one in opened(study, scale="paper", results=None).arms if one.label == arm]
    classes = len(recipe.dataset.knobs["classes"])
    lay_out(tmp_path, classes)
    assert as_published(study) == recipe.dataset.filled("dataset")
    (published_row,) = [one for one in published.of_hrnet() if (one.row, one.set) == (row, study) and one.file]
    body = HRNet(WIDE)
    head = (OCRHead if arm == "ocr" else SegmentationHead)([sum(body.channels)], classes=classes)
    file = tmp_path / "files" / published_row.file
    file.parent.mkdir()
    torch.save(drawn(body, head), file)
    of_these = version(tmp_path, study)
    rows = ["paper", "--evaluate", "files", "--data", tmp_path, "--task", "segmentation", "--json"]
    scale, rules = min(recipe.evaluation["scales"]), dict(recipe.evaluation)  # one of them, for the others take long
    status, out, err = called(*rows, "--set", f"dataset.version={of_these}", "--set", f"evaluation.scales=[{scale}]")
    assert status == 0, err
    (found,) = [one for one in json.loads(out) if one["row"] == row and one["set"] == study and one["file"]]
    chosen = {
        "task": {"resize": recipe.task.knobs["resize"], "align_corners": arm == "ocr"},
        "dataset": {"name": "label_folder", **recipe.dataset.knobs, "version": of_these},
        "evaluation": rules | {"scales": [scale]},
        "network": {},
    }
    wanted = evaluate.of_network(file, Question("segmentation", tmp_path, chosen, torch.device("cpu")))
    assert found["ours"] == wanted.found.scores["mIoU"] > 0
    assert found["published"] == published_row.scores["mIoU"]
    assert published.settings_of(published_row)["evaluation"].get("scales", [1.0]) == rules["scales"]


def test_the_background_is_a_class_of_its_own_set(tmp_path):
    on_scenes(tmp_path, 60)
    known = {"set": "pascal_context_60", "version": version(tmp_path, "pascal_context_60")}
    opened_60 = asked("segmentation", tmp_path, {"dataset": known})
    own = {"version": version(tmp_path, "pascal_context")}  # the set is known by its folder's name
    opened_59 = asked("segmentation", tmp_path / "pascal_context", {"dataset": own})
    assert (len(opened_60.parts), opened_60.parts[0], opened_60.info.name) == (60, "background", "pascal_context_60")
    assert (opened_59.parts, opened_59.info.name) == (opened_60.parts[1:], "pascal_context")
    (image,) = opened_60.samples.image_ids()
    with_background, without = opened_60.samples.labels(image), opened_59.samples.labels(image)
    assert set(np.unique(without[with_background == 0])) == {255}
    assert (without[with_background > 0] == with_background[with_background > 0] - 1).all()
