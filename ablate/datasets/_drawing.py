"""Draws the pictures of the set figures: people of joints and limbs, what they stand before, and what hides them.

Whatever changes a picture here raises VERSION and the part's meaning. Beside the colours two more canvases are
drawn with the same strokes: whose each pixel is, and which part of a body it shows.
"""

from dataclasses import dataclass
from math import cos, pi, radians, sin
from typing import TypedDict

import cv2
import numpy as np

from ablate.datasets import SPLITS, Split

VERSION = 1
# Degrees, low and high: upper arms from hanging down, outwards; elbows; thighs likewise; knees, inwards.
ACTIVITIES = {
    "standing": ((3, 25), (0, 35), (2, 12), (0, 12)),
    "reaching": ((105, 175), (-30, 40), (2, 20), (0, 20)),
    "akimbo": ((25, 60), (-135, -75), (5, 20), (0, 15)),
    "striding": ((15, 60), (10, 90), (18, 45), (5, 50)),
    "crouching": ((20, 85), (0, 90), (50, 85), (70, 115)),
}
# Lengths and half widths, the body's height being 1.
UPPER_ARM, FOREARM, THIGH, SHIN, TORSO, NECK, HEAD = 0.17, 0.16, 0.24, 0.24, 0.29, 0.12, 0.075
SHOULDERS, HIPS = 0.115, 0.07
SKIN = np.array([(246, 218, 190), (224, 172, 132), (190, 132, 92), (141, 85, 54), (92, 58, 40)], float)
PARTS = ("scene", "head", "torso", "arms", "legs")  # a number in the canvas of parts is a place here


class Figure(TypedDict):
    """What a sample says of a drawn person beside its ids."""

    box: np.ndarray  # (4,) float64, x y w h
    joints: np.ndarray  # (17, 3) float64
    area: float
    mask: np.ndarray  # (H, W) bool, what can be seen of the person
    activity: int  # a place in ACTIVITIES


@dataclass(frozen=True)
class Picture:
    """What is drawn and what is known of it."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    parts: np.ndarray  # (H, W) uint8, places in PARTS
    people: list[Figure]


def draw(split: Split, number: int, size: tuple[int, int], people: int = 0) -> Picture:
    """The picture of that number, with so many people; 0: one, and in every fourth picture two."""
    rng = np.random.default_rng([VERSION, SPLITS.index(split), number])
    canvas = _Canvas(_background(rng, size), np.zeros(size, np.uint8), np.zeros(size, np.uint8))
    for _ in range(rng.integers(3, 8)):
        _thing(rng, canvas, rng.uniform(0, 1, 2) * size[::-1], label=0)
    count = people or 1 + (number % 4 == 3)
    drawn = [_person(rng, canvas, place, count) for place in range(count)]
    if rng.random() < 0.2:  # something stands before somebody
        hidden = drawn[-1][0]
        _thing(rng, canvas, hidden[rng.integers(5, len(hidden))], label=255)
    samples = [_sample(canvas, *person, label=place + 1) for place, person in enumerate(drawn)]
    return Picture(_photographed(rng, canvas.pixels), canvas.parts, samples)


@dataclass(frozen=True)
class _Canvas:
    """Colours, and beside them whose each pixel is: 0 the scene, 255 something before people, else a person."""

    pixels: np.ndarray  # (H, W, 3) uint8
    owner: np.ndarray  # (H, W) uint8
    parts: np.ndarray  # (H, W) uint8, places in PARTS

    def stroke(self, points: np.ndarray, width: float, colour: np.ndarray, label: int, part: str = "scene") -> None:
        """A line through points (N, 2) with round ends."""
        line, thick = np.rint(points * 16).astype(np.int32), max(1, round(width))
        cv2.polylines(self.pixels, [line], False, colour.tolist(), thick, cv2.LINE_AA, shift=4)
        for plane, value in ((self.owner, label), (self.parts, PARTS.index(part))):
            cv2.polylines(plane, [line], False, value, thick, cv2.LINE_8, shift=4)

    def area(self, points: np.ndarray, colour: np.ndarray, label: int, part: str = "scene") -> None:
        """The inside of a convex outline (N, 2)."""
        outline = np.rint(points * 16).astype(np.int32)
        cv2.fillConvexPoly(self.pixels, outline, colour.tolist(), cv2.LINE_AA, shift=4)
        for plane, value in ((self.owner, label), (self.parts, PARTS.index(part))):
            cv2.fillConvexPoly(plane, outline, value, cv2.LINE_8, shift=4)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Blurred spots, more of them light and dark than coloured."""
    spots = rng.uniform(50, 200, (5, 5, 1)) + rng.uniform(-40, 40, (5, 5, 3))
    smooth = cv2.resize(spots.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(smooth, 0, 255), np.uint8)


def _thing(rng: np.random.Generator, canvas: _Canvas, at: np.ndarray, label: int) -> None:
    """A bent stroke as wide as a limb, or a patch, in any colour that clothes and skin may have."""
    scale = canvas.owner.shape[0] * rng.uniform(0.06, 0.22)
    colour = SKIN[rng.integers(len(SKIN))] if rng.random() < 0.3 else rng.uniform(20, 235, 3)
    if rng.random() < 0.65:
        points = at + scale * np.array([[0, 0], *rng.uniform(-1.2, 1.2, (2, 2))])
        canvas.stroke(points, scale * rng.uniform(0.25, 0.6), colour, label)
    else:
        angles = np.sort(rng.uniform(0, 2 * pi, 5))
        canvas.area(at + scale * np.column_stack([np.cos(angles), np.sin(angles)]), colour, label)


def _person(rng: np.random.Generator, canvas: _Canvas, place: int, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw a person; returns joints (17, 2) in pixels, which of them are labelled (17,), and the activity."""
    activity = int(rng.integers(len(ACTIVITIES)))
    joints, labelled, back = _skeleton(rng, list(ACTIVITIES.values())[activity])
    height, width = canvas.owner.shape
    tall = height * rng.uniform(0.55, 0.95) * (0.85 if count > 1 else 1)
    middle = joints.min(axis=0) / 2 + joints.max(axis=0) / 2
    at = np.array([(place + 0.5) / count * width, height / 2]) + rng.normal(0, 0.07, 2) * (width, height)
    joints = at + tall * (joints - middle)
    _dress(rng, canvas, joints, tall * rng.uniform(1.1, 1.5), back, place + 1)
    return joints, labelled, activity


def _skeleton(rng: np.random.Generator, limits: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Joints (17, 2) of a body of height 1 about its pelvis, which are labelled, and whether it turns its back."""
    arm, elbow, thigh, knee = (np.radians(rng.uniform(low, high, 2)) for low, high in limits)
    yaw, lean, back = rng.uniform(-0.6, 0.6), radians(rng.uniform(-12, 12)), bool(rng.random() < 0.08)
    up, across = np.array([sin(lean), -cos(lean)]), np.array([cos(lean), sin(lean)])
    short = rng.uniform(0.8, 1, (2, 4, 1))  # limbs do not lie in the picture's plane
    joints, labelled = np.zeros((17, 2)), np.ones(17, bool)
    head = (TORSO + NECK) * up + rng.uniform(-0.03, 0.03) * across
    for place in (0, 1):  # left, right; seen from the front, a left limb is on the picture's right
        side = (1 - 2 * place) * (-1 if back else 1)
        offset = side * cos(yaw) * across
        shoulder, hip = TORSO * up + SHOULDERS * offset, HIPS * offset
        joints[5 + place], joints[11 + place] = shoulder, hip
        joints[7 + place] = shoulder + UPPER_ARM * short[place, 0] * _hanging(side, arm[place])
        joints[9 + place] = joints[7 + place] + FOREARM * short[place, 1] * _hanging(side, arm[place] + elbow[place])
        joints[13 + place] = hip + THIGH * short[place, 2] * _hanging(side, thigh[place])
        joints[15 + place] = joints[13 + place] + SHIN * short[place, 3] * _hanging(side, thigh[place] - knee[place])
        joints[1 + place] = head + HEAD * (0.3 * up + 0.4 * offset + 0.5 * sin(yaw) * across)
        joints[3 + place] = head + HEAD * 0.95 * offset
        labelled[3 + place] = side * sin(yaw) < 0.5  # the ear on the far side is not seen
    joints[0] = head + HEAD * (0.6 * sin(yaw) * across - 0.1 * up)
    labelled[:3] = not back
    return joints, labelled, back


def _hanging(side: int, angle: float) -> np.ndarray:
    return np.array([side * sin(angle), cos(angle)])


def _dress(rng: np.random.Generator, canvas: _Canvas, joints: np.ndarray, tall: float, back: bool, label: int) -> None:
    """Draw a body with clothes; arms lie behind the torso as often as not."""
    skin, hair = SKIN[rng.integers(len(SKIN))], rng.uniform(0, 110, 3)
    shirt, trousers, shoes = rng.uniform(20, 235, (3, 3))
    sleeve, leg = (shirt if rng.random() < 0.5 else skin), (trousers if rng.random() < 0.7 else skin)
    for hip, knee, ankle in ((11, 13, 15), (12, 14, 16)):
        canvas.stroke(joints[[knee, ankle]], 0.055 * tall, leg, label, "legs")
        canvas.stroke(joints[[hip, knee]], 0.08 * tall, trousers, label, "legs")
        canvas.stroke(joints[[ankle, ankle]], 0.065 * tall, shoes, label, "legs")
    torso = joints[[5, 6, 12, 11]]

    for part in ("torso", "arms") if rng.random() < 0.5 else ("arms", "torso"):
        if part == "torso":
            canvas.area(torso, shirt, label, part)
            canvas.stroke(torso[[0, 1, 2, 3, 0]], 0.06 * tall, shirt, label, part)
            continue
        for shoulder, elbow, wrist in ((5, 7, 9), (6, 8, 10)):
            canvas.stroke(joints[[elbow, wrist]], 0.045 * tall, sleeve, label, part)
            canvas.stroke(joints[[shoulder, elbow]], 0.055 * tall, shirt, label, part)
            canvas.stroke(joints[[wrist, wrist]], 0.05 * tall, skin, label, part)
    neck, head = torso[:2].mean(axis=0), joints[3:5].mean(axis=0)
    canvas.stroke(np.array([neck, head]), 0.06 * tall, skin, label, "head")
    canvas.stroke(np.array([head, head]), 2 * HEAD * tall, hair, label, "head")
    if not back:
        face = joints[:3].mean(axis=0) * 0.6 + head * 0.4
        canvas.stroke(np.array([face, face]), 1.5 * HEAD * tall, skin, label, "head")
        for eye in joints[1:3]:
            canvas.stroke(np.array([eye, eye]), 0.02 * tall, np.full(3, 20.0), label, "head")


def _sample(canvas: _Canvas, joints: np.ndarray, labelled: np.ndarray, activity: int, *, label: int) -> Figure:
    height, width = canvas.owner.shape
    x, y = np.rint(joints).astype(int).T
    mask = canvas.owner == label
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & labelled
    visibility = inside * (1 + mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    (left, right), (top, bottom) = (
        (int(min(*of_mask, *of_joints)), int(max(*of_mask, *of_joints)) + 1)
        for of_mask, of_joints in ((columns, x[inside]), (rows, y[inside]))
    )
    return {
        "box": np.array([left, top, right - left, bottom - top], dtype=float),
        "joints": np.column_stack([joints, visibility]) * inside[:, None],
        "area": float(max(1, mask.sum())),
        "mask": mask,
        "activity": activity,
    }


def _photographed(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Uneven light of some colour, a soft lens now and then, and grain."""
    height, width = pixels.shape[:2]
    direction = rng.uniform(0, 2 * pi)
    ramp = cos(direction) * np.linspace(-1, 1, width) + sin(direction) * np.linspace(-1, 1, height)[:, None]
    light = rng.uniform(0.7, 1.1) + rng.uniform(0, 0.25) * ramp  # (H, W)
    lit = pixels * (light[..., None] * rng.uniform(0.9, 1.1, 3)).astype(np.float32)
    if rng.random() < 0.3:
        lit = cv2.GaussianBlur(lit, (3, 3), 0)
    lit += rng.uniform(3, 9) * rng.standard_normal(lit.shape, dtype=np.float32)
    return np.asarray(np.clip(lit, 0, 255), np.uint8)
