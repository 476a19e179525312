"""Counting one predicted 1024x2048 label map: ours in memory against cityscapesscripts' evaluatePair on PNG files.

    python tests/bench/confusion.py [--images 10]

Both take turns on the same maps, blobs as in street scenes whose outlines are predicted some pixels off, and must come
to equal counts. Ratios are of median CPU times; what cityscapesscripts spends on reading the two files is told, too.
Nothing is asserted of time.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    arguments = parser.parse_args()
    cv2.setNumThreads(0)
    official.args.evalInstLevelScore = False
    seconds: list[list[float]] = [[], [], []]
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "found.png"), Path(folder, "truth.png")
        for seed in range(arguments.images + 1):
            truth, found = maps(seed)
            for file, pixels in zip(files, (found, truth), strict=True):
                cv2.imwrite(str(file), pixels)
            known, guessed = PLACES[truth], PLACES[found]
            turns = partial(theirs, *files), partial(read, *files), partial(ours, known, guessed)
            durations, (first, _, second) = zip(*map(timed, turns), strict=True)
            assert (first == second).all(), "the counts differ"
            if seed:  # the first turn warms up
                for row, duration in zip(seconds, durations, strict=True):
                    row.append(duration)
    whole, reading, own = (1000 * statistics.median(row) for row in seconds)
    print(f"1024x2048, {len(IDS)} classes, {arguments.images} images, CPU milliseconds an image (median):")
    print(f"  cityscapesscripts {whole:.1f}, of which reading {reading:.1f}; ours, in memory, {own:.1f}")
    print(f"  ratio {whole / own:.1f}, without reading {(whole - reading) / own:.1f}")


if __name__ == "__main__":
    main()
