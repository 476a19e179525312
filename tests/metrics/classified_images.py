"""Made-up classes of images and predictions of them, with missing predictions and images without a class.

The same functions as `scenes` has for people.
"""

import numpy as np

from ablate.datasets import Classes, Info

CLASSES = tuple(f"class{number}" for number in range(12))


def info() -> Info:
    return Info("made", None, "none", "made", image_classes=Classes(CLASSES))


def scene(seed, *, images=40, ties=False):
    """(predictions, ground truth); there are no ties."""
    rng = np.random.default_rng([seed, 8])
    classes, predictions = {}, []
    for image in rng.permutation(np.arange(10, 10 + images)).tolist():
        classes[image] = int(rng.integers(len(CLASSES))) if rng.random() < 0.95 or seed == 1 else -1
        likely = rng.random(len(CLASSES))
        likely[classes[image]] += 0.5 * rng.random()
        if rng.random() < 0.9:
            predictions.append({"image_id": image, "classes": np.argsort(-likely)[:5].tolist()})
    return predictions, _truth(classes)


def perfect(truth):
    return [{"image_id": image, "classes": [place, 0]} for image, place in truth["classes"].items()]


def hopeless(truth):
    return [{"image_id": i, "classes": [(place + 1) % 12, (place + 2) % 12]} for i, place in truth["classes"].items()]


def reordered(truth, predictions, seed):
    """The same with images and predictions in another order."""
    order = np.random.default_rng(seed).permutation
    images = list(truth["classes"])
    again = _truth({images[place]: truth["classes"][images[place]] for place in order(len(images))})
    return again, [predictions[place] for place in order(len(predictions))]


def repeated(truth, predictions, counts):
    """The data set in which image i, by ascending id, is there counts[i] times, with ids in the same order."""
    times = dict(zip(sorted(truth["classes"]), counts, strict=True))
    classes = {image * 100 + copy: truth["classes"][image] for image, count in times.items() for copy in range(count)}
    found = [{**p, "image_id": p["image_id"] * 100 + c} for p in predictions for c in range(times[p["image_id"]])]
    return _truth(classes), found


def emptied(truth):
    """The data set without a class."""
    return _truth(dict.fromkeys(truth["classes"], -1))


def _truth(classes):
    return {"images": [{"id": image} for image in classes], "classes": classes}
