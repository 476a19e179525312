"""mmdetection's conventions: answers worked out by hand from its documentation, and from torchvision's operators."""

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from ablate.datasets import Classes, Info, build_dataset
from ablate.models import build_model
from ablate.network.build import Network, initialise
from ablate.study import Part
from ablate.tasks import build_task
from ablate.tasks._mmdetection import Anchors, BoxMaps, CentreBesideClasses, pasted, surest

THREE = Info("three", None, "none", "none", things=Classes(("cat", "dog", "bird")))
RATIOS = (0.5, 1.0, 2.0)


def network(detector: str, info: Info = THREE, **knobs: object) -> Network:
    small = {"width": 4, "modules": (1, 1, 1), "blocks": 1, "stage1_blocks": 1, "output": "v2p"}
    stride = 2 if detector == "fcos" else 1
    backbone = build_model(Part(name="hrnet", knobs=small | {"pyramid_stride": stride}).filled("model"))
    own = {"detector": detector, "box_width": 16, "mask_width": 8, "size": (64, 96)} | knobs
    task = build_task(Part(name="detection", knobs=own).filled("task"))
    net = Network(backbone, task.head(info, backbone.channels, backbone.strides))
    initialise(net, "kaiming", seed=0)
    return net.eval()


def test_the_knob_is_no_fact_of_older_trials():
    assert "conventions" not in Part(name="detection", knobs={}).filled("task").knobs


def placed(anchors: Anchors, image: int, *maps: int) -> list[torch.Tensor]:
    """The anchors of each map, square as the image."""
    images = ImageList(torch.zeros(1, 3, image, image), [(image, image)])
    (found,) = anchors(images, [torch.zeros(1, 1, side, side) for side in maps])
    return list(found.split([3 * side * side for side in maps]))


def test_anchors_are_not_rounded_and_lie_a_stride_apart():
    fine, coarse = placed(Anchors((4, 64), 8.0, RATIOS), 800, 200, 12)  # 800 / 12 is no 64
    wide, high = 32 * 2**0.5, 32 / 2**0.5
    assert fine[0].tolist() == pytest.approx([-wide / 2, -high / 2, wide / 2, high / 2])
    assert fine[1].tolist() == [-16, -16, 16, 16]
    assert fine[3 + 1].tolist() == [-12, -16, 20, 16]  # the next place, to the right
    assert coarse[-2].tolist() == [11 * 64 - 256, 11 * 64 - 256, 11 * 64 + 256, 11 * 64 + 256]


def test_old_anchors_are_rounded_by_their_pixels():
    """By hand: the first and last pixel of 45.25 x 22.63 around 1.5 are -20.63, 23.63 and -9.31, 12.31."""
    (fine,) = placed(Anchors((4,), 8.0, RATIOS, offset=0.5, whole=True), 32, 8)
    assert fine[0].tolist() == [-21, -9, 24 + 1, 12 + 1]
    assert fine[1].tolist() == [-14, -14, 17 + 1, 17 + 1]


def test_old_boxes_are_the_usual_ones_up_to_their_ends():
    """Version 1's decoding, with widths of x1 - x0 + 1, in numpy."""
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 50, (20, 2))
    last = first + rng.uniform(3, 40, (20, 2))
    moves = rng.normal(0, 0.5, (20, 4))
    sides, centres = last - first + 1, (first + last) / 2
    new_sides, new_centres = sides * np.exp(moves[:, 2:] * 0.2), centres + sides * moves[:, :2] * 0.1
    wanted = np.column_stack([new_centres - new_sides / 2 + 0.5, new_centres + new_sides / 2 - 0.5])
    ours = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode(
        torch.from_numpy(moves), [torch.from_numpy(np.column_stack([first, last + 1]))]
    )
    np.testing.assert_allclose(ours.reshape(-1, 4).numpy() - [0, 0, 1, 1], wanted, atol=1e-9)


def test_boxes_are_read_from_the_map_that_fits_half_a_pixel_to_the_left():
    ramp = torch.arange(64.0).expand(2, 1, 64, 64)  # the value of a place is its column
    maps = {"0": ramp, "1": ramp + 1000, "2": ramp + 2000, "3": ramp + 3000}
    box = torch.tensor([[8.0, 8.0, 36.0, 36.0]])
    for shifted, first in ((True, 2.0), (False, 2.5)):  # the first bin's centre, 10 pixels, is between columns 1 and 3
        found = BoxMaps(7, (4, 8, 16, 32), shifted=shifted)(maps, [box], [(256, 256)])
        assert found[0, 0, 3].tolist() == pytest.approx([first + step for step in range(7)])
    sides = torch.tensor([1.0, 111.9, 112.0, 223.9, 224.0, 448.0, 900.0])
    boxes = torch.stack([torch.zeros(7), torch.zeros(7), sides, sides], dim=1)
    levels = (
        BoxMaps(7, (4, 8, 16, 32), shifted=True)(maps, [boxes[:3], boxes[3:]], [(999, 999)] * 2)[:, 0, 0, 0] // 1000
    )
    assert levels.clamp(min=0).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_boxes_are_read_with_as_many_samples_as_they_have_pixels():
    maps = {str(level): torch.randn(2, 3, 32 >> level, 32 >> level) for level in range(4)}
    boxes = [torch.tensor([[3.0, 5.0, 90.0, 77.0]]), torch.tensor([[10.0, 0.0, 30.0, 60.0]])]
    found = BoxMaps(7, (4, 8, 16, 32), shifted=True)(maps, boxes, [(128, 128)] * 2)
    torch.testing.assert_close(found, roi_align(maps["0"], boxes, 7, 1 / 4, aligned=True))


def test_fcos_distances_are_exponentials_and_centres_lie_in_the_middle():
    head = CentreBesideClasses(32, 3, (8, 16))
    for value in head.parameters():
        torch.nn.init.zeros_(value)
    moves = torch.tensor([1.0, 2.0, 3.0, 0.5]).log()
    head.regression_head.bbox_reg.bias.data = moves
    head.scales.data = torch.tensor([1.0, 2.0])
    _, distances, _ = head.level(torch.randn(1, 32, 2, 2), 1)
    assert (16 * distances[0, :, 1, 0]).tolist() == pytest.approx([1, 4, 9, 0.25])
    fine, _ = (place[0] for place in placed_points(head.strides))
    assert fine.tolist() == [0, 0, 8, 8]


def placed_points(strides):
    anchors = Anchors(strides, 1.0, (1.0,), offset=0.5)
    (found,) = anchors(
        ImageList(torch.zeros(1, 3, 64, 64), [(64, 64)]), [torch.zeros(1, 1, 64 // s, 64 // s) for s in strides]
    )
    return found.split([(64 // s) ** 2 for s in strides])


def test_fcos_finds_what_its_outputs_say_one_by_one():
    """Every place of every level by itself, in plain loops."""
    net = network("fcos", conventions="mmdetection", score_threshold=0.25, nms=0.5, most=30)
    head = net.head.head.fcos.head
    generator = torch.Generator().manual_seed(1)
    for layer in (
        head.classification_head.cls_logits,
        head.regression_head.bbox_reg,
        head.regression_head.bbox_ctrness,
    ):
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * 0.03
        layer.bias.data = torch.randn(layer.bias.shape, generator=generator) * 0.3
    head.regression_head.bbox_reg.bias.data += 2
    maps = net.backbone(torch.randn(1, 3, 128, 160, generator=generator))
    size = (120, 150)
    boxes, scores, labels, counts = net.head(maps, torch.tensor([size]))
    wanted = []
    for place, x in enumerate(maps):
        logits, distances, centres = (y[0].double().detach().numpy() for y in head.level(x, place))
        stride = 8 * 2**place
        for row, column in np.ndindex(x.shape[2:]):
            middle = np.array([column + 0.5, row + 0.5]) * stride
            left, top, right, bottom = distances[:, row, column] * stride
            corners = np.array([*(middle - [left, top]), *(middle + np.array([right, bottom]))])
            corners = corners.clip(0, [size[1], size[0]] * 2)
            for number, logit in enumerate(logits[:, row, column]):
                sure = 1 / (1 + np.exp(-logit))
                if sure > 0.25 and (corners[2:] > corners[:2]).all():
                    wanted.append((sure / (1 + np.exp(-centres[0, row, column])), number + 1, corners))
    wanted.sort(key=lambda one: -one[0])
    kept = []
    for one in wanted:  # of two of a class that overlap by more than a half the first stays
        if all(one[1] != other[1] or overlap(one[2], other[2]) <= 0.5 for other in kept):
            kept.append(one)
    assert len(kept) > 30
    assert counts.tolist() == [30]
    assert labels.tolist() == [one[1] for one in kept[:30]]
    np.testing.assert_allclose(scores.detach(), [one[0] for one in kept[:30]], rtol=1e-5)
    np.testing.assert_allclose(boxes.detach(), [one[2] for one in kept[:30]], atol=1e-3)


def overlap(one, other) -> float:
    inner = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = inner.clip(0).prod()
    return shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared)


def test_nothing_found_is_nothing():
    found = surest(
        [torch.full((6, 3), -20.0)], [torch.zeros(6, 4)], [torch.zeros(6, 1)], (8, 8), threshold=0.05, nms=0.5, most=9
    )
    assert [tuple(x.shape) for x in found] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("conventions", ["torchvision", "mmdetection"])
def test_a_cascades_stages_are_averaged(conventions):
    """Boxes that no stage moves, and two stages that know nothing: the first one's logits are divided by three."""
    knobs = {"score_threshold": 0.0, "nms": 1.0, "most": 1000, "proposals": 10, "conventions": conventions}
    three, one = network("cascade_rcnn", **knobs), network("faster_rcnn", **knobs)
    shared = {name: value for name, value in one.state_dict().items() if "bbox_pred" not in name or "rpn" in name}
    state = three.state_dict() | {name.replace("roi_heads", "cascade.0"): value for name, value in shared.items()}
    state |= {name: torch.zeros_like(value) for name, value in state.items() if "box_predictor.bbox_pred" in name}
    for stage in (1, 2):
        state |= {
            name: torch.zeros_like(v) for name, v in state.items() if f"cascade.{stage}.box_predictor.cls" in name
        }
    first = torch.randn(state["head.head.cascade.0.box_predictor.cls_score.weight"].shape)
    state["head.head.cascade.0.box_predictor.cls_score.weight"] = first
    three.load_state_dict(state)
    state = one.state_dict()
    state |= {name: torch.zeros_like(value) for name, value in state.items() if "box_predictor.bbox_pred" in name}
    one.load_state_dict(state | {"head.head.roi_heads.box_predictor.cls_score.weight": first})
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found, wanted = (table(*net(images)) for net in (three, one))
    assert found.keys() == wanted.keys()
    assert len(found) >= 5
    for box, scores in wanted.items():
        whole = np.array([1 - sum(scores), *scores])  # with the background's
        if conventions == "torchvision":
            expected = (whole + 2 * np.full(4, 1 / 4)) / 3
        else:
            expected = np.exp(np.log(whole) / 3) / np.exp(np.log(whole) / 3).sum()
        np.testing.assert_allclose(found[box], expected[1:], rtol=1e-3)


def table(boxes, scores, labels, *_) -> dict[tuple, list[float]]:
    """A box -> the scores of all classes."""
    rows: dict[tuple, list[float]] = {}
    for box, score, label in zip(boxes.round().tolist(), scores.tolist(), labels.tolist(), strict=True):
        rows.setdefault(tuple(box), [0.0] * 3)[label - 1] = score
    return rows


def test_masks_are_read_at_the_centres_of_pixels():
    mask = torch.rand(1, 1, 28, 28)
    whole = pasted(mask, torch.tensor([[10.0, 20.0, 38.0, 48.0]]), (60, 70))[0]
    torch.testing.assert_close(whole[20:48, 10:38], mask[0, 0], atol=1e-5, rtol=0)
    whole[20:48, 10:38] = 0
    assert (whole[:19] == 0).all() and (whole[:, 39:] == 0).all()  # noqa: PT018  nothing a pixel beyond the box
    wide = pasted(mask, torch.tensor([[0.0, 0.0, 56.0, 28.0]]), (28, 56))[0]
    centres = (np.arange(1, 55) + 0.5) / 2 - 0.5
    wanted = np.interp(centres, np.arange(28), mask[0, 0, 5])
    np.testing.assert_allclose(wide[5, 1:55], wanted, atol=1e-5)


@pytest.mark.parametrize("detector", ["mask_rcnn", "cascade_mask_rcnn", "fcos"])
def test_it_can_be_trained_so(detector):
    data = build_dataset(Part(name="figures", knobs={"train": 4, "val": 4, "size": (64, 96)}).filled("dataset"))
    net = network(detector, data.info, conventions="mmdetection", proposals=20, sampled=16).train()
    part = Part(name="detection", knobs={"detector": detector, "size": (64, 96)}).filled("task")
    task, rng = build_task(part), np.random.default_rng(0)
    samples = task.samples(data.open("train", None))
    batch = task.collate([task.encode(samples[place], data.info, rng) for place in range(2)])
    loss = task.loss(net(task.prepare(batch), *task.given(batch)), batch)
    loss.backward()
    assert torch.isfinite(loss)
    untouched = [name for name, value in net.named_parameters() if value.grad is None]
    assert not untouched
