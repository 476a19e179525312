"""Made-up maps of classes and predictions of them, with void, missing predictions and pixels of no class.

The same functions as `scenes` has for people.
"""

import numpy as np

from ablate.datasets import IGNORED, Info

CLASSES = ("road", "sidewalk", "car", "truck", "sky", "train")  # nobody sees a train before scene 1
CATEGORIES = ("flat", "flat", "vehicle", "vehicle", "sky", "vehicle")


def info() -> Info:
    return Info("made", None, "none", "made", classes=CLASSES, categories=CATEGORIES, label_ids=(7, 8, 26, 27, 23, 31))


def scene(seed, *, images=12, ties=False):
    """(predictions, ground truth), images of several sizes; maps have no ties. All classes are there in scene 1."""
    rng = np.random.default_rng([seed, 7])
    labels, predictions = {}, []
    for image in rng.permutation(np.arange(10, 10 + images)):
        height, width = rng.integers(5, 30, 2)
        coarse = rng.choice([*range(6 if seed == 1 else 5), IGNORED], (height // 4 + 1, width // 4 + 1))
        truth = np.kron(coarse, np.ones((4, 4)))[:height, :width].astype(np.uint8)
        labels[int(image)] = truth
        guessed = np.where(rng.random(truth.shape) < 0.3, rng.choice([0, 1, 2, 3, 4, IGNORED], truth.shape), truth)
        if rng.random() < 0.8:
            predictions.append({"image_id": int(image), "labels": guessed.astype(np.uint8)})
    return predictions, _truth(labels)


def perfect(truth):
    """The truth, and something where there is none."""
    return [
        {"image_id": i, "labels": np.where(m == IGNORED, 2, m).astype(np.uint8)} for i, m in truth["labels"].items()
    ]


def hopeless(truth):
    """A class of another category everywhere."""
    wrong = np.array([2, 4, 0, 1, 5, 4] + [0] * 250, np.uint8)
    return [{"image_id": i, "labels": wrong[m]} for i, m in truth["labels"].items()]


def reordered(truth, predictions, seed):
    """The same with images and predictions in another order."""
    order = np.random.default_rng(seed).permutation
    images = list(truth["labels"])
    again = _truth({images[place]: truth["labels"][images[place]] for place in order(len(images))})
    return again, [predictions[place] for place in order(len(predictions))]


def repeated(truth, predictions, counts):
    """The data set in which image i, by ascending id, is there counts[i] times, with ids in the same order."""
    times = dict(zip(sorted(truth["labels"]), counts, strict=True))
    labels = {image * 100 + copy: truth["labels"][image] for image, count in times.items() for copy in range(count)}
    found = [{**p, "image_id": p["image_id"] * 100 + c} for p in predictions for c in range(times[p["image_id"]])]
    return _truth(labels), found


def emptied(truth):
    """The data set without a label."""
    return _truth({image: np.full_like(labels, IGNORED) for image, labels in truth["labels"].items()})


def _truth(labels):
    return {"images": [{"id": image} for image in labels], "labels": labels}
