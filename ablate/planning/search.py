"""The whole number whose cost is nearest to a target; the cost grows with the number and is slow to compute."""

from collections.abc import Callable
from itertools import count
from math import sqrt

DOUBLINGS = 10  # of the number, before it is given up as one that the price does not depend on

Point = tuple[int, int]  # a number from 1 up, and its price
Price = Callable[[int], int | None]  # None where the number is impossible


def search(price: Price, start: Point, aim: int) -> Point:
    """The point whose price is nearest to the aim, starting from a known one; the start where nothing is nearer."""
    low, high = _around(price, start, aim)
    for turn in count():
        if low == high:
            break
        # MACs grow about as the square of a width, so that their roots interpolate well; halving now and then
        # keeps a price that grows in stairs from being climbed one number at a time.
        share = (sqrt(aim) - sqrt(low[1])) / (sqrt(high[1]) - sqrt(low[1])) if turn % 3 < 2 else 0.5
        between = _possible(price, range(low[0] + 1, high[0]), near=low[0] + share * (high[0] - low[0]))
        if between is None:
            break
        low, high = (between, high) if between[1] < aim else (low, between)
    return min(low, high, key=lambda point: abs(point[1] - aim))


def _around(price: Price, start: Point, aim: int) -> tuple[Point, Point]:
    """A point below the aim and one that is not, by doubling or halving; twice the last one where none lies beyond."""
    grows, here = start[1] < aim, start
    for _ in range(DOUBLINGS):
        number = here[0]
        numbers, near = (range(number + 1, 4 * number + 1), 2 * number) if grows else (range(1, number), number // 2)
        beyond = _possible(price, numbers, near=near)
        if beyond is None:
            break
        if (beyond[1] < aim) != grows:
            return (here, beyond) if grows else (beyond, here)
        here = beyond
    end = here if here[1] != start[1] else start  # a price that does not depend on the number
    return end, end


def _possible(price: Price, numbers: range, *, near: float) -> Point | None:
    """Of those numbers that have a price, the nearest to `near`."""
    ordered = sorted(numbers, key=lambda number: abs(number - near))
    return next(((number, found) for number in ordered if (found := price(number)) is not None), None)
