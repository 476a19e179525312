"""Joints of a set's own: names, and what a task must know of them, given or told by the names."""

import re
from collections.abc import Iterable

from ablate.datasets._info import Joints
from ablate.errors import PartError, nearest

SIGMA = 0.067  # the mean of COCO's seventeen (pycocotools 2.0.11, Params.kpt_oks_sigmas), for joints without their own
SIDES = {"left": "right", "l": "r"}
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")  # LeftEye, left_eye, L_Eye, eye-l

Pairs = tuple[tuple[str, str], ...]


def own_joints(
    names: tuple[str, ...],
    flip_pairs: Pairs | None,
    sigmas: tuple[float, ...] | None,
    upper_body: tuple[str, ...] | None,
    norm: tuple[str, str] | None = None,
) -> Joints:
    """Joints by name with what is given of them; pairs that are not are told by the names, sigmas are all SIGMA.

    Raises:
        PartError: no name or one that stands twice; pairs, sigmas or an upper body that do not fit the names.
    """
    if not names:
        raise PartError("joints: name one or more")
    if twice := [name for name in names if names.count(name) > 1]:
        raise PartError(f"joints: {twice[0]!r} is named twice")
    pairs = mirrored(names) if flip_pairs is None else flip_pairs
    flat = [name for pair in pairs for name in pair]
    for knob, given in (("flip_pairs", flat), ("upper_body", upper_body or ()), ("norm", norm or ())):
        for name in given:
            if name not in names:
                raise PartError(f"{knob}: no joint {name!r}; {nearest(name, names)}")
        if twice := [name for name in given if list(given).count(name) > 1]:
            raise PartError(f"{knob}: {twice[0]!r} is named twice")
    if sigmas is not None and (len(sigmas) != len(names) or min(sigmas) <= 0):
        raise PartError(f"sigmas: {len(names)} positive numbers, one for each joint, not {list(sigmas)}")
    return Joints(
        names,
        norm=None if norm is None else (names.index(norm[0]), names.index(norm[1])),
        flip_pairs=tuple((names.index(left), names.index(right)) for left, right in pairs),
        sigmas=sigmas or (SIGMA,) * len(names),
        upper_body=None if upper_body is None else tuple(names.index(name) for name in upper_body),
    )


def mirrored(names: Iterable[str]) -> Pairs:
    """Joints whose names differ in left and right alone, or in l and r: left_eye, LeftEye, L_Eye or eye_l."""
    by_words = {tuple(word.lower() for word in WORDS.findall(name)): name for name in names}
    found = []
    for words, name in by_words.items():
        for at, word in enumerate(words):
            if (side := SIDES.get(word)) and (other := by_words.get((*words[:at], side, *words[at + 1 :]))):
                found.append((name, other))
                break
    return tuple(found)


def assumed(joints: Joints, *, flip_pairs: object, sigmas: object, upper_body: object) -> str:
    """In sentences, what of these joints nobody gave."""
    said = []
    if flip_pairs is None:
        pairs = ", ".join(f"{joints[left]} and {joints[right]}" for left, right in joints.flip_pairs)
        said.append(f"A mirrored picture swaps {pairs or 'no joints'}, as their names say.")
    if sigmas is None:
        said.append(
            f"AP takes a sigma of {SIGMA} for each of the {len(joints)} joints, the mean of COCO's: none is given."
        )
    if upper_body is None:
        said.append("No crop shows half a body: no upper body is named.")
    return " ".join(said)
