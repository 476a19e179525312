"""Made-up people and predictions in COCO's format, good and bad, crowded and unlabelled."""

import numpy as np

from ablate.datasets import Info, joint_sets

NAMES = sorted(joint_sets())


def info(joints="coco17") -> Info:
    form = joint_sets()[joints]
    return Info(
        "made", None, "none", "made",
        joints=form.names, flip_pairs=form.flip_pairs, sigmas=form.sigmas, upper_body=form.upper_body,
    )  # fmt: skip


def scene(seed, *, images=30, joints="coco17", ties=False):
    """(predictions, ground truth); with `ties` scores repeat, within an image and across them."""
    rng = np.random.default_rng(seed)
    count = len(joint_sets()[joints].names)
    ids = [int(image) for image in rng.permutation(np.arange(10, 10 + images))]
    annotations, predictions = [], []
    for image in ids:
        for _ in range(rng.integers(0, 4)):
            person = _person(rng, image, len(annotations), count)
            annotations.append(person)
            for _ in range(rng.integers(0, 3)):
                predictions.append(_prediction(rng, person, ties))
    sizes = [{"id": image, "height": 200, "width": 200} for image in ids]
    return predictions, {"images": sizes, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def perfect(truth):
    """A prediction for every labelled person, where they are."""
    people = [a for a in truth["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
    return [_as_prediction(person, person["keypoints"], 0.9 - 1e-4 * i) for i, person in enumerate(people)]


def hopeless(truth):
    """A prediction for every person, far away."""
    return [_as_prediction(a, [v + 500 for v in a["keypoints"]], 0.5) for a in truth["annotations"]]


def reordered(truth, predictions, seed):
    """The same with images, annotations and predictions in another order."""
    rng = np.random.default_rng(seed)
    images, annotations = (
        [rows[i] for i in rng.permutation(len(rows))] for rows in (truth["images"], truth["annotations"])
    )
    return {**truth, "images": images, "annotations": annotations}, [
        predictions[i] for i in rng.permutation(len(predictions))
    ]


def repeated(truth, predictions, counts):
    """The data set in which image i, by ascending id, is there counts[i] times, with ids in the same order."""
    images, annotations, found = [], [], []
    for image, count in zip(sorted(image["id"] for image in truth["images"]), counts, strict=True):
        for copy in range(count):
            name = image * 100 + copy
            images.append({"id": name, "height": 200, "width": 200})
            own = [
                {**a, "image_id": name, "id": len(annotations) + i}
                for i, a in enumerate(_on(image, truth["annotations"]), 1)
            ]
            ids = dict(zip((a["id"] for a in _on(image, truth["annotations"])), (a["id"] for a in own), strict=True))
            annotations += own
            found += [
                {**p, "image_id": name, "annotation_id": ids.get(p["annotation_id"], -1)}
                for p in _on(image, predictions)
            ]
    return {**truth, "images": images, "annotations": annotations}, found


def emptied(truth):
    """The data set without a person."""
    return truth | {"annotations": []}


def _on(image, rows):
    return [row for row in rows if row["image_id"] == image]


def _person(rng, image, number, count):
    points = np.column_stack([rng.uniform(0, 200, (count, 2)), rng.integers(0, 3, count)])
    if rng.random() < 0.1:
        points[:, 2] = 0
    points[points[:, 2] == 0] = 0
    size = rng.uniform(15, 150)
    return {
        "id": number,  # 0 too, which pycocotools takes for no match
        "image_id": image,
        "category_id": 1,
        "iscrowd": int(rng.random() < 0.05),
        "bbox": [10.0, 10.0, size, size],
        "area": 0.53 * size**2,
        "keypoints": points.ravel().tolist(),
        "num_keypoints": int((points[:, 2] > 0).sum()),
    }


def _prediction(rng, person, ties):
    points = np.array(person["keypoints"]).reshape(-1, 3)
    points[:, :2] += rng.normal(0, rng.uniform(0.5, 12), (len(points), 2))
    score = rng.random()
    return _as_prediction(person, points.ravel().tolist(), round(score, 1) if ties else score)


def _as_prediction(person, keypoints, score):
    own = {"image_id": person["image_id"], "category_id": 1, "annotation_id": person["id"]}
    return {**own, "keypoints": list(keypoints), "score": float(score)}
