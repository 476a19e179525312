"""Which test images go together when they are drawn anew."""

from pathlib import Path

import numpy as np
import pytest

from ablate.analysis import gather
from ablate.analysis.resample import together
from ablate.planning.open_study import opened
from ablate.storage import Store

PUBLISHED = Path(__file__).parents[2] / "reports/segmentation_baselines/results"


def test_each_image_goes_by_itself_where_nothing_is_declared():
    member, words = together(5, None, None)
    assert (member.tolist(), words) == ([0, 1, 2, 3, 4], "")


def test_ten_groups_or_more_are_drawn_whole():
    groups = np.array([f"patient {i % 10}" for i in range(30)])
    member, words = together(30, groups, None)
    assert words == "10 groups"
    assert all(len(set(groups[member == number])) == 1 for number in range(10))
    assert together(30, np.array([str(i) for i in range(30)]), 7)[1] == ""  # each image is a group of its own


def test_fewer_groups_are_cut_into_blocks_within_each():
    groups = np.array(["a"] * 7 + ["b"] * 5)
    member, words = together(12, groups, 3)
    assert member.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 4]
    assert words == "5 blocks of 3 images that follow each other"
    assert together(40, np.array(["a"] * 40), None)[1] == "10 blocks of 4 images that follow each other"


@pytest.mark.slow
def test_frames_of_a_drive_tell_less_than_as_many_photographs(monkeypatch):
    """The interval over images drawn one by one is narrower, for each of CamVid's frames has neighbours like it."""
    study = Path(__file__).parents[2] / "studies/segmentation_baselines.yaml"
    design = opened(study, scale="laptop", results=str(PUBLISHED), keep=False)
    evidence = gather(design, Store(PUBLISHED))
    monkeypatch.setattr("ablate.analysis.resample.together", lambda count, groups, block: (np.arange(count), ""))
    alone = {c.arm: c for c in gather(design, Store(PUBLISHED)).comparisons_in("mIoU")}
    for found in evidence.comparisons_in("mIoU"):
        one_by_one = alone[found.arm]
        assert found.image_high - found.image_low > 1.3 * (one_by_one.image_high - one_by_one.image_low)
    assert evidence.drawn_together == "6 blocks of 40 images that follow each other"
