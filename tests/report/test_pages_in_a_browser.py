"""Pages as a reader has them, in a headless Chromium: nothing is cut, nothing moves sideways, drawings can be read."""

from pathlib import Path

import browser
import made_up
import pytest

from ablate.analysis import gather
from ablate.report import write
from ablate.report.blocks import Cell, Column, Table
from ablate.report.draw import STYLE
from ablate.report.fitting import parts, pieces
from ablate.storage import Store
from ablate.study import Design

PUBLISHED = sorted((Path(__file__).parents[2] / "reports").glob("*/report.html"))
IN_A_BROWSER = pytest.mark.skipif(browser.PATH is None, reason="no Chromium is installed")
CUT = """[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth)
    .map(box => box.innerText.slice(0, 60))"""
BEYOND = """[...document.querySelectorAll('main > *')].filter(one => one.getBoundingClientRect().right > innerWidth)
    .map(one => one.innerText.slice(0, 60))"""
SIDEWAYS = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
DRAWINGS = """[...document.querySelectorAll('.drawing svg')].map(svg => [svg, svg.getBoundingClientRect()])
    .filter(([svg, box]) => box.width).map(([svg, box]) => [box.width / svg.viewBox.baseVal.width, box.right])"""


@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as opened:
        yield opened


@pytest.fixture
def crowded(tmp_path):
    """Twelve arms with long names, eight seeds, seven metrics, failures."""
    levels = [f"a_rather_long_name_{at}" for at in range(10)] + ["x" * 70, "short"]
    chosen, store = made_up.study(levels=("within", *levels), question=made_up.NASTY * 3), Store(tmp_path / "results")
    failed = {"status": "failed", "reason": "/a/very/long/path" * 12, "cost": None, "curve": []}
    made_up.fill(store, chosen, lambda trial: failed if trial.seed == 3 else {})
    write(gather(Design(chosen), store), tmp_path / "report", formats=("html",))
    return tmp_path / "report" / "report.html"


@pytest.fixture(params=[*PUBLISHED, "crowded"], ids=lambda path: getattr(path, "parent", Path(str(path))).name)
def page(request):
    return request.getfixturevalue("crowded") if request.param == "crowded" else request.param


@IN_A_BROWSER
def test_no_table_is_cut_and_no_page_moves_sideways(page, chromium):
    chromium.open(page)
    for width in (1009, 1024, 1100, 1280, 1300, 1920):  # 1009: a window of 1,024 with a scroll bar
        chromium.resize(width)
        assert chromium.ask(CUT) == [], width
        assert chromium.ask(BEYOND) == [], width
    for width in (320, 360, 400, 700, 900):
        chromium.resize(width)
        assert chromium.ask(SIDEWAYS) == 0, width
        assert chromium.ask(BEYOND) == [], width


@IN_A_BROWSER
def test_drawings_can_be_read_at_any_width(page, chromium):
    """Letters of ticks, legends and axes are at least 9 pixels high, and no drawing leaves the window."""
    smallest = min(size for name, size in STYLE.items() if name.endswith("size"))
    chromium.open(page)
    for width in (360, 400, 700, 1024):
        chromium.resize(width)
        drawings = chromium.ask(DRAWINGS)
        assert drawings
        assert all(scale * smallest >= 9 and right <= width for scale, right in drawings), (width, drawings)


@IN_A_BROWSER
def test_a_page_asks_nobody_for_anything(page, chromium):
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.open(page)
    assert chromium.requests == [page.resolve().as_uri()]
    assert not chromium.complaints


def test_a_table_that_is_too_wide_goes_on_below_with_its_names():
    columns = [Column("Metric", "left"), Column("Arm", "left"), *(Column(f"{at}") for at in range(20))]
    table = Table("t", columns, [[Cell("AP"), Cell("an arm"), *(Cell("0123456789") for _ in range(20))]], names=2)
    first, *rest = parts(table)
    assert [at for part in (first, *rest) for at in part[2:]] == list(range(2, 22))
    assert all(part[:2] == [0, 1] and len(part) > 2 for part in (first, *rest))
    assert rest
    assert parts(Table("t", columns[:4], [])) == [[0, 1, 2, 3]]


def test_names_are_broken_before_words_and_numbers_are_not():
    assert pieces("simple_baseline/x.yaml") == ["simple_", "baseline/x.", "yaml"]
    assert pieces("0123456789abcdef") == ["0123456789abcdef"]
    assert pieces("−22.2 0.203 1e-3") == ["−22.2 0.203 1e-3"]
    assert pieces("x" * 30) == ["x" * 16, "x" * 14]
