"""Tags: losses worked out by hand, and people whose grouping is known beforehand."""

import math

import numpy as np
import pytest
import torch

from ablate.datasets import joint_sets
from ablate.tasks._tags import adjusted, completed, grouped, order_of, peaks, tag_losses

COCO = joint_sets()["coco17"].names
RULES = {"threshold": 0.1, "distance": 1.0, "most": 30}


# -- losses ---------------------------------------------------------------------------------------------------------


def losses(tags, people):
    """Push and pull of one image with joints in one row; `people` has for each the columns of joints, None: missing."""
    width = max(len(row) for row in tags)
    maps = torch.zeros(1, len(tags), 1, width)
    for joint, row in enumerate(tags):
        maps[0, joint, 0, : len(row)] = torch.tensor(row)
    places = torch.zeros(1, len(people), len(tags), 2, dtype=torch.long)
    counted = torch.zeros(1, len(people), len(tags), dtype=torch.bool)
    for place, columns in enumerate(people):
        for joint, column in enumerate(columns):
            if column is not None:
                places[0, place, joint, 0], counted[0, place, joint] = column, True
    push, pull = tag_losses(maps, places, counted)
    return push.item(), pull.item()


def test_two_people_with_two_joints_each():
    tags = [[1.0, 4.0], [2.0, 4.5]]  # by joint: of the first person, of the second
    push, pull = losses(tags, [[0, 0], [1, 1]])
    assert pull == pytest.approx((0.25 + 0.0625) / 2)  # means 1.5 and 4.25
    assert push == pytest.approx(0.5 * math.exp(-(2.75**2)), rel=1e-4)  # both orders, over 2 x 1


def test_three_people_push_in_three_pairs():
    push, pull = losses([[0.0, 1.0, 3.0]], [[0], [1], [2]])
    assert pull == 0
    pairs = math.exp(-1) + math.exp(-9) + math.exp(-4)
    assert push == pytest.approx(0.5 * 2 * pairs / 6)


def test_missing_joints_count_nowhere():
    push, pull = losses([[1.0, 9.0], [3.0, 5.0]], [[0, 0], [None, 1]])
    assert pull == pytest.approx((1.0 + 0.0) / 2)  # 1 and 3 about 2; 5 alone
    assert push == pytest.approx(0.5 * math.exp(-9), rel=1e-4)


def test_a_person_without_joints_is_nobody():
    assert losses([[1.0, 2.0]], [[0], [None]]) == (0, 0)


def test_one_person_has_nobody_to_be_pushed_from():
    assert losses([[1.0], [4.0]], [[0, 0]]) == (0, pytest.approx(2.25))


def test_an_image_without_people():
    push, pull = tag_losses(torch.randn(2, 3, 4, 4), torch.zeros(2, 0, 3, 2).long(), torch.zeros(2, 0, 3).bool())
    assert push.tolist() == pull.tolist() == [0, 0]


def test_images_of_a_batch_are_apart():
    torch.manual_seed(0)
    tags, places = torch.randn(3, 2, 5, 5), torch.randint(0, 5, (3, 4, 2, 2))
    counted = torch.rand(3, 4, 2) > 0.3
    together = torch.stack(tag_losses(tags, places, counted))
    one_by_one = [torch.stack(tag_losses(tags[i : i + 1], places[i : i + 1], counted[i : i + 1])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(one_by_one, dim=1))


def test_gradients_lead_joints_together_and_people_apart():
    tags = torch.tensor([[[[0.0, 0.5]], [[0.2, 0.5]]]], requires_grad=True)
    places = torch.tensor([[[[0, 0], [0, 0]], [[1, 0], [1, 0]]]])
    push, pull = tag_losses(tags, places, torch.ones(1, 2, 2, dtype=torch.bool))
    (down,) = torch.autograd.grad(push.sum(), tags, retain_graph=True)
    assert (down[..., 0] > 0).all()  # a step against it: the lower person's tags fall,
    assert (down[..., 1] < 0).all()  # the higher one's rise
    (down,) = torch.autograd.grad(pull.sum(), tags)
    assert down[0, 0, 0, 0] < 0 < down[0, 1, 0, 0]
    assert not down[..., 1].any()


# -- grouping -------------------------------------------------------------------------------------------------------


def found(*joints, width=1):
    """Peaks (K, N, 3 + T) from lists of (x, y, height, tag), the rest of height 0."""
    most = max(len(joint) for joint in joints)
    peaks = np.zeros((len(joints), most, 3 + width))
    for place, joint in enumerate(joints):
        for rank, (x, y, height, *tag) in enumerate(joint):
            peaks[place, rank] = [x, y, height, *tag]
    return peaks


def columns(people):
    """The x of every person's joints; 0 where they lack it."""
    return sorted(person[:, 0].tolist() for person in people)


def test_two_people_by_their_tags():
    peaks = found([(10, 5, 0.9, 1.0), (50, 5, 0.8, 4.0)], [(52, 9, 0.9, 4.1), (12, 9, 0.7, 1.1)])
    assert columns(grouped(peaks, [0, 1], **RULES)) == [[10, 12], [50, 52]]


def test_people_who_cross_are_told_apart_by_tags_not_by_place():
    shoulders = [(10, 5, 0.9, 1.0), (50, 5, 0.8, 4.0)]
    hips = [(50, 20, 0.9, 1.0), (10, 20, 0.8, 4.0)]  # each below the other's shoulder
    assert columns(grouped(found(shoulders, hips), [0, 1], **RULES)) == [[10, 50], [50, 10]]


def test_missing_joints_stay_zero():
    peaks = found([(10, 5, 0.9, 1.0), (50, 5, 0.8, 4.0)], [(52, 9, 0.9, 4.1)])
    assert columns(grouped(peaks, [0, 1], **RULES)) == [[10, 0], [50, 52]]


def test_whose_first_joint_is_missing_begins_at_a_later_one():
    peaks = found([(10, 5, 0.9, 1.0)], [(12, 9, 0.9, 1.2), (52, 9, 0.8, 6.0)], [(54, 12, 0.9, 6.1)])
    assert columns(grouped(peaks, [0, 1, 2], **RULES)) == [[0, 52, 54], [10, 12, 0]]


def test_a_tag_that_is_too_far_begins_a_person():
    near, far = found([(1, 1, 0.9, 0.0)], [(2, 2, 0.9, 0.99)]), found([(1, 1, 0.9, 0.0)], [(2, 2, 0.9, 1.0)])
    assert columns(grouped(near, [0, 1], **RULES)) == [[1, 2]]
    assert columns(grouped(far, [0, 1], **RULES)) == [[0, 2], [1, 0]]


def test_more_peaks_than_people():
    """The nearest rounded tag wins, of those alike the higher peak; whoever is left is somebody else."""
    peaks = found([(1, 1, 0.9, 0.0)], [(2, 2, 0.8, 0.3), (3, 3, 0.7, 0.1), (4, 4, 0.6, 3.0)])
    assert columns(grouped(peaks, [0, 1], **RULES)) == [[0, 3], [0, 4], [1, 2]]


def test_the_assignment_is_the_best_of_all_not_each_ones_nearest():
    """Both want the person at 2; one is as near to the other at 0 as the second is far from it."""
    peaks = found([(1, 1, 0.9, 0.0), (2, 2, 0.9, 2.0)], [(3, 3, 0.9, 1.4), (4, 4, 0.9, 2.4)])
    rules = RULES | {"distance": 3.0}
    assert columns(grouped(peaks, [0, 1], **rules)) == [[1, 3], [2, 4]]


def test_a_persons_tag_is_the_mean_of_their_joints():
    """0.8 and 0 are averaged to 0.4, from which 1.3 is near, and 1.45 no longer."""
    joints = [[(1, 1, 0.9, 0.0)], [(2, 2, 0.9, 0.8)]]
    assert columns(grouped(found(*joints, [(3, 3, 0.9, 1.3)]), [0, 1, 2], **RULES)) == [[1, 2, 3]]
    assert columns(grouped(found(*joints, [(3, 3, 0.9, 1.45)]), [0, 1, 2], **RULES)) == [[0, 0, 3], [1, 2, 0]]


def test_equal_tags_make_two_people_each_with_joints_of_their_own():
    peaks = found([(10, 5, 0.9, 1.0), (50, 5, 0.8, 1.0)], [(52, 9, 0.9, 1.0), (12, 9, 0.7, 1.0)])
    people = grouped(peaks, [0, 1], **RULES)
    assert sorted(people[:, 0, 0]) == [10, 50]
    assert sorted(people[:, 1, 0]) == [12, 52]


def test_peaks_at_the_threshold_are_none():
    assert len(grouped(found([(1, 1, 0.1, 0.0)]), [0], **RULES)) == 0
    assert grouped(found([(1, 1, 0.1, 0.0)]), [0], **RULES).shape == (0, 1, 4)


def test_only_so_many_people_are_given_joints():
    peaks = found([(1, 1, 0.9, 0.0), (2, 2, 0.8, 5.0)], [(3, 3, 0.9, 5.0)])
    assert columns(grouped(peaks, [0, 1], **RULES | {"most": 1})) == [[0, 3], [1, 0], [2, 0]]


def test_tags_of_two_passes_are_one_vector():
    """In the second pass's tags the people are where the first pass cannot tell them apart."""
    first = [(10, 5, 0.9, 1.0, 0.0), (50, 5, 0.8, 1.0, 3.0)]
    second = [(52, 9, 0.9, 1.0, 3.1), (12, 9, 0.7, 1.0, 0.1)]
    assert columns(grouped(found(first, second, width=2), [0, 1], **RULES)) == [[10, 12], [50, 52]]


def test_the_order_is_the_official_one():
    numbers = [1, 2, 3, 4, 5, 6, 7, 12, 13, 8, 9, 10, 11, 14, 15, 16, 17]  # lib/core/group.py, from 1 on
    assert order_of(COCO) == [number - 1 for number in numbers]
    assert order_of(["tail", "left_knee", "ear", "nose"]) == [3, 1, 0, 2]


# -- peaks and places -----------------------------------------------------------------------------------------------


def bumps(*points, size=(20, 24)):
    """A heatmap with a peak of its height at each (x, y, height), falling by half per pixel."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack([h * 0.5 ** ((x - px).abs() + (y - py).abs()) for px, py, h in points]).amax(0)


def test_peaks_are_local_maxima_highest_first():
    maps = torch.stack([bumps((5, 6, 0.5), (15, 12, 0.9)), bumps((3, 3, 0.4), size=(20, 24))])
    tags = torch.arange(2 * 20 * 24.0).view(2, 20, 24, 1)
    got = peaks(maps, tags, kernel=5, most=3)
    assert got.shape == (2, 3, 4)
    np.testing.assert_allclose(got[0, :2], [[15, 12, 0.9, 12 * 24 + 15], [5, 6, 0.5, 6 * 24 + 5]], rtol=1e-6)
    np.testing.assert_allclose(got[1, 0], [3, 3, 0.4, 20 * 24 + 3 * 24 + 3], rtol=1e-6)
    assert got[0, 2, 2] == got[1, 1, 2] == 0


def test_a_lower_peak_within_the_kernel_is_none():
    near = bumps((5, 6, 0.9), (7, 6, 0.8))[None]
    tags = torch.zeros(1, 20, 24, 1)
    assert (peaks(near, tags, kernel=5, most=4)[0, :, 2] > 0.1).sum() == 1
    assert (peaks(near, tags, kernel=3, most=4)[0, :, 2] > 0.1).sum() == 2


def test_joints_move_to_the_pixels_middle_and_a_quarter_to_the_higher_neighbour():
    maps = bumps((5, 6, 0.9))[None].clone()
    maps[0, 6, 6] += 0.1  # right
    maps[0, 5, 5] += 0.1  # above
    people = np.array([[[5.0, 6.0, 0.9, 1.0]], [[0.0, 0.0, 0.0, 0.0]]])
    moved = adjusted(people, maps)
    assert moved[0, 0].tolist() == [5.75, 6.25, 0.9, 1.0]
    assert not moved[1].any()
    assert people[0, 0, 0] == 5  # as it was


def test_missing_joints_are_found_where_tags_fit():
    """The higher peak of the missing joint is another person's, by its tag."""
    maps = torch.stack([bumps((5, 6, 0.9)), bumps((4, 10, 0.3), (18, 10, 0.8))])
    tags = torch.full((2, 20, 24, 1), 1.0)
    tags[1, :, 12:] = 6.0
    people = np.array([[[5.25, 6.25, 0.9, 1.0], [0, 0, 0, 0]]])
    whole = completed(people, maps, tags)
    np.testing.assert_allclose(whole[0, 1, :3], [4.25, 10.25, 0.3])
    assert whole[0, 0].tolist() == people[0, 0].tolist()
    assert people[0, 1, 2] == 0


def test_where_nothing_is_a_missing_joint_stays_missing():
    maps = torch.stack([bumps((5, 6, 0.9)), -torch.ones(20, 24)])
    people = np.array([[[5.25, 6.25, 0.9, 1.0], [0, 0, 0, 0]]])
    assert not completed(people, maps, torch.ones(2, 20, 24, 1))[0, 1].any()
    nobody = np.zeros((0, 2, 4))
    assert completed(nobody, maps, torch.ones(2, 20, 24, 1)).shape == adjusted(nobody, maps).shape == (0, 2, 4)
