"""Places for results: one contract over a folder, fsspec's memory and a real S3 server, and leases where none locks."""

import multiprocessing
import threading
import time
import uuid
from contextlib import contextmanager

import pytest
from stored import ARRAYS, result, trial

from ablate.errors import LostError, StoreError
from ablate.storage import Store, lease, opened
from ablate.storage.lease import Lease

pytestmark = pytest.mark.usefixtures("small_shelf")


@pytest.fixture(params=["folder", "memory", "s3"])
def where(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return str(tmp_path / "place") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/results"


@pytest.fixture(params=["memory", "s3"])
def objects(request):
    """A place without locks."""
    return request.getfixturevalue("s3") if request.param == "s3" else f"memory://{uuid.uuid4().hex}/results"


# -- the contract ----------------------------------------------------------------------------------------------


def test_what_is_written_is_read_listed_moved_and_removed(where):
    place = opened(where)
    assert (place.read("a/b"), place.children("a"), place.sizes("a"), place.age("a/b")) == (None, [], {}, 0)
    place.remove("a/b")
    place.move("a/b", "a/c")
    place.write("a/b", b"one")
    place.write("a/b", b"three")
    place.write("a/d/e", b"")
    place.write("ab/c", b"x")
    assert (place.read("a/b"), place.read("a/b", first=2), place.read("a/d/e")) == (b"three", b"th", b"")
    assert place.children("a") == ["b", "d"]
    assert place.sizes("a") == {"a/b": 5, "a/d/e": 0}
    assert list(place.read_many(["a/d/e", "a/none", "a/b"])) == [("a/d/e", b""), ("a/none", None), ("a/b", b"three")]
    assert list(place.read_many([])) == []
    assert -2 < place.age("a/b") < 100
    place.move("a/b", "a/d/e")
    assert place.sizes("a") == {"a/d/e": 5}
    place.remove("a/d/e")
    place.remove("ab/c")
    assert place.children("a") in ([], ["d"])
    assert place.children("ab") == []
    again = opened(place.address)
    again.write("z", b"z")
    assert place.read("z") == b"z"


def test_many_documents_come_in_order(where):
    place = opened(where)
    names = [f"trials/{number:04d}/x" for number in range(30)]
    for name in names[::2]:
        place.write(name, name.encode())
    found = list(place.read_many(names))
    assert [name for name, _ in found] == names
    assert [content for _, content in found] == [n.encode() if i % 2 == 0 else None for i, n in enumerate(names)]


def test_a_folder_is_held_by_one(where):
    one, other = opened(where), opened(where)
    assert not one.is_held("trials/ab")
    with one.hold("trials/ab") as hold:
        hold.check()
        hold.write("trials/ab/x", b"1")
        hold.write("trials/ab/x", b"2")
        assert other.is_held("trials/ab")
        with other.hold("trials/ab", wait=False) as second:
            assert second is None
        with other.hold("trials/cd", wait=False) as second:
            assert second is not None
        hold.check()
    assert not other.is_held("trials/ab")
    with other.hold("trials/ab", wait=False) as second:
        assert second is not None
    assert one.read("trials/ab/x") == b"2"
    assert [name for name in one.sizes("trials") if "lease" in name] == []


def test_a_store_keeps_results_wherever_they_lie(where):
    store = Store(where)
    store.create()
    with store.lock(trial().id) as hold:
        store.save(trial().id, b"first", hold=hold)
        store.save(trial().id, b"second", hold=hold)
        assert list(store.states(trial().id)) == [("state", b"second"), ("state.previous", b"first")]
        store.set_aside(trial().id, "state")
        assert (list(store.states(trial().id)), store.was_damaged(trial().id)) == (
            [("state.previous", b"first")],
            ["state"],
        )
        store.put(result(), ARRAYS, hold=hold)
    store.put(result(1, status="failed"), {})
    again = Store(where)
    assert again.get(trial().id).model_dump_json() == result().model_dump_json()
    assert again.read().results.keys() == {trial().id, trial(1).id}
    assert again.find(trial().id[:6]).id == trial().id
    assert {name: value.tolist() for name, value in again.statistics(trial().id).items()} == {
        name: value.tolist() for name, value in ARRAYS.items()
    }
    kept = {name.rpartition("/")[2] for name in store.place.sizes(store.name(trial().id))} - {"lock"}
    assert kept == {"result.json", "per_image.npz"}
    again.forget_failed([trial(1)])
    assert again.missing([trial(), trial(1)]) == [trial(1)]
    again.place.write(again.name(trial().id, "result.json"), b"{")
    shelf = again.read()
    assert (shelf.results, len(shelf.damaged)) == ({}, 1)
    assert f"{where}/trials/{trial().id}/result.json" in shelf.damaged[0]


# -- leases ----------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Leases that expire at once when nobody renews them; a store's clock has steps of a second."""
    monkeypatch.setattr(lease, "EXPIRY", 3.0)
    monkeypatch.setattr(lease, "POLL", 0.2)


@contextmanager
def stalled(place, folder, owner=""):
    """A holder whose process stands still: it has a lease and renews nothing."""
    holder = Lease(place, folder, owner=owner)
    holder._renew = lambda: None
    assert holder.acquire(wait=False)
    yield holder


def test_an_expired_lease_is_taken_over_and_its_holder_writes_nothing(objects, quick):
    place = opened(objects)
    with stalled(place, "trials/ab") as lost:
        lost.write("trials/ab/state", b"mine")
        with place.hold("trials/ab") as hold:  # waits until the first has expired
            assert hold is not None
            with pytest.raises(LostError, match="another process has taken this trial over"):
                lost.write("trials/ab/state", b"late")
            hold.write("trials/ab/result.json", b"good")
            with pytest.raises(LostError):
                lost.write("trials/ab/result.json", b"late")
        with pytest.raises(LostError):  # nor after the other one has let go
            lost.write("trials/ab/result.json", b"late")
        lost.release()
    assert place.read("trials/ab/state") == b"mine"
    assert place.read("trials/ab/result.json") == b"good"
    assert not place.is_held("trials/ab")


def test_a_lease_that_is_renewed_is_not_taken_over(objects, quick):
    place = opened(objects)
    with place.hold("trials/ab") as hold:
        begun = time.monotonic()
        with place.hold("trials/ab") as second:  # sees it renewed
            assert second is None
        time.sleep(max(0, begun + 8 - time.monotonic()))
        with place.hold("trials/ab", wait=False) as second:
            assert second is None
        hold.check()


def test_a_driver_takes_its_own_lease_over_at_once(objects):
    place = opened(objects)
    with stalled(place, "trials/ab", owner="driver") as dead:
        with place.hold("trials/ab", owner="other", wait=False) as hold:
            assert hold is None
        with place.hold("trials/ab", owner="driver", wait=False) as hold:
            hold.check()
            with pytest.raises(LostError):
                dead.check()


def test_a_holder_that_was_away_keeps_what_nobody_took(objects, quick):
    place = opened(objects)
    with stalled(place, "trials/ab") as away:
        time.sleep(5)
        away.write("trials/ab/state", b"mine")
        with place.hold("trials/ab", wait=False) as hold:
            assert hold is None


def test_a_store_that_overwrites_holds_no_trial():
    place = opened(f"memory://{uuid.uuid4().hex}")
    place.create = lambda name, content: place.write(name, content) or True
    with pytest.raises(StoreError, match="overwrites what it is asked to create"), place.hold("trials/ab"):
        pass


def race(url: str, number: int, ready, results) -> None:
    place = opened(url)
    for turn in range(20):
        held = Lease(place, f"trials/{turn:02x}")
        ready.wait()
        results.put((turn, number, held.acquire(wait=False)))
        ready.wait()
        held._end.set()


@pytest.mark.slow
def test_of_processes_that_race_for_a_lease_one_wins(s3):
    """Two processes ask at the same moment, again and again."""
    context = multiprocessing.get_context("spawn")
    results, ready = context.Queue(), context.Barrier(2)
    racers = [context.Process(target=race, args=(s3, number, ready, results)) for number in range(2)]
    for racer in racers:
        racer.start()
    outcomes = [results.get(timeout=300) for _ in range(40)]
    for racer in racers:
        racer.join()
    winners = {turn: [number for t, number, won in outcomes if t == turn and won] for turn in range(20)}
    assert all(len(won) == 1 for won in winners.values()), winners


def test_after_a_race_for_an_expired_lease_one_may_write(s3, monkeypatch):
    """To all of them every lease has expired, each other's too; whoever came last is the only one left."""
    place = opened(s3)
    monkeypatch.setattr(lease, "EXPIRY", -1000.0)
    monkeypatch.setattr(Lease, "_renew", lambda self: None)
    for turn in range(5):
        leases = [Lease(place, f"trials/{turn:02x}") for _ in range(4)]
        assert leases[0].acquire(wait=False)
        threads = [threading.Thread(target=one.acquire, kwargs={"wait": False}) for one in leases[1:]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(LostError):
            leases[0].check()
        assert sum(one.number > 0 and is_holder(one) for one in leases[1:]) == 1


def is_holder(one: Lease) -> bool:
    try:
        one.check()
    except LostError:
        return False
    return True


def test_folders_without_end_are_listed(tmp_path):
    deep = tmp_path / "trials" / "0123"
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "file").write_text("four")
    assert list(opened(tmp_path).sizes("trials").values()) == [4]


def test_a_waiting_lease_knows_another_holder_by_its_lower_number(objects, quick):
    """The holder goes and another begins from one, between two looks: it is alive, and may be for hours."""
    place = opened(objects)
    place.create("trials/ab/lease.000500", b"{}")
    waiting, ends = Lease(place, "trials/ab"), []
    waiting._newest = iter([500, 1, 1, 1, 1]).__next__
    waiting._is_free = lambda newest: False
    thread = threading.Thread(target=lambda: ends.append(waiting.acquire(wait=True)), daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert ends == [False]


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload"])
def test_what_a_store_refuses_to_create_is_there(code):
    """MinIO and Ceph do not say which condition failed; s3fs makes that an error like any other."""
    place = opened(f"memory://{uuid.uuid4().hex}")
    refusal = OSError(22, "At least one of the pre-conditions you specified did not hold")
    refusal.__cause__ = type("ClientError", (Exception,), {"response": {"Error": {"Code": code}}})()

    def refuse(*args, **kwargs):
        raise refusal

    place._fs.pipe_file, before = refuse, place._fs.pipe_file
    try:
        assert place.create("a", b"") is False
        refusal.__cause__ = None
        with pytest.raises(StoreError, match="pre-conditions"):
            place.create("a", b"")
    finally:
        place._fs.pipe_file = before


def test_what_cannot_be_looked_at_is_not_absent(tmp_path):
    place = opened(str(tmp_path))
    assert place.read("absent") is None
    with pytest.raises(StoreError, match="cannot be read"):
        place.read("x" * 300)
