"""Nothing that a study, a result or a data set names is read or written outside the place it belongs to."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_studies import small_study, write_study
from stored import ARRAYS, result, trial

from ablate import registry
from ablate.analysis import gather
from ablate.datasets import under
from ablate.datasets.coco_pose import CocoPose
from ablate.errors import AblateError, DamagedError, DataError, LinkError, StoreError
from ablate.machine import fingerprint, write_atomically
from ablate.storage import RESULT, Store, imported
from ablate.study import Design, Weights, check_study, load
from ablate.training.run_trial import run_trial
from ablate.training.site import Site
from ablate.training.weights import find

pytestmark = pytest.mark.usefixtures("small_shelf")

OUTWARD = ["../x", "../../etc", "/etc", "a/../../b", ".."]


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "results")
    made.create()
    return made


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder of somebody else with a file in it, which have to stay as they are."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "own").write_text("own")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"own": "own"}


# -- links in a results folder ---------------------------------------------------------------------------------


def test_a_trial_is_not_written_through_a_link_that_leads_out(store, elsewhere):
    (store.root / "trials").mkdir()
    (store.root / "trials" / trial().id).symlink_to(elsewhere, target_is_directory=True)
    for use in (
        lambda: store.put(result(), ARRAYS),
        lambda: store.get(trial().id),
        lambda: store.lock(trial().id).__enter__(),
    ):
        with pytest.raises(LinkError, match=f"{trial().id}: a link that leads out of"):
            use()
    with pytest.raises(StoreError, match="a link that leads out of"):
        list(run_trial(trial(), Site(results=store.root)))


def test_no_trial_is_written_where_all_of_them_lead_out(store, elsewhere):
    (store.root / "trials").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(LinkError, match="a link that leads out of"):
        store.put(result(), ARRAYS)


def test_no_report_is_written_where_the_reports_lead_out(ablate, store, elsewhere, tmp_path):
    study = write_study(tmp_path)
    store.create()
    (store.root / "reports").symlink_to(elsewhere, target_is_directory=True)
    report = ablate("report", study, "--results", store.root)
    assert report.returncode == 2
    assert "reports/small: a link that leads out of" in report.stderr


def test_a_result_behind_a_link_is_refused_by_name_and_the_rest_read(store, tmp_path):
    other = Store(tmp_path / "other")
    other.put(result(), ARRAYS)
    store.put(result(1), ARRAYS)
    (store.root / "trials" / trial().id).symlink_to(other.folder(trial().id), target_is_directory=True)
    shelf = store.read()
    assert list(shelf.results) == [trial(1).id]
    assert len(shelf.damaged) == 1
    assert f"{trial().id}: a link that leads out" in shelf.damaged[0]
    mine = Store(tmp_path / "mine")
    taken = imported(store.root, mine)
    new, refused = taken.new, taken.refused
    assert (new, len(refused)) == ([trial(1).id], 1)
    assert not mine.folder(trial().id).exists()


def test_what_cannot_be_read_now_is_left_where_it_is(store, monkeypatch):
    """A server of files that is away, or no descriptor left: not damage, for which a result would be trained anew."""
    store.put(result(), ARRAYS)
    store.put(result(1), ARRAYS)
    opened, away = os.open, store.folder(trial().id) / RESULT

    def open_or_fail(path, *arguments, **options):
        if path == away:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_or_fail)
    with pytest.raises(StoreError, match=r"cannot be read \(Input") as caught:
        list(run_trial(trial(), Site(results=store.root)))
    assert not isinstance(caught.value, DamagedError)
    shelf = store.read()
    assert (list(shelf.results), len(shelf.damaged)) == ([trial(1).id], 1)
    monkeypatch.undo()
    assert store.get(trial().id).curve == result().curve


def test_a_link_within_the_folder_is_followed(store):
    store.put(result(), ARRAYS)
    (store.root / "trials").rename(store.root / "moved")
    (store.root / "trials").symlink_to("moved", target_is_directory=True)
    assert list(store.read().results) == [trial().id]


def test_the_results_folder_itself_may_be_a_link(store, tmp_path):
    store.put(result(), ARRAYS)
    (tmp_path / "link").symlink_to(store.root, target_is_directory=True)
    assert list(Store(tmp_path / "link").read().results) == [trial().id]


@pytest.mark.parametrize("name", ["result.json", "per_image.npz"])
def test_a_document_that_is_a_link_is_refused_by_name(store, tmp_path, name):
    store.put(result(), ARRAYS)
    file = store.folder(trial().id) / name
    file.rename(tmp_path / name)
    file.symlink_to(tmp_path / name)
    shelf = store.read()
    assert (shelf.results, len(shelf.damaged)) == ({}, 1)
    assert f"{name}: is a link" in shelf.damaged[0]
    before = (tmp_path / name).read_bytes()
    store.put(result(), ARRAYS)  # in the link's place, not in what it leads to
    assert (tmp_path / name).read_bytes() == before
    assert not file.is_symlink()


def test_the_marker_may_not_be_a_link(tmp_path, elsewhere):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "store.json").symlink_to(elsewhere / "own")
    with pytest.raises(StoreError, match=r"store\.json: is a link"):
        Store(tmp_path / "results")


@pytest.mark.parametrize("name", ["result.json", "per_image.npz"])
def test_a_pipe_is_not_waited_for(store, name):
    store.put(result(), ARRAYS)
    file = store.folder(trial().id) / name
    file.unlink()
    os.mkfifo(file)
    assert len(store.read().damaged) == 1


def test_a_state_that_is_a_link_or_a_pipe_is_not_taken_up(store, elsewhere):
    state = store.folder(trial().id) / "state"
    state.parent.mkdir(parents=True)
    state.symlink_to(elsewhere / "own")
    *_, end = run_trial(trial(), Site(results=store.root))
    assert end.status == "done"
    again = store.folder(trial(1).id) / "state"
    again.parent.mkdir()
    os.mkfifo(again)
    *_, end = run_trial(trial(1), Site(results=store.root))
    assert end.status == "done"


def test_a_lock_that_is_a_link_cuts_nothing_off(store, elsewhere):
    folder = store.folder(trial().id)
    folder.mkdir(parents=True)
    (folder / "lock").symlink_to(elsewhere / "own")
    with pytest.raises(StoreError, match="lock: "), store.lock(trial().id):
        pass


def test_a_temporary_file_is_not_written_through_a_link(tmp_path, elsewhere):
    (tmp_path / f".document.{os.getpid()}").symlink_to(elsewhere / "own")
    write_atomically(tmp_path / "document", b"new")
    assert (tmp_path / "document").read_bytes() == b"new"


def test_forgetting_removes_nothing_elsewhere(store, elsewhere):
    store.put(result(status="failed", scores={}), {})
    folder = store.folder(trial().id)
    (folder / "result.json").rename(elsewhere.parent / "kept.json")
    (folder / "result.json").symlink_to(elsewhere.parent / "kept.json")
    store.forget_failed([trial()])
    assert (elsewhere.parent / "kept.json").exists()


# -- what is taken in ------------------------------------------------------------------------------------------


def test_what_is_taken_in_replaces_nothing(store, tmp_path):
    """A published document may claim any id: the folder of that id may hold another result here."""
    mine = Store(tmp_path / "mine")
    mine.put(result(), ARRAYS)
    before = (mine.folder(trial().id) / "result.json").read_bytes()
    store.put(result(7).model_copy(update={"id": trial().id}), ARRAYS)
    taken = imported(store.root, mine)
    new, refused = taken.new, taken.refused
    assert new == []
    assert len(refused) == 1
    assert "its id" in refused[0]
    assert (mine.folder(trial().id) / "result.json").read_bytes() == before


@pytest.mark.parametrize("name", ["..x", "x y", "ABC", "z" * 16, "0" * 15 + "\n"])
def test_a_result_with_another_id_than_trials_have_is_refused(store, tmp_path, name):
    store.put(result(1), ARRAYS)
    store.put(result(), ARRAYS)
    folder = store.folder(trial().id)
    document = json.loads((folder / "result.json").read_text())
    document["result"]["id"] = name
    document["checksum"] = fingerprint(document["result"])
    (folder / "result.json").write_text(json.dumps(document))
    folder.rename(folder.with_name(name))
    taken = imported(store.root, Store(tmp_path / "mine"))
    new, refused = taken.new, taken.refused
    assert new == [trial(1).id]
    assert len(refused) == 1


# -- names in studies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTWARD)
@pytest.mark.parametrize("key", ["name", "default_scale", "paper", "sections", "plugins", "metrics"])
def test_a_name_in_a_study_names_no_path(tmp_path, key, name):
    value = [name] if key in ("sections", "plugins", "metrics") else name
    with pytest.raises(AblateError):
        reported(write_study(tmp_path, **{key: value}), tmp_path / "results")


def reported(file: Path, results: Path) -> None:
    study = load(file)
    check_study(Design(study))
    gather(Design(study), Store(results))


@pytest.mark.parametrize("name", OUTWARD)
@pytest.mark.parametrize("kind", ["task", "dataset", "model"])
def test_a_part_is_found_by_name_only(tmp_path, kind, name):
    with pytest.raises(AblateError, match="unknown"):
        Design(load(write_study(tmp_path, recipe=small_study()["recipe"] | {kind: name})))


def test_labels_of_levels_and_scales_are_no_files(tmp_path, called):
    """Whatever levels, factors and scales are called, a run writes into the results folder alone."""
    factors = {"../f": {"levels": {"../../a": {"model.depth": 1}, "/etc/x": {"model.depth": 2}}}}
    study = write_study(tmp_path, factors=factors, scales={"../s": {"seeds": 1}}, default_scale="../s")
    status, _, said = called("run", study, "--local", "--results", tmp_path / "r" / "results")
    assert status == 0, said
    assert {path.name for path in tmp_path.iterdir()} == {"small.yaml", "r"}
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"results"}
    assert not any(".." in str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["../x.pth", "a/../../x.pth", "..", "a\0b"])
def test_starting_weights_lie_below_a_known_place(tmp_path, name):
    (tmp_path / "x.pth").write_bytes(b"x")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="leads out"):
        find(
            Weights(file=name, sha256="0" * 64),
            Site(results=tmp_path, data=tmp_path / "data", beside=tmp_path / "data"),
        )


def test_a_digest_is_not_sought_in_a_device(tmp_path):
    weights = small_study()["recipe"] | {"weights": {"file": "/dev/zero", "sha256": "no"}}
    with pytest.raises(AblateError, match="sha256sum /dev/zero prints it"):
        load(write_study(tmp_path, recipe=weights))


# -- names in data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTWARD)
@pytest.mark.parametrize("part", ["coco_pose", "cityscapes", "label_folder"])
def test_a_set_is_a_folder_of_the_data_folder(tmp_path, part, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "x" / "annotations").mkdir(parents=True)
    knobs = {"set": name} | ({"classes": ["a", "b"]} if part == "label_folder" else {})
    data = registry.build("dataset", part, registry.check_knobs("dataset", part, knobs))
    with pytest.raises(DataError, match="lead out of it"):
        data.open("train", tmp_path / "data")


@pytest.mark.parametrize("knob", ["images", "labels", "names"])
@pytest.mark.parametrize("place", ["../{split}", "/etc/{split}", "a/../../{split}"])
def test_patterns_stay_in_the_sets_folder(tmp_path, knob, place):
    for folder in ("data/labelled/images/train", "data/labelled/images/val", "data/labelled/labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    pattern = f"{place}/{{name}}.png" if knob == "labels" else place
    knobs = registry.check_knobs("dataset", "label_folder", {"classes": ["a", "b"], knob: pattern})
    with pytest.raises(DataError, match="lead out of it"):
        registry.build("dataset", "label_folder", knobs).open("train", tmp_path / "data")


@pytest.mark.parametrize("name", OUTWARD)
def test_an_image_lies_in_its_sets_folder(tmp_path, name):
    folder = tmp_path / "people" / "annotations"
    folder.mkdir(parents=True)
    images = [{"id": 1, "file_name": f"{name}/x.png", "height": 4, "width": 4}]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    (folder / "person_keypoints_val.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="lead out of it"):
        CocoPose(set="people").open("val", tmp_path)


def test_under_takes_what_stays_below(tmp_path):
    assert under(tmp_path, "a/b.png") == tmp_path / "a" / "b.png"
    assert under(tmp_path, "a..b") == tmp_path / "a..b"


# -- plugins ---------------------------------------------------------------------------------------------------


def test_results_of_others_import_no_plugin(tmp_path, store):
    """Modules are called like the parts of a published result: none is imported by what reads that."""
    store.put(result(), ARRAYS)
    folder = store.folder(trial().id)
    sealed = json.loads((folder / "result.json").read_text())
    for kind in ("task", "dataset", "model"):
        sealed["result"]["recipe"][kind]["name"] = f"evil_{kind}"
    sealed["result"]["env"]["plugins"] = "evil_model"
    sealed["checksum"] = fingerprint(sealed["result"])
    (folder / "result.json").write_text(json.dumps(sealed))
    modules = tmp_path / "modules"
    modules.mkdir()
    for kind in ("task", "dataset", "model", "plugin"):
        (modules / f"evil_{kind}.py").write_text(
            f"from pathlib import Path\nPath({str(tmp_path / 'sprung')!r}).touch()\n"
        )
    (modules / "small_parts.py").write_text((modules / "evil_model.py").read_text())
    for command in (("show", trial().id), ("import", store.root, "--results", "mine"), ("reproduce", trial().id)):
        arguments = [*map(str, command)] + ([] if "--results" in command else ["--results", str(store.root)])
        run = subprocess.run(
            [sys.executable, "-m", "ablate", *arguments], cwd=tmp_path, check=False, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{modules}"},
        )  # fmt: skip
        assert "Traceback" not in run.stderr, run.stderr
    assert not (tmp_path / "sprung").exists()


def test_the_arrays_of_others_are_arrays(store):
    store.put(result(), {"closeness/image_ids": np.arange(3), "x": np.zeros((2, 2))})
    assert set(store.statistics(trial().id)) == {"closeness/image_ids", "x"}
