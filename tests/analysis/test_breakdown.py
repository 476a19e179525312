"""Classes and joints at chance: counted by hand, and in the studies that are published."""

import math
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from small_studies import TESTS

from ablate.analysis.breakdown import Breakdown, breakdowns
from ablate.datasets import build_dataset
from ablate.errors import StoreError
from ablate.metrics import build_metric
from ablate.storage import Store
from ablate.study import Recipe

REPORTS = TESTS.parent / "reports"
CLASSES = np.array(["road", "car", "tree", "ghost"])
RECIPE = {
    "task": {"name": "segmentation", "size": [64, 64]},
    "dataset": {"name": "figures"},
    "model": {"name": "hrnet"},
    "train": {"epochs": 1},
}


def statistics(confusion: list[list[int]]) -> dict[str, np.ndarray]:
    """Of one image, from rows of true classes and columns of predicted ones, the last: none."""
    cells = np.array(confusion).ravel()
    (cell,) = cells.nonzero()
    arrays = {"image_ids": np.array([1]), "image": np.zeros(len(cell), int), "cell": cell, "count": cells[cell]}
    arrays |= {"classes": CLASSES, "categories": np.array([], str)}
    return {f"mean_iou/{name}": array for name, array in arrays.items()}


def of(**arms: list[dict[str, np.ndarray]]) -> Breakdown:
    """The breakdown of arms whose trials left these statistics."""
    stored = {f"{arm}{seed}": one for arm, seeds in arms.items() for seed, one in enumerate(seeds)}
    finished = {arm: [f"{arm}{seed}" for seed in range(len(seeds))] for arm, seeds in arms.items()}
    (found,) = breakdowns(Recipe.model_validate(RECIPE), finished, stored.__getitem__)
    return found


def test_scores_are_means_over_seeds_of_what_the_images_have():
    first = statistics([[60, 0, 0, 0, 0], [0, 15, 15, 0, 0], [0, 0, 10, 0, 0], [0, 0, 0, 0, 0]])
    second = statistics([[60, 0, 0, 0, 0], [0, 30, 0, 0, 0], [0, 0, 5, 0, 5], [0, 0, 0, 0, 0]])
    found = of(arm=[first, second])
    assert (found.kind, found.kinds, found.names, found.absent) == (
        "class", "classes", ("road", "car", "tree"), ("ghost",),
    )  # fmt: skip
    assert found.share == pytest.approx((0.6, 0.3, 0.1))
    assert found.trivial == pytest.approx((0.6, 0, 0))  # road everywhere: 60 of 100 pixels are right
    assert found.scores["arm"] == pytest.approx((1, (15 / 30 + 1) / 2, (10 / 25 + 5 / 10) / 2))
    assert found.at_chance("arm") == []


def test_at_chance_is_below_two_hundredths_or_not_above_the_commonest_everywhere():
    everywhere = statistics([[60, 0, 0, 0, 0], [30, 0, 0, 0, 0], [10, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    barely = statistics([[60, 0, 0, 0, 0], [28, 2, 0, 0, 0], [10, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    found = of(everywhere=[everywhere], barely=[barely])
    assert found.at_chance("everywhere") == ["road", "car", "tree"]
    assert found.at_chance("barely") == ["tree"]  # road has 60 of 98, car 2 of 30
    assert found.at_chance("another") == []


def test_results_without_statistics_are_counted():
    whole = statistics([[60, 0, 0, 0, 0], [0, 30, 0, 0, 0], [0, 0, 10, 0, 0], [0, 0, 0, 0, 0]])
    found = of(arm=[whole, {}], other=[{}])
    assert (found.lacking, found.seeds) == (2, {"arm": 1, "other": 0})
    assert (found.scores["arm"], "other" in found.scores) == ((1, 1, 1), False)
    none = of(arm=[{}])
    assert (none.names, none.lacking, none.at_chance("arm")) == ((), 1, [])


def test_statistics_of_something_else_are_refused_by_the_trials_name():
    broken = statistics([[60, 0, 0, 0, 0]] * 4)
    broken["mean_iou/cell"] = broken["mean_iou/cell"] + 10**9
    with pytest.raises(StoreError, match=r"trial arm0: per_image.npz: not what the metric reads"):
        of(arm=[broken])


def published(study: str, folder: Path = REPORTS) -> tuple[Breakdown, dict[str, list]]:
    """The breakdown of a published study by the names of its networks, and their results, without tries."""
    store, results = Store(folder / study / "results"), defaultdict(list)
    for result in store.read().results.values():
        if not result.recipe.train.held_out:
            results[result.recipe.model.name].append(result)
    recipe = next(iter(results.values()))[0].recipe
    finished = {network: [result.id for result in of_one] for network, of_one in results.items()}
    (found,) = breakdowns(recipe, finished, store.statistics)
    return found, results


def test_classes_of_the_published_study_are_at_chance_where_its_scores_say_so():
    found, results = published("segmentation_baselines")
    assert len(found.names) == 11
    road = found.share[found.names.index("Road")]  # what predicting it everywhere gives, and 0 to the others
    for network, of_one in results.items():  # as they were computed when the trials ended
        scores = [fmean(result.scores[f"IoU/{name}"] for result in of_one) for name in found.names]
        assert found.scores[network] == pytest.approx(scores, abs=1e-12)
        least = {name: road if name == "Road" else 0.02 for name in found.names}
        low = [name for name, score in zip(found.names, scores, strict=True) if score < least[name]]
        assert found.at_chance(network) == low
    assert found.at_chance("hrnet") == []
    assert found.at_chance("segnet") != []


@pytest.mark.parametrize(
    ("folder", "joints", "absent"),
    [
        (REPORTS, 14, ()),
        (TESTS / "published", 12, ("nose", "left_eye", "right_eye", "left_ear", "right_ear")),
    ],
    ids=["the set's own joints", "COCO's joints"],
)
def test_joints_of_the_published_study_make_its_pck(folder, joints, absent):
    found, results = published("pose_baselines", folder)
    assert (found.kind, found.measure, len(found.names)) == ("joint", "PCK@0.2", joints)
    assert found.absent == absent
    for network, of_one in results.items():
        whole = math.fsum(s * w for s, w in zip(found.scores[network], found.share, strict=True))
        assert whole == pytest.approx(fmean(result.scores["PCK"] for result in of_one), abs=1e-12)
        assert found.at_chance(network) == []


def test_a_detector_without_masks_has_no_table_of_masks():
    """Its trials hold the statistics of masks: that nothing was found."""
    found, results = published("fusion_count_detection")
    assert (found.kind, found.measure) == ("class", "AP")
    assert found.names == ("apple", "banana", "orange", "raccoon", "kangaroo")
    for network, of_one in results.items():  # COCO's AP is the mean of its classes'
        assert fmean(found.scores[network]) == pytest.approx(fmean(one.scores["AP"] for one in of_one), abs=1e-12)


def test_joints_beyond_those_of_the_data_set_are_refused():
    arrays = {"joint": np.array([0, 17]), "distance": np.zeros(2)}
    info = build_dataset(Recipe.model_validate(RECIPE).dataset).info
    with pytest.raises(ValueError, match="joints that the data set does not have"):
        build_metric("pck").parts(arrays, info)
