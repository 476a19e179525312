"""The results folder: whole or not at all, checked before it is trusted, never a pickle, never outside."""

import json
import math
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_studies import TESTS
from stored import ARRAYS, result, trial

from ablate.errors import DamagedError, StoreError
from ablate.machine import fingerprint, write_atomically
from ablate.storage import Store
from ablate.storage.arrays import unpacked
from ablate.storage.result import VERSION

pytestmark = pytest.mark.usefixtures("small_shelf")


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "results")
    made.create()
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_put_is_what_is_got(store):
    good = result(scores={"closeness": 0.75, "near": math.nan})
    store.put(good, ARRAYS)
    again = Store(store.root)
    assert again.get(trial().id).model_dump_json() == good.model_dump_json()  # nan compares equal as text
    assert math.isnan(again.get(trial().id).scores["near"])
    arrays = again.statistics(trial().id)
    assert {name: value.tolist() for name, value in arrays.items()} == {n: v.tolist() for n, v in ARRAYS.items()}
    assert again.read().results.keys() == {trial().id}
    assert again.get(trial(1).id) is None
    assert again.missing([trial(0), trial(1)]) == [trial(1)]


def test_a_failed_trial_counts_as_run_until_it_is_forgotten(store):
    store.put(result(status="diverged", reason="nan", scores={}), {})
    store.put(result(1), ARRAYS)
    trials = [trial(0), trial(1), trial(2)]
    assert store.missing(trials) == [trial(2)]
    store.forget_failed(trials)
    assert store.missing(trials) == [trial(0), trial(2)]


def test_a_trial_that_the_machine_ended_keeps_its_states(store):
    for number, status in enumerate(("done", "diverged", "failed")):
        with store.lock(trial(number).id) as hold:
            store.save(trial(number).id, b"state", hold=hold)
            store.put(result(number, status=status), {}, hold=hold, keep=status == "failed")
    assert [list(store.states(trial(number).id)) for number in range(3)] == [[], [], [("state", b"state")]]
    store.forget_failed([trial(number) for number in range(3)])
    assert store.missing([trial(number) for number in range(3)]) == [trial(1), trial(2)]


def test_what_another_driver_tries_again_is_not_forgotten(store, monkeypatch):
    store.put(result(status="failed"), {})
    shelf = store.read()
    monkeypatch.setattr(store, "read", lambda: shelf)  # what a driver saw
    with Store(store.place.name).lock(trial().id) as hold:
        assert store.forget_failed([trial()]) == 1
        assert store.get(trial().id).status == "failed"
        store.put(result(), ARRAYS, hold=hold)
    assert store.forget_failed([trial()]) == 0
    assert store.get(trial().id).status == "done"


def test_a_finished_trial_leaves_no_training_state(store):
    folder = store.folder(trial().id)
    folder.mkdir(parents=True)
    (folder / "state").write_bytes(b"x")
    store.put(result(), ARRAYS)
    assert sorted(path.name for path in folder.iterdir()) == ["per_image.npz", "result.json"]


def test_putting_twice_writes_the_same_bytes(store):
    store.put(result(), ARRAYS)
    before = files(store.root)
    store.put(result(), ARRAYS)
    assert files(store.root) == before


# -- damage ----------------------------------------------------------------------------------------------------


def assert_not_trusted(store: Store, name: str) -> None:
    shelf = Store(store.root).read()
    assert shelf.results == {}
    assert len(shelf.damaged) == 1
    assert name in shelf.damaged[0]
    assert "\n" not in shelf.damaged[0]
    assert Store(store.root).missing([trial()]) == [trial()]


@pytest.mark.parametrize("name", ["result.json", "per_image.npz"])
def test_any_changed_byte_is_seen(store, name):
    """Bits are flipped all over the file. What a parser ignores (white space) may change without harm."""
    store.put(result(), ARRAYS)
    file = store.folder(trial().id) / name
    good, rng = file.read_bytes(), random.Random(0)
    expected = result().model_dump_json()
    harmless = 0
    for _ in range(400):
        place = rng.randrange(len(good))
        bad = bytearray(good)
        bad[place] ^= 1 << rng.randrange(8)
        file.write_bytes(bytes(bad))
        shelf = Store(store.root).read()
        if shelf.results:
            harmless += 1
            assert name == "result.json"
            assert shelf.results[trial().id].model_dump_json() == expected
        else:
            assert len(shelf.damaged) == 1
            assert str(file.parent) in shelf.damaged[0]
    assert harmless < 100


@pytest.mark.parametrize("name", ["result.json", "per_image.npz"])
@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_file_cut_short_is_seen(store, name, length):
    store.put(result(), ARRAYS)
    file = store.folder(trial().id) / name
    file.write_bytes(file.read_bytes()[:length])
    assert_not_trusted(store, name)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{}", b'{"result": 3}', b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b'{"a": NaN}']
)
def test_any_other_document_is_seen(store, content):
    store.put(result(), ARRAYS)
    (store.folder(trial().id) / "result.json").write_bytes(content)
    assert_not_trusted(store, "result.json")


def test_arrays_that_are_gone_are_seen(store):
    store.put(result(), ARRAYS)
    (store.folder(trial().id) / "per_image.npz").unlink()
    assert_not_trusted(store, "per_image.npz")
    (store.folder(trial().id) / "per_image.npz").mkdir()
    assert_not_trusted(store, "per_image.npz")


def test_arrays_of_another_trial_are_seen(store):
    store.put(result(), ARRAYS)
    store.put(result(1), {"closeness/error": np.zeros(5)})
    (store.folder(trial().id) / "per_image.npz").write_bytes((store.folder(trial(1).id) / "per_image.npz").read_bytes())
    shelf = store.read()
    assert list(shelf.results) == [trial(1).id]
    assert len(shelf.damaged) == 1


def test_a_result_in_another_trials_folder_is_seen(store):
    store.put(result(), ARRAYS)
    store.folder(trial().id).rename(store.folder("0123456789abcdef"))
    assert_not_trusted(store, "result.json")


def test_a_result_with_half_a_character_is_damaged(store):
    """JSON can hold one half of a surrogate pair, which no file that we write could."""
    store.put(result(), ARRAYS)
    file = store.folder(trial().id) / "result.json"
    document = json.loads(file.read_text())
    document["result"]["env"]["host"] = "\ud800"
    document["checksum"] = fingerprint(document["result"])
    file.write_text(json.dumps(document))
    assert_not_trusted(store, "result.json")


ABSURD = [
    (("scores", "closeness"), "1e308"), (("curve", 0, "loss"), "1e308"), (("curve", 0, "seconds"), "-1e308"),
    (("seconds",), "1e308"), (("cost", "macs"), "9" * 4000), (("cost", "macs"), "9" * 5000), (("seed",), "9" * 4000),
    (("version",), "9" * 4000), (("recipe", "train", "epochs"), "9" * 5000), (("curve", 0, "epoch"), "9" * 4000),
]  # fmt: skip


@pytest.mark.parametrize(("place", "number"), ABSURD, ids=str)
def test_an_absurd_number_is_damage_and_hides_no_other_result(store, place, number):
    store.put(result(), ARRAYS)
    store.put(result(1), ARRAYS)
    file = store.folder(trial().id) / "result.json"
    document = json.loads(file.read_text())
    holder = document["result"]
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = float(number) if "e" in number else int(number[:4000])
    document["checksum"] = fingerprint(document["result"])
    file.write_text(json.dumps(document).replace("9" * 4000, number))
    shelf = store.read()
    assert (list(shelf.results), len(shelf.damaged)) == ([trial(1).id], 1)
    assert len(shelf.damaged[0]) < 300


def test_a_loss_that_float32_can_have_is_no_damage(store):
    curve = [result().curve[0].model_copy(update={"loss": loss}) for loss in (3.4e38, math.inf, math.nan)]
    store.put(result(curve=curve), ARRAYS)
    assert repr(store.get(trial().id).curve) == repr(curve)


def test_a_damaged_result_is_written_anew(store):
    store.put(result(), ARRAYS)
    (store.folder(trial().id) / "result.json").write_bytes(b"rubbish")
    store.put(result(), ARRAYS)
    assert store.read().damaged == []
    assert store.missing([trial()]) == []


def test_no_pickle_is_ever_loaded(store, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.savez(tmp_path / "trap.npz", error=np.array([Trap()], dtype=object))
    with pytest.raises(DamagedError, match=r"trap\.npz"):
        unpacked((tmp_path / "trap.npz").read_bytes(), at="trap.npz")
    (tmp_path / "pickle.npz").write_bytes(b"\x80\x04N.")
    with pytest.raises(DamagedError, match=r"pickle\.npz"):
        unpacked((tmp_path / "pickle.npz").read_bytes(), at="pickle.npz")
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        store.put(result(), {"x": np.array([Trap()], dtype=object)})
    assert not (tmp_path / "sprung").exists()


# -- versions and ids ------------------------------------------------------------------------------------------


def test_a_folder_of_a_newer_version_is_refused(store):
    (store.root / "store.json").write_text(json.dumps({"version": VERSION + 1}))
    with pytest.raises(
        StoreError, match=f"written by a newer ablate \\(format {VERSION + 1}, this one reads {VERSION}\\)"
    ):
        Store(store.root)


def test_a_result_of_a_newer_version_is_refused_and_kept(store):
    """Counting it as damaged would have it trained again, and overwritten."""
    store.put(result(version=VERSION + 1), ARRAYS)
    before = files(store.root)
    with pytest.raises(StoreError, match="written by a newer ablate") as caught:
        store.read()
    assert not isinstance(caught.value, DamagedError)
    assert files(store.root) == before


@pytest.mark.parametrize("content", ["{}", '{"version": "1"}', "[]", "rubbish", ""])
def test_a_folder_with_a_damaged_marker_is_refused(store, content):
    (store.root / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"store\.json"):
        Store(store.root)


@pytest.mark.parametrize("bad", ["", "..", "../x", "a/b", "/etc", "A", "g", "a b", "*", "a\n", "\0", "é", "%2e"])
def test_an_id_cannot_leave_the_folder(store, bad):
    for use in (store.folder, store.get, store.find, store.statistics):
        with pytest.raises(StoreError, match="is not a trial's id"):
            use(bad)
    with pytest.raises(StoreError, match="is not a trial's id"):
        store.put(result(id=bad), ARRAYS)
    assert not list((store.root / "trials").glob("*"))


def test_a_result_is_found_by_the_beginning_of_its_id(store):
    for seed in range(20):
        store.put(result(seed), ARRAYS)
    ids = sorted(store.read().results)
    assert store.find(ids[3]).id == ids[3]
    unique = next(i for i in ids if sum(other.startswith(i[:3]) for other in ids) == 1)
    assert store.find(unique[:3]).id == unique
    twins = next(i[0] for i in ids if sum(other[0] == i[0] for other in ids) > 1)
    with pytest.raises(StoreError, match=r"\d+ trials with an id that begins"):
        store.find(twins)
    with pytest.raises(StoreError, match="no trial with an id that begins 'ffffffffffffffff'"):
        store.find("ffffffffffffffff")


# -- a place that cannot be written ----------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_loses_nothing(tiny_disk):
    store = Store(tiny_disk / "results")
    store.create()
    store.put(result(), ARRAYS)
    before = files(store.root)
    noise = {"closeness/error": np.random.default_rng(0).random(100_000)}
    for seed in (0, 1):
        with pytest.raises(StoreError, match="no room left on the disk"):
            store.put(result(seed), noise)
    assert files(store.root) == before
    assert list(store.read().results) == [trial().id]
    store.put(result(2), ARRAYS)  # there is room again
    assert len(store.read().results) == 2


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file").create()
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file" / "below").put(result(), ARRAYS)


# -- several processes -----------------------------------------------------------------------------------------

KILLER = """
import os, random, signal, statistics, sys, time
sys.path.insert(0, sys.argv[2])
from ablate import registry
registry.load_plugins(("small_parts",))
import numpy as np
from stored import result
from ablate.storage import Store

def write(seed):
    while True:
        seed += 1
        arrays = {"closeness/error": np.full(3000, seed) + np.arange(3000)}
        store.put(result(seed, seconds=float(seed)), arrays)

store, rng, cut = Store(sys.argv[1]), random.Random(1), 0
paces = []
for _ in range(20):  # the first takes as long as a hundred
    begun = time.monotonic()
    store.put(result(999), {"closeness/error": np.full(3000, 999) + np.arange(3000)})
    paces.append(time.monotonic() - begun)
pace = statistics.median(paces)
for turn in range(int(sys.argv[3])):
    ready, begins = os.pipe()
    child = os.fork()
    if not child:
        os.write(begins, b".")
        write(1000 * turn)
    os.read(ready, 1)  # a busy machine may take its time to begin
    os.close(ready), os.close(begins)
    time.sleep(rng.uniform(0, 6 * pace))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    cut += any((store.root / "trials").glob("*/.*"))
    for leftover in (store.root / "trials").glob("*/.*"):
        leftover.unlink()
    if turn >= 20 and cut >= int(sys.argv[4]):
        break
shelf = store.read()
assert shelf.damaged == [], shelf.damaged
for found in shelf.results.values():
    assert store.statistics(found.id)["closeness/error"][0] == found.seed
print(len(shelf.results), cut)
"""


def killed_while_writing(store: Store, times: int, enough: int) -> tuple[int, int]:
    """How many results a writer left that was killed so often, and how often in the middle of a file.

    It is killed no further when that was `enough` times so.
    """
    command = [sys.executable, "-c", KILLER, str(store.root), str(TESTS), str(times), str(enough)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    results, cut = run.stdout.split()
    return int(results), int(cut)


def test_a_writer_killed_at_any_moment_leaves_whole_results(store):
    """What a reader finds is whole, document and arrays of one and the same put, and nothing is damaged."""
    results, cut = killed_while_writing(store, 500, enough=3)
    assert results > 10
    assert cut >= 3  # else nothing was tested


@pytest.mark.slow
def test_a_writer_killed_a_thousand_times(store):
    results, cut = killed_while_writing(store, 1000, enough=1000)
    assert results > 500
    assert cut > 50


def test_readers_see_old_or_new_while_a_file_is_replaced(tmp_path):
    file, versions = tmp_path / "document", [bytes([n]) * 50_000 for n in range(10)]
    write_atomically(file, versions[0])

    def read(_):
        return all(file.read_bytes() in versions for _ in range(200))

    with ThreadPoolExecutor(3) as pool:
        checks = pool.map(read, range(2))
        for turn in range(100):
            write_atomically(file, versions[turn % 10])
        assert all(checks)
    assert list(tmp_path.iterdir()) == [file]


def test_a_trial_is_held_by_one_process_and_freed_by_its_death(store):
    script = (
        "import sys\nfrom ablate.storage import Store\nlock = Store(sys.argv[1]).lock('ab')\n"
        "print(lock.__enter__() is not None, flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(store.root)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    with store.lock("ab") as mine:
        assert not mine
    with store.lock("cd") as mine:
        assert mine
    holder.kill()
    holder.communicate()
    with store.lock("ab") as mine:
        assert mine
        with store.lock("ab") as again:
            assert not again
    with store.lock("ab") as mine:
        assert mine
