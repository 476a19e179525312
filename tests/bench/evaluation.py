"""Scoring people and boxes, and one redrawn test set of the bootstrap: ours against pycocotools, to equal numbers.

    python tests/bench/evaluation.py [--images 500] [--turns 3]

A redrawn set of the bootstrap is what pycocotools would have to be given anew. faster-coco-eval is a further peer where
it is installed.
"""

import argparse
import contextlib
import copy
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ratios import in_turns, told

from ablate.datasets import Info, joint_sets, things
from ablate.metrics import build_metric, redrawn

PEOPLE = Info(name="made", version=None, joints=joint_sets()["coco17"].joints, licence="", source="")
THINGS = Info(name="made", version=None, things=things()["coco80"], licence="", source="")
DRAWS = 40


def people(rng: np.random.Generator, images: int) -> tuple[dict, list[dict]]:
    """Two people an image, and four detections: some near, some anywhere."""
    truth, found = [], []
    for image_id in range(1, images + 1):
        for _ in range(2):
            box = [*rng.uniform(0, 300, 2), *rng.uniform(60, 250, 2)]
            points = rng.uniform(0, 1, (17, 2)) * box[2:] + box[:2]
            labelled = np.column_stack([points, np.full(17, 2)])
            joints = {"num_keypoints": 17, "keypoints": labelled.ravel().tolist()}
            truth.append({"id": len(truth) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": box,
                          "area": box[2] * box[3] / 2, **joints})  # fmt: skip
            for error in (8, 80):
                keypoints = np.column_stack([points + rng.normal(0, error, (17, 2)), np.ones(17)])
                placed = {"keypoints": keypoints.ravel().tolist(), "bbox": box, "area": box[2] * box[3]}
                found.append({"image_id": image_id, "category_id": 1, "score": float(rng.random()), **placed})
    return document(images, truth, ["person"]), found


def boxes(rng: np.random.Generator, images: int) -> tuple[dict, list[dict]]:
    """Seven boxes an image of 80 classes, and twenty detections."""
    truth, found = [], []
    for image_id in range(1, images + 1):
        for number in range(20):
            box, category = [*rng.uniform(0, 400, 2), *rng.uniform(10, 200, 2)], int(rng.integers(1, 81))
            if number < 7:
                truth.append({"id": len(truth) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0,
                              "bbox": box, "area": box[2] * box[3]})  # fmt: skip
            moved = (np.array(box) + rng.normal(0, 8, 4)).clip(1).tolist()
            found.append({"image_id": image_id, "category_id": category, "bbox": moved, "score": float(rng.random())})
    return document(images, truth, list(THINGS.need_things())), found


def document(images: int, annotations: list[dict], names: list[str]) -> dict[str, Any]:
    listed = [{"id": image_id, "height": 640, "width": 640} for image_id in range(1, images + 1)]
    return {"images": listed, "annotations": annotations,
            "categories": [{"id": place, "name": name} for place, name in enumerate(names, 1)]}  # fmt: skip


def theirs(truth: dict, found: list[dict], kind: str, coco: Any = COCO, evaluator: Any = COCOeval) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        own = coco()
        own.dataset = copy.deepcopy(truth)
        own.createIndex()
        evaluation = evaluator(own, own.loadRes(copy.deepcopy(found)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def again(evaluation: Any) -> None:
    """What a redrawn set takes at least: its matches, added up."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
        evaluation.summarize()


def compare(name: str, kind: str, metric: str, info: Info, made: tuple[dict, list[dict]], turns: int) -> None:
    truth, found = made
    ours = build_metric(metric)
    whole = in_turns(
        {"theirs": lambda: theirs(truth, found, kind),
         "ours": lambda: ours.aggregate(ours.per_image(found, truth, info))}, turns,
    )  # fmt: skip
    evaluation, statistics = theirs(truth, found, kind), ours.per_image(found, truth, info)
    assert abs(evaluation.stats[0] - ours.aggregate(statistics)["AP"]) < 1e-12, "the scores differ"
    count = len(truth["images"])
    draws = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    adding = in_turns(
        {"theirs": lambda: again(evaluation), "ours": lambda: ours.aggregate(statistics),
         "draws": lambda: redrawn(ours, statistics, draws, ["AP", "AP50", "AP75"])}, turns,
    )  # fmt: skip
    told(f"scoring {name}, matching included", "pycocotools", whole["theirs"] / whole["ours"], "3")
    told(f"adding up the matches of {name}", "pycocotools", adding["theirs"] / adding["ours"])
    told(f"one redrawn set of {name} (AP)", "pycocotools", adding["theirs"] / (adding["draws"] / DRAWS))
    with contextlib.suppress(ImportError):
        from faster_coco_eval import COCO as Quick
        from faster_coco_eval import COCOeval_faster

        quick = in_turns({"theirs": lambda: theirs(truth, found, kind, Quick, COCOeval_faster)}, turns)
        told(f"scoring {name}, matching included", "faster-coco-eval", quick["theirs"] / whole["ours"], "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    compare("people", "keypoints", "keypoint_ap", PEOPLE, people(rng, arguments.images), arguments.turns)
    compare("boxes of 80 classes", "bbox", "box_ap", THINGS, boxes(rng, arguments.images), arguments.turns)


if __name__ == "__main__":
    main()
