"""Test images as each arm sees them: its best, its worst, and the one that changed most, truth beside prediction."""

import math
from collections.abc import Callable
from itertools import groupby

import numpy as np

from ablate.analysis import Evidence, Marks, Pictured
from ablate.registry import section
from ablate.report.blocks import Block, Figure, Panel, Series, Text, listed, percent

MOST = 8  # arms that have pictures
# Joints that are joined by a line, where a data set names them so.
SIDES = [("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle")]
ACROSS = [("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")]
LIMBS = ACROSS + [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in SIDES]
COLOURS = np.array(
    [
        [90, 90, 90],
        [0, 114, 178],
        [213, 94, 0],
        [0, 158, 115],
        [204, 121, 167],
        [240, 228, 66],
        [86, 180, 233],
        [184, 134, 11],
        [148, 0, 211],
        [255, 255, 255],
        [220, 20, 60],
        [127, 255, 0],
    ]
)  # fmt: skip  of classes, again from the first where there are more
SHARE = 0.6  # of a class's colour where it covers the image


@section("pictures", meaning=1, place=65)
def pictures() -> Callable[[Evidence], list[Block]]:
    """The best, the worst and the most changed test image of each arm, where the data's licence lets them be shown."""

    def blocks(evidence: Evidence) -> list[Block]:
        arms = [list(shown) for _, shown in groupby(evidence.pictured, key=lambda shown: shown.arm)]
        if not arms:
            return []
        more = f" Shown are the first {MOST} of {len(arms)} arms." if len(arms) > MOST else ""
        said = (
            f"Of one trial of each arm the test images with its highest and its lowest {evidence.primary}, and the one "
            f"where that differs most from the control's trial of the same seed.{more}"
        )
        figures = [_figure(shown, at, evidence) for at, shown in enumerate(arms[:MOST])]
        return [Text("Pictures", "heading"), Text(said), *figures]

    return blocks


def _figure(shown: list[Pictured], number: int, evidence: Evidence) -> Figure:
    first = shown[0]
    said = listed(f"{one.why} is image {one.image} ({_scores(one, evidence)})" for one in shown)
    panels = [_panel(one, marks, name) for one in shown for marks, name in ((one.truth, "truth"), (one.found, one.why))]
    caption = f"{first.arm}, seed {first.seed}, truth beside prediction: {said}."
    return Figure(f"pictures-{number}", caption, panels, beside=2)


def _scores(shown: Pictured, evidence: Evidence) -> str:
    theirs = f", control {percent(shown.control, 1)}" if math.isfinite(shown.control) else ""
    return f"{evidence.primary} {percent(shown.score, 1)}{theirs if shown.why == 'most changed' else ''}"


def _panel(shown: Pictured, marks: Marks, name: str) -> Panel:
    pixels = shown.pixels if marks.labels is None else _coloured(shown.pixels, marks.labels)
    series = [line for at, person in enumerate(marks.people) for line in _person(person, shown.joints, at + 1)]
    series += [_box(*box, colour=at + 1) for at, box in enumerate(marks.boxes)]
    return Panel(name, "", series, pixels=pixels)


def _coloured(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The picture under the colours of its classes; what has no class stays as it is."""
    colours = COLOURS[labels % len(COLOURS)]
    covered = ((1 - SHARE) * pixels + SHARE * colours).astype(np.uint8)
    return np.where((labels == 255)[..., None], pixels, covered)


def _person(person: np.ndarray, joints: tuple[str, ...], colour: int) -> list[Series]:
    """Lines between joints that are there; points where no limb of the names is known."""
    there = {name: (float(x), float(y)) for name, (x, y, seen) in zip(joints, person, strict=False) if seen > 0}
    limbs = [(there[a], there[b]) for a, b in LIMBS if a in there and b in there]
    lines = [Series("line", [a[0], b[0]], [a[1], b[1]], colour=colour) for a, b in limbs]
    points = Series("points", [x for x, _ in there.values()], [y for _, y in there.values()], colour=colour, faint=True)
    return [*lines, points] if there else []


def _box(x: float, y: float, width: float, height: float, *, colour: int) -> Series:
    across, down = [x, x + width, x + width, x, x], [y, y, y + height, y + height, y]
    return Series("line", across, down, colour=colour)
