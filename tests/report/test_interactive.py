"""The interactive page in a headless Chromium: it sorts, filters, names and opens, and asks nobody for anything."""

import json
from itertools import pairwise
from pathlib import Path

import browser
import made_up
import pytest
from toy_parts import scores_for

from ablate.analysis import gather
from ablate.report import write
from ablate.storage import Store
from ablate.study import Design

pytestmark = pytest.mark.skipif(browser.PATH is None, reason="no Chromium is installed")
PUBLISHED = sorted((Path(__file__).parents[2] / "reports").glob("*/interactive.html"))
ROWS = """[...document.querySelectorAll('#{} tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"""
FIRST = """(() => {
    const box = document.querySelector('#scores .mark-symbol path').getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
})()"""
TOLD = "document.querySelector('#vg-tooltip-element.visible')?.innerText"


@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as opened:
        yield opened


@pytest.fixture
def evidence(tmp_path):
    """Three arms, three seeds; one trial failed, one is missing."""

    def choose(trial):
        if trial.seed == 2:
            failed = {"status": "failed", "reason": "<b>no</b> memory"}
            return {"across": None, "final": failed}.get(trial.arm["fusions"], {})
        return {"scores": scores_for(0.2 + 0.01 * trial.seed + 0.1 * (trial.arm["fusions"] == "across"))}

    chosen, store = made_up.study(seeds=3, question=made_up.NASTY), Store(tmp_path / "results")
    made_up.fill(store, chosen, choose)
    return gather(Design(chosen), store, images=False)


@pytest.fixture
def page(evidence, tmp_path, chromium):
    """The page, opened; everything that it was asked until now is forgotten."""
    (written,) = write(evidence, tmp_path / "report", formats=("interactive",))
    opened(chromium, written)
    return written


def opened(chromium, path):
    chromium.requests.clear()
    chromium.complaints.clear()
    chromium.open(path)
    chromium.wait("document.body.dataset.ready")


def column(chromium, table, title):
    titles = chromium.ask(f"[...document.querySelectorAll('#{table} th')].map(cell => cell.innerText)")
    return [row[titles.index(title)] for row in chromium.ask(ROWS.format(table))]


def press(chromium, table, title):
    chromium.ask(f"[...document.querySelectorAll('#{table} th button')].find(b => b.innerText === '{title}').click()")


def type_in(chromium, field, value):
    event = "input" if field == "filter" else "change"
    chromium.ask(
        f"(() => {{ const field = document.getElementById('{field}'); field.value = {json.dumps(value)};"
        f" field.dispatchEvent(new Event('{event}')); }})()"
    )


@pytest.mark.usefixtures("page")
def test_titles_sort_up_and_down_and_what_is_not_there_comes_last(chromium):
    assert column(chromium, "arms", "Arm") == ["within", "across", "final"]
    press(chromium, "arms", "AP")
    assert column(chromium, "arms", "Arm") == ["final", "within", "across"]
    assert column(chromium, "arms", "AP")[::2] == ["20.5", "30.5"]
    press(chromium, "trials", "AP")
    up = column(chromium, "trials", "AP")
    press(chromium, "trials", "AP")
    down = column(chromium, "trials", "AP")
    assert up[-2:] == down[-2:] == ["–", "–"]
    assert up[:-2] == sorted(up[:-2], key=float)
    assert down[:-2] == up[-3::-1]
    press(chromium, "trials", "Seed")
    assert column(chromium, "trials", "Seed") == sorted(column(chromium, "trials", "Seed"))


def test_words_and_arms_filter(chromium, page, evidence):
    assert len(column(chromium, "trials", "Trial")) == 9
    type_in(chromium, "filter", "failed final")
    (failed,) = evidence.failures
    assert column(chromium, "trials", "Trial") == [failed.id]
    type_in(chromium, "filter", "")
    chromium.ask("document.querySelector('#arms tbody tr:nth-child(2)').click()")
    assert set(column(chromium, "trials", "Arm")) == {"across"}
    chromium.ask("document.querySelector('#arms tbody tr:nth-child(2)').click()")
    assert len(column(chromium, "trials", "Trial")) == 9


def test_a_point_tells_its_trial_and_seed_and_opens_it(chromium, page, evidence):
    x, y = chromium.wait(FIRST)
    chromium.move(x - 3, y)
    chromium.move(x, y)
    told = chromium.wait(TOLD).split()
    (seed, trial), *_ = evidence.control.ids.items()
    assert {("trial", trial), ("seed", str(seed))} <= set(pairwise(told))
    chromium.click(x, y)
    text = chromium.wait("document.getElementById('trial').innerText")
    assert trial in text
    assert "task.sigma: 1.5" in text
    assert chromium.wait("document.querySelectorAll('#trial .drawn svg').length === 2")
    assert chromium.ask("document.querySelectorAll('#trial .drawn .mark-symbol path').length") == 12 + 4
    address = chromium.ask("document.querySelector('#trial a').href").removeprefix("file://")
    assert json.loads(Path(address).read_text())["result"]["id"] == trial


def test_a_row_opens_what_differs_and_why_it_failed(chromium, page, evidence):
    type_in(chromium, "filter", "failed")
    chromium.ask("document.querySelector('#trials tbody tr').click()")
    text = chromium.ask("document.getElementById('trial').innerText")
    assert "<b>no</b> memory" in text
    bold = chromium.ask("[...document.querySelectorAll('#trial strong')].map(one => one.innerText)")
    assert bold == ["model.fusions: final"]


def test_another_metric_is_drawn(chromium, page):
    type_in(chromium, "metric", "PCK")
    assert chromium.wait("document.querySelector('#scores').innerText.includes('PCK × 100')")


def test_it_asks_nobody_and_runs_nothing_of_the_data(chromium, page, evidence):
    assert chromium.requests == [page.as_uri()]
    assert not chromium.complaints
    assert chromium.ask("document.querySelector('.question').innerText") == " ".join(evidence.study.question.split())
    added = "const s = document.createElement('script'); s.text = 'window.hit = 1'; document.body.append(s);"
    assert chromium.ask(f"(() => {{ {added} return window.hit === undefined; }})()")
    for width in (1024, 1300, 400):
        chromium.resize(width)  # the drawing follows a moment later
        chromium.wait("document.scrollingElement.scrollWidth === document.scrollingElement.clientWidth")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_the_published_pages_open_their_trials(path, chromium):
    opened(chromium, path)
    trials = column(chromium, "trials", "Trial")
    results = Store(path.parent / "results").read().results.values()
    stored = {result.id for result in results if not result.recipe.train.held_out}  # as they were called then
    assert len(stored) == len(set(trials))
    chromium.ask("document.querySelector('#trials tbody tr').click()")
    address = chromium.ask("document.querySelector('#trial a').href").removeprefix("file://")
    assert json.loads(Path(address).read_text())["result"]["id"] in stored
    assert not chromium.complaints
