"""Search: few questions, the nearest answer, whatever the price does between the numbers."""

import pytest

from ablate.planning.search import search


class Shop:
    """Remembers what was asked for."""

    def __init__(self, price, possible=lambda number: True) -> None:
        self.price, self.possible = price, possible
        self.asked: list[int] = []

    def __call__(self, number: int) -> int | None:
        self.asked.append(number)
        return self.price(number) if self.possible(number) else None

    def search(self, start: int, aim: int) -> int:
        number, price = search(self, (start, self.price(start)), aim)
        assert price == self.price(number)
        return number


SQUARE = {"price": lambda n: 100 * n * n + 700 * n}
STAIRS = {"price": lambda n: (n + 7) // 8 * 1000}


@pytest.mark.parametrize("start", [1, 8, 23, 24, 32, 300])
def test_the_nearest_number_is_found_from_anywhere(start):
    # 100 n^2 + 700 n: 23 costs 69,000 and 24 costs 74,400
    assert Shop(**SQUARE).search(start, 69_000) == 23
    assert Shop(**SQUARE).search(start, 71_600) == 23
    assert Shop(**SQUARE).search(start, 71_800) == 24


def test_few_numbers_are_asked_for():
    for start, aim_at in ((32, 40), (64, 45), (8, 30), (48, 33)):
        shop = Shop(**SQUARE)
        assert shop.search(start, shop.price(aim_at) + 50) == aim_at
        assert len(shop.asked) <= 6


def test_stairs_are_not_climbed_one_by_one():
    shop = Shop(**STAIRS)
    assert shop.price(shop.search(16, 130_000)) == 130_000
    assert len(set(shop.asked)) < 30  # the answer is 1033 to 1040


@pytest.mark.parametrize("every", [2, 5, 12])
def test_impossible_numbers_are_stepped_over(every):
    shop = Shop(**SQUARE, possible=lambda number: number % every == 0)
    aim = shop.price(61)
    found = shop.search(24 if every == 12 else 10, aim)
    possible = list(range(every, 200, every))
    assert found == min(possible, key=lambda number: abs(shop.price(number) - aim))


def test_where_the_aim_is_out_of_reach_the_nearest_end_is_found():
    assert Shop(lambda n: 1000 + n).search(8, 5) == 1
    assert Shop(**SQUARE, possible=lambda number: number <= 20).search(8, 10**9) == 20


def test_a_price_that_does_not_depend_on_the_number_leaves_it():
    for aim in (1, 10**6):
        shop = Shop(lambda n: 1000)
        assert shop.search(8, aim) == 8
        assert len(shop.asked) <= 10
