"""Precision and recall of many redrawn data sets at once, to the last bit as of each alone.

Detections are sorted once. A data set in which an image stands w times has w copies of each of its detections beside
each other; precision falls between right ones, so that its highest values are found at the last copies of right ones.
Sums of weights over rows say how many were right and how many wrong up to there.
"""

import numpy as np

RECALLS = np.linspace(0, 1, 101)
ROOM = 2**21  # numbers at a time
SHORT = 500  # hits; beyond them a search of each row costs more than its call


def redrawable(image: np.ndarray, score: np.ndarray, matched: np.ndarray, ignored: np.ndarray) -> bool:
    """Whether copies of an image's detections stand beside each other: equal scores of one image alternate instead.

    That makes no difference among detections that are right or wrong alike. Rows (D, ...) are sorted, best first.
    """
    tied = (image[1:] == image[:-1]) & (score[1:] == score[:-1])
    rows = np.flatnonzero(tied)
    alike = (matched[rows] == matched[rows + 1]) & (ignored[rows] == ignored[rows + 1])
    return bool(alike.all())


def curves(
    image: np.ndarray, matched: np.ndarray, ignored: np.ndarray, counted: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Precision at 101 recalls (R, T, 101) and the highest recall (R, T) of R data sets; nan where none is annotated.

    Detections, best first: `image` (D,), `matched` and `ignored` (D, T). Each data set has `counted` (R,) annotations,
    and the I images stand in it as often as `weights` (R, I) says.
    """
    right, wrong = matched & ~ignored, ~matched & ~ignored  # (D, T)
    always = wrong.all(axis=1)  # wrong at each threshold, as most are: their sums are shared
    recall = np.full((len(weights), right.shape[1]), np.nan)
    precision = np.full((*recall.shape, len(RECALLS)), np.nan)
    common, defined = np.flatnonzero(always), np.flatnonzero(counted)
    at_once = max(1, ROOM // max(1, len(image)))
    for some in (defined[at : at + at_once] for at in range(0, len(defined), at_once)):
        own, of = weights[some], counted[some]
        at_all, needed = _sums(own, image[common]), _needed(of)
        for t in range(right.shape[1]):
            hits, rest = np.flatnonzero(right[:, t]), np.flatnonzero(wrong[:, t] & ~always)
            found = own.take(image[hits], axis=1).cumsum(axis=1)  # (B, K); own[:, ...] would lay columns side by side
            missed = at_all.take(np.searchsorted(common, hits), axis=1)
            missed += _sums(own, image[rest]).take(np.searchsorted(rest, hits), axis=1)
            recall[some, t] = found[:, -1] / of if len(hits) else 0
            precision[some, t] = _best(found, found / (missed + found + np.spacing(1)), needed)
    return precision, recall


def _best(found: np.ndarray, exact: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """The best precision (B, 101) at a recall or any higher one, from hits so far and precision (B, K); 0 beyond."""
    padded, width = np.pad(exact, ((0, 0), (0, 1))), found.shape[1] + 1
    if width <= SHORT:
        every: np.ndarray = np.maximum.accumulate(padded[:, ::-1], axis=1)[:, ::-1]
        return np.take_along_axis(every, _reached(found, needed), axis=1)
    at = np.stack([np.searchsorted(row, wanted) for row, wanted in zip(found, needed, strict=True)])
    places = (at + width * np.arange(len(at))[:, None]).ravel()  # each row's first recall is 0, so at its first place
    between = np.maximum.reduceat(padded.ravel(), places).reshape(at.shape)
    best: np.ndarray = np.maximum.accumulate(between[:, ::-1], axis=1)[:, ::-1]
    return best


def _reached(found: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """The first hit (B, 101) with which so many are found: one search for all rows, during which other threads run."""
    row = np.arange(len(found))[:, None]
    above = row * (max(found.max(initial=0), needed.max(initial=0)) + 1)  # so that each row is above the one before
    at = np.searchsorted((found + above).ravel(), (needed + above).ravel()).reshape(needed.shape)
    first: np.ndarray = at - row * found.shape[1]
    return first


def _needed(counted: np.ndarray) -> np.ndarray:
    """How many of the annotations (B,) must be found for each recall (B, 101), as divided and compared in float64."""
    of = counted[:, None].astype(float)
    least = np.ceil(RECALLS * of)
    least -= (least - 1) / of >= RECALLS
    least += least / of < RECALLS
    return np.asarray(np.maximum(least, 0).astype(np.int64))


def _sums(weights: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(B, N + 1): the weight of the first 0 to N rows."""
    sums = np.zeros((len(weights), len(image) + 1), np.int64)
    np.cumsum(weights.take(image, axis=1), axis=1, out=sums[:, 1:])
    return sums
