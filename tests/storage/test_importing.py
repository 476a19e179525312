"""What others publish is somebody else's word: marked, held against itself, and second to what was trained here."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_studies import TESTS
from stored import ARRAYS, result, trial

from ablate import registry
from ablate.errors import DamagedError
from ablate.machine import fingerprint
from ablate.storage import Store, imported
from ablate.storage.checking import key_as_written

pytestmark = pytest.mark.usefixtures("small_shelf")


@pytest.fixture
def mine(tmp_path) -> Store:
    return Store(tmp_path / "mine")


@pytest.fixture
def theirs(tmp_path) -> Store:
    made = Store(tmp_path / "theirs")
    made.create()
    return made


def forged(store: Store, arrays=ARRAYS, **changes) -> None:
    """A result with right checksums that says something else, as anybody can make one."""
    store.put(result(), arrays)
    file = store.folder(trial().id) / "result.json"
    document = json.loads(file.read_text())
    document["result"] |= changes
    document["checksum"] = fingerprint(document["result"])
    file.write_text(json.dumps(document))
    if changes.get("id", trial().id) != trial().id:
        file.parent.rename(file.parent.with_name(changes["id"]))


def files(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.endswith("lock")}


def refused(theirs: Store, mine: Store) -> str:
    taken = imported(theirs.root, mine)
    assert taken.new == []
    (line,) = taken.refused
    return line


# -- taken in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["theirs", "theirs/results"])
def test_results_are_taken_in_once_and_marked(tmp_path, mine, place):
    theirs = Store(tmp_path / place)
    for seed in range(3):
        theirs.put(result(seed), ARRAYS)
    taken = imported(tmp_path / "theirs", mine)
    assert (sorted(taken.new), taken.refused) == (sorted(trial(seed).id for seed in range(3)), [])
    assert mine.missing([trial(seed) for seed in range(3)]) == []
    for found in mine.read().results.values():
        assert found.imported.source == str(tmp_path / "theirs")
        assert found.imported.when.startswith("20")
        assert found.imported.checked
        ours, published = (json.loads((s.folder(found.id) / "result.json").read_text()) for s in (mine, theirs))
        assert {name: ours[name] for name in published} == published, "an older version reads what was published"
    again = imported(tmp_path / "theirs", mine)
    assert (again.new, again.refused) == ([], [])


def test_the_mark_goes_with_a_copy_and_is_sealed(theirs, mine):
    theirs.put(result(), ARRAYS)
    imported(theirs.root, mine)
    file = mine.folder(trial().id) / "result.json"
    good = file.read_text()
    document = json.loads(good)
    for change in ({"source": "elsewhere"}, {"checked": False}, None):
        file.write_text(json.dumps(document | {"imported": change and document["imported"] | change}))
        with pytest.raises(DamagedError, match="the mark of its import is damaged"):
            mine.get(trial().id)
    file.write_text(good)
    mine.put(mine.get(trial().id), ARRAYS)
    assert file.read_text() == good


def test_no_body_marks_or_unmarks_itself(theirs):
    forged(theirs, imported={"source": "here", "when": "", "checked": True})
    assert theirs.get(trial().id).imported is None


def test_a_damaged_one_is_refused_and_the_rest_taken(theirs, mine):
    for seed in range(3):
        theirs.put(result(seed), ARRAYS)
    file = theirs.folder(trial(1).id) / "result.json"
    file.write_text(file.read_text().replace('"closeness": 0.5', '"closeness": 0.9'))
    taken = imported(theirs.root, mine)
    assert sorted(taken.new) == sorted([trial(0).id, trial(2).id])
    assert len(taken.refused) == 1
    assert str(file) in taken.refused[0]
    assert mine.missing([trial(1)]) == [trial(1)]


def test_a_full_disk_ends_it_with_one_line(theirs, tiny_disk):
    noise = {"closeness/image_ids": np.arange(20_000), "closeness/error": np.random.default_rng(0).random(20_000)}
    scores = registry.build("metric", "closeness", {}).aggregate({k.partition("/")[2]: v for k, v in noise.items()})
    for seed in range(3):
        theirs.put(result(seed, scores=scores), noise)
    with pytest.raises(Exception, match="no room left on the disk"):
        imported(theirs.root, Store(tiny_disk / "mine"))
    assert len(Store(tiny_disk / "mine").read().results) == 1


def test_a_place_without_results_is_named(tmp_path, mine):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Exception, match="holds no results"):
        imported(tmp_path / "empty", mine)


# -- held against itself ---------------------------------------------------------------------------------------


def test_all_published_ids_are_those_of_their_recipes_as_written():
    """The rule is kept for these: no list of ids is needed."""
    bodies = [json.loads(file.read_text())["result"] for file in TESTS.glob("published/*/results/trials/*/result.json")]
    assert len(bodies) == 88
    assert [key_as_written(body) for body in bodies] == [body["id"] for body in bodies]


@pytest.mark.parametrize(
    "changes", [{"id": "f" * 16}, {"seed": 1}, {"data_version": "2"}, {"meanings": {"model": 7}}],
    ids=str,
)  # fmt: skip
def test_an_id_of_another_recipe_or_seed_is_refused(theirs, mine, changes):
    forged(theirs, **changes)
    assert "is not that of its recipe and seed" in refused(theirs, mine)


def test_the_id_of_another_trial_is_refused(theirs, mine):
    forged(theirs, id=trial(1).id)
    assert "is not that of its recipe and seed" in refused(theirs, mine)


def test_a_recipe_that_no_version_reads_is_refused(theirs, mine):
    recipe = result().recipe.model_dump(mode="json")
    forged(theirs, recipe=recipe | {"model": recipe["model"] | {"wings": 2}})
    assert "no such knob" in refused(theirs, mine)


@pytest.mark.parametrize(
    "scores",
    [{"closeness": 7.0, "near": 0.2}, {"closeness": 0.50001}, {"closeness": math.nan}, {"other": 0.5}],
    ids=str,
)
def test_scores_that_the_statistics_do_not_give_are_refused(theirs, mine, scores):
    theirs.put(result(scores=scores), ARRAYS)
    assert "its per-image statistics give" in refused(theirs, mine)


def test_scores_of_a_failed_trial_need_statistics_too(theirs, mine):
    theirs.put(result(status="failed"), {})
    assert "its per-image statistics give no 'closeness'" in refused(theirs, mine)
    theirs.put(result(status="failed", scores={}), {})
    assert imported(theirs.root, mine).new == [trial().id]


IDS = {"closeness/image_ids": np.arange(5)}


@pytest.mark.parametrize(
    "arrays",
    [
        {}, IDS, IDS | {"closeness/error": np.zeros(4)}, IDS | {"closeness/error": np.array(["a"] * 5)},
        {"closeness/error": np.zeros(5)}, IDS | ARRAYS | {"evil/image_ids": np.arange(5)},
        {"closeness/image_ids": np.zeros(2**18), "closeness/error": np.zeros(2**18)},
    ],
    ids=lambda arrays: " ".join(arrays) or "none",
)  # fmt: skip
def test_statistics_that_no_metric_left_are_refused(theirs, mine, arrays):
    theirs.put(result(), arrays)
    assert "per-image statistics" in refused(theirs, mine)


@pytest.mark.parametrize("cell", [-1, 6, 2**31 - 1])
def test_statistics_that_would_fill_the_memory_are_refused(cell):
    made = {"image_ids": np.arange(1), "image": np.zeros(1, np.int32), "cell": np.array([cell], np.int32),
            "count": np.ones(1, np.uint32), "classes": np.array(["a", "b"]), "categories": np.array([], str),
            }  # fmt: skip
    metric = registry.build("metric", "mean_iou", {})
    with pytest.raises(ValueError, match="cells that no confusion matrix has"):
        metric.aggregate(made)
    wide = made | {"cell": np.zeros(1, np.int32), "classes": np.array([str(n) for n in range(300)])}
    with pytest.raises(ValueError, match="cells"):
        metric.aggregate(wide)


# -- second to what was trained here ---------------------------------------------------------------------------


def test_what_one_has_stays(theirs, mine):
    mine.put(result(scores={"closeness": 0.4}), ARRAYS)
    before = files(mine.root)
    theirs.put(result(), ARRAYS)
    assert refused(theirs, mine) == f"trials/{trial().id}: here is another result of that trial, and it stays"
    assert {name: content for name, content in files(mine.root).items() if name != "store.json"} == before


def under_an_earlier_id(theirs: Store, arrays=ARRAYS, **changes) -> str:
    """A result as an earlier version wrote it, whose recipes had fewer knobs: rightly under another id."""
    theirs.put(result(**changes), arrays)
    file = theirs.folder(trial().id) / "result.json"
    document = json.loads(file.read_text())
    body = document["result"]
    del body["recipe"]["model"]["pause"]
    body["id"] = key_as_written(body)
    document["checksum"] = fingerprint(body)
    file.write_text(json.dumps(document))
    file.parent.rename(file.parent.with_name(body["id"]))
    return str(body["id"])


def test_a_result_of_an_earlier_version_stands_for_its_trial(theirs, mine):
    earlier = under_an_earlier_id(theirs)
    assert imported(theirs.root, mine).new == [earlier]
    assert mine.read().results[trial().id].id == earlier


@pytest.mark.parametrize("first", ["trained", "imported"])
def test_what_is_trained_here_comes_first_whichever_was_there_first(theirs, mine, first):
    """A run that was under way asks nobody: it writes what it trained beside what was imported meanwhile."""
    better = {"closeness/image_ids": np.arange(5), "closeness/error": np.zeros(5)}
    earlier = under_an_earlier_id(theirs, better, scores={"closeness": 1.0})
    if first == "trained":
        mine.put(result(), ARRAYS)
        assert "it stays" in refused(theirs, mine)
    else:
        imported(theirs.root, mine)
        mine.put(result(), ARRAYS)
        (line,) = mine.read().spare
        assert line == f"trials/{earlier}: imported from {theirs.root}; trials/{trial().id} stands for that trial"
    assert mine.read().results[trial().id].scores == result().scores
    assert mine.read().results[trial().id].imported is None


@pytest.mark.parametrize("id_is", ["today's", "earlier"])
def test_a_trial_that_trains_or_was_begun_here_is_left_alone(theirs, mine, id_is):
    if id_is == "earlier":
        under_an_earlier_id(theirs)
    else:
        theirs.put(result(), ARRAYS)
    mine.create()
    with Store(mine.root).lock(trial().id) as hold:
        assert "another process is training this trial here" in refused(theirs, mine)
        mine.save(trial().id, b"state", hold=hold)
    assert "this trial is begun here" in refused(theirs, mine)
    assert list(mine.states(trial().id)) == [("state", b"state")]
    assert mine.read().results == {}


def test_a_trial_trained_again_is_no_longer_marked(theirs, mine):
    theirs.put(result(status="failed", scores={}, reason="no luck"), {})
    imported(theirs.root, mine)
    mine.forget_failed([trial()])
    mine.put(result(), ARRAYS)
    assert mine.get(trial().id).imported is None


# -- of plug-ins -----------------------------------------------------------------------------------------------


@pytest.fixture
def empty_shelf(monkeypatch):
    """Turns the plug-in's parts off, as in a process that nobody told of it."""
    parts = dict(registry._plugins)

    def turn(*, on: bool) -> None:
        monkeypatch.setattr(registry, "_plugins", parts if on else {})
        registry.describe.cache_clear()
        registry._knob_model.cache_clear()

    yield turn
    turn(on=True)


@pytest.mark.parametrize("scores", [{"closeness": 0.5}, {"closeness": 0.99}], ids=["true", "forged"])
def test_what_is_of_unknown_parts_counts_nowhere_until_it_was_checked(theirs, mine, empty_shelf, scores):
    own = trial()
    theirs.put(result(scores=scores), ARRAYS)
    empty_shelf(on=False)
    taken = imported(theirs.root, mine)
    assert (taken.new, taken.refused) == ([own.id], [])
    assert taken.unchecked == {own.id: ["task 'brightness'", "dataset 'noise'", "model 'dots'"]}
    assert mine.read().results == {}
    assert not mine.find(own.id).imported.checked
    assert imported(theirs.root, mine).new == []
    empty_shelf(on=True)
    if scores["closeness"] == 0.5:
        assert mine.read().results[own.id].scores == scores
        assert imported(theirs.root, mine).new == [own.id]
        assert mine.find(own.id).imported.checked
    else:
        assert (mine.read().results, len(mine.read().damaged)) == ({}, 1)
        assert mine.missing([own]) == [own]
        assert "its per-image statistics give 0.5" in refused(theirs, mine)


# -- of other files --------------------------------------------------------------------------------------------


def put_with(store: Store, seed: int, digest: str) -> None:
    store.put(result(seed, data_digest={"train": "0" * 16, "val": digest * 16}), ARRAYS)


def test_other_data_than_the_results_here_is_refused_by_name(theirs, mine):
    put_with(mine, 0, "1")
    put_with(theirs, 1, "1")
    put_with(theirs, 2, "2")
    taken = imported(theirs.root, mine)
    assert taken.new == [trial(1).id]
    assert taken.refused == [
        f"trials/{trial(2).id}: the val files of its data set noise have digest {'2' * 16}, "
        f"those of the others here {'1' * 16}"
    ]


def test_of_several_data_the_commonest_is_taken_where_there_is_none_here(theirs, mine):
    for seed, digest in enumerate("2111"):
        put_with(theirs, seed, digest)
    taken = imported(theirs.root, mine)
    assert sorted(taken.new) == sorted(trial(seed).id for seed in (1, 2, 3))
    assert [line.partition(":")[0] for line in taken.refused] == [f"trials/{trial(0).id}"]
