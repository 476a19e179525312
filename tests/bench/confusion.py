"""Counting one predicted 1024x2048 label map: ours in memory against cityscapesscripts, bincount and torchmetrics.

    python tests/bench/confusion.py [--images 10]

All take turns on the same maps, blobs as in street scenes whose outlines are predicted some pixels off, and must come
to equal counts. Ratios are of median CPU times; what cityscapesscripts spends on reading its PNG files is told, too.
Its quicker C extension is not in its wheel, and its source not in the released archive: unless somebody built it from
a clone, it runs without. torchmetrics is a peer where it is installed. Nothing is asserted of time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
import cv2
import numpy as np
from cityscapesscripts.helpers.labels import labels as table
from PIL import Image
from ratios import told

from ablate.datasets import IGNORED
from ablate.metrics.mean_iou import count_pairs

SIZE = (1024, 2048)
IDS = np.array([label.id for label in table if not label.ignoreInEval], np.uint8)
PLACES = np.full(256, IGNORED, np.uint8)
PLACES[IDS] = np.arange(len(IDS))


def maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Label ids (H, W) of a made-up street scene, some of it void, and of a prediction."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, *IDS], (32, 64)).astype(np.uint8)
    truth = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    found = np.roll(np.where(truth == 0, IDS[0], truth), rng.integers(1, 6, 2), axis=(0, 1))
    return truth, found


def timed(count: Callable[[], Any]) -> tuple[float, Any]:
    start = time.thread_time()
    confusion = count()
    return time.thread_time() - start, confusion


def theirs(found: Path, truth: Path) -> np.ndarray:
    confusion = official.generateMatrix(official.args)
    official.evaluatePair(str(found), str(truth), confusion, {}, {}, official.args)
    return confusion[np.ix_(IDS, IDS)]


def read(found: Path, truth: Path) -> list[np.ndarray]:
    return [np.array(Image.open(file)) for file in (found, truth)]


def ours(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    return count_pairs(truth, found, classes=len(IDS))[:, :-1]


def bincount(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """As most evaluators count: pairs of the labelled pixels as one number each."""
    labelled = truth != IGNORED
    pairs = truth[labelled].astype(np.int64) * len(IDS) + found[labelled]
    return np.bincount(pairs, minlength=len(IDS) ** 2).reshape(len(IDS), -1)


def by_torchmetrics() -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    """What counts with torchmetrics; None where it is not installed."""
    try:
        import torch
        from torchmetrics.functional.classification import multiclass_confusion_matrix
    except ImportError:
        return None

    def count(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
        maps = (torch.from_numpy(of.astype(np.int64)) for of in (found, truth))
        return multiclass_confusion_matrix(*maps, num_classes=len(IDS), ignore_index=IGNORED).numpy()

    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    official.args.evalInstLevelScore = False
    others = {"ours": ours, "np.bincount": bincount} | ({"torchmetrics": found} if (found := by_torchmetrics()) else {})
    seconds: dict[str, list[float]] = {"cityscapesscripts": [], "reading": [], **{name: [] for name in others}}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "found.png"), Path(folder, "truth.png")
        for seed in range(arguments.images + 1):
            truth, found = maps(seed)
            for file, pixels in zip(files, (found, truth), strict=True):
                cv2.imwrite(str(file), pixels)
            known, guessed = PLACES[truth], PLACES[found]
            turns = [partial(theirs, *files), partial(read, *files)]
            turns += [partial(count, known, guessed) for count in others.values()]
            durations, (first, _, *counts) = zip(*map(timed, turns), strict=True)
            assert all((first == of).all() for of in counts), "the counts differ"
            if seed:  # the first turn warms up
                for row, duration in zip(seconds.values(), durations, strict=True):
                    row.append(duration)
    median = {name: 1000 * statistics.median(row) for name, row in seconds.items()}
    extension = "with" if official.CSUPPORT else "without"
    print(f"1024x2048, {len(IDS)} classes, {arguments.images} images, CPU milliseconds an image (median):")
    print("  " + ", ".join(f"{name} {of:.1f}" for name, of in median.items()))
    counting = median["cityscapesscripts"] - median["reading"]
    work = "counting a map of 1024 x 2048"
    told(work, f"cityscapesscripts {extension} its C extension, reading apart", counting / median["ours"])
    for name in list(others)[1:]:
        told(work, name, median[name] / median["ours"])


if __name__ == "__main__":
    main()
