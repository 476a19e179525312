"""From files to what a pose network's step needs, samples a second of one process: ours against the official recipe.

    python tests/bench/loader.py [--images 60] [--turns 5]

The peer does per sample what the official code does (leoxiaobin/deep-high-resolution-net.pytorch, lib/dataset): decode,
warp the crop, normalise it in float32, draw a heatmap for each joint in numpy; then batches. Ours decodes once, ships
bytes, and normalises and draws targets for the batch. Photographs are JPEGs of 640 x 480 that are made here.
"""

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from ratios import in_turns, told
from torch.utils.data import default_collate

from ablate import registry
from ablate.datasets import keep_pictures, pictures_kept
from ablate.datasets.figures import Figures
from ablate.study import Part
from ablate.tasks import build_task, gaussians
from ablate.training.batches import Encoded, keeping_pictures

SIZE, STRIDE, SIGMA, BATCH = (256, 192), 4, 2.0, 16
MEAN, STD = (torch.tensor(of).view(3, 1, 1) for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def write_photographs(folder: Path, images: int) -> None:
    """Drawn people as JPEGs, in COCO's layout."""
    drawn = Figures(train=images, val=1, size=(480, 640), people=1)
    for split in ("train", "val"):
        samples = drawn.open(split)
        document = samples.ground_truth()
        (folder / f"images/{split}").mkdir(parents=True)
        for entry in document["images"]:
            entry["file_name"] = f"{samples.name(entry['id'])}.jpg"
            cv2.imwrite(str(folder / f"images/{split}/{entry['file_name']}"), samples.image(entry["id"])[..., ::-1])
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / f"annotations/person_keypoints_{split}.json").write_text(json.dumps(document))


def official(files: list[Path], samples: list[dict], rng: np.random.Generator) -> list[dict]:
    """Batches as the official loader makes them."""
    height, width = SIZE[0] // STRIDE, SIZE[1] // STRIDE
    reach = int(3 * SIGMA)
    side = np.arange(2 * reach + 1, dtype=np.float32)
    patch = np.exp(-((side - reach) ** 2 + (side[:, None] - reach) ** 2) / (2 * SIGMA**2))
    encoded = []
    for file, sample in zip(files, samples, strict=True):
        image = cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), cv2.COLOR_BGR2RGB)
        x, y, w, h = sample["box"]
        scale = min(SIZE[1] / w, SIZE[0] / h) / 1.25 * np.clip(1 + 0.35 * rng.standard_normal(), 0.65, 1.35)
        turn = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), 45 * np.clip(rng.standard_normal(), -2, 2), scale)
        turn[:, 2] += [SIZE[1] / 2 - x - w / 2, SIZE[0] / 2 - y - h / 2]
        crop = cv2.warpAffine(image, turn, SIZE[::-1], flags=cv2.INTER_LINEAR)
        joints = sample["joints"][:, :2] @ turn[:, :2].T + turn[:, 2]
        target = np.zeros((len(joints), height, width), np.float32)
        for joint, (px, py) in enumerate(joints):
            left, top = int(px / STRIDE + 0.5) - reach, int(py / STRIDE + 0.5) - reach
            right, bottom = left + 2 * reach + 1, top + 2 * reach + 1
            if left < width and top < height and right > 0 and bottom > 0:
                rows, columns = slice(max(0, top), min(bottom, height)), slice(max(0, left), min(right, width))
                of_patch = (slice(s.start - at, s.stop - at) for s, at in ((rows, top), (columns, left)))
                target[joint, rows, columns] = patch[tuple(of_patch)]
        pixels = torch.from_numpy(crop).permute(2, 0, 1).float().div(255)
        encoded.append({"image": (pixels - MEAN) / STD, "target": target})
    return [default_collate(encoded[at : at + BATCH]) for at in range(0, len(encoded), BATCH)]


def ours(encoded: Encoded, epoch: int) -> None:
    """Batches with their normalised images and their targets."""
    task = encoded.task
    for at in range(0, len(encoded), BATCH):
        batch = task.collate([encoded[epoch, index] for index in range(at, min(at + BATCH, len(encoded)))])
        task.prepare(batch)
        gaussians(batch["joints"] / STRIDE, batch["labelled"], size=[side // STRIDE for side in SIZE], sigma=SIGMA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder, "made"), arguments.images)
        made = registry.build("dataset", "coco_pose", {"set": "made"})
        opened = made.open("train", Path(folder))
        task = build_task(Part(name="pose", knobs={"size": list(SIZE), "sigma": SIGMA}))
        encoded = Encoded(opened, task, made.info, seed=0)
        samples = [opened[index] for index in range(len(opened))]
        files = [opened.photographs.file(sample["image_id"]) for sample in samples]
        rng = np.random.default_rng(0)
        with keeping_pictures():
            place = pictures_kept()
            ours(encoded, 1)  # what is decoded here is there in later epochs
            seconds = in_turns(
                {
                    "official": lambda: official(files, samples, rng),
                    "first epoch": lambda: (keep_pictures(None, Path.exists), ours(encoded, 2)),
                    "later epochs": lambda: (keep_pictures(place, Path.exists), ours(encoded, 2)),
                },
                arguments.turns,
            )
    for name, of in seconds.items():
        print(f"{name:15} {len(samples) / of:6.0f} samples a second of CPU")
    for name in ("first epoch", "later epochs"):
        told(f"a pose sample from its file, {name}", "the official recipe", seconds["official"] / seconds[name])


if __name__ == "__main__":
    main()
