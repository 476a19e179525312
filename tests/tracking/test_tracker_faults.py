"""What trackers fail with: away, refused, damaged, deleted, in a folder of any name; and that no password is shown."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest
from mirrored import QUIET, assert_mirrors, client, drive_here, runs, trained
from servers import free_port
from small_studies import COMMAND, write_study

from ablate.errors import ServiceError, StoreError, without_credentials
from ablate.storage import Store
from ablate.study import Design, load
from ablate.tracking import Tracker
from ablate.tracking.experiment import Experiment, answering, local, local_uri, make_file

pytestmark = [pytest.mark.usefixtures("small_shelf", "prepared"), *QUIET]


SECRET = "s3cr3t"
URIS = {
    "http://user:s3cr3t@host:5000/x": "http://host:5000/x",
    "https://s3cr3t@host": "https://host",
    "postgresql://user:a/s3cr3t@host/db": "postgresql://host/db",
    "postgresql://user:a@s3cr3t@host/db": "postgresql://host/db",
    "mysql+pymysql://user:a s3cr3t@host/db": "mysql+pymysql://host/db",
    "http://user:a#s3cr3t@host": "http://host",
    "http://user:a?s3cr3t@host": "http://...",
    "postgresql://host/db?user=me&password=s3cr3t": "postgresql://host/db?...",
    "postgresql://host/db?password=a@s3cr3t": "postgresql://...",
    "s3://key:a/s3cr3t@bucket/x": "s3://bucket/x",
    "sqlite:////folder/me@home/mlflow.db": "sqlite:////folder/me@home/mlflow.db",
    "https://host:5000/#/experiments/1": "https://host:5000/#/experiments/1",
}


@pytest.mark.parametrize("uri", URIS)
def test_no_credentials_are_shown(uri):
    """Neither of a URI, nor in any error's line, nor in what a library says that took it apart."""
    assert without_credentials(uri, of=uri) == URIS[uri]
    if " " not in uri:  # else it ends there, in a text
        assert str(ServiceError(f"MLflow at {uri}: no")) == f"MLflow at {URIS[uri]}: no"
    for said in (f"cannot parse '{uri}', it seems", f"no host '{uri[-11:]}'", uri.partition("://")[2]):
        with pytest.raises(ServiceError) as told, answering(uri):
            raise OSError(said)
        assert SECRET not in str(told.value)


@pytest.mark.parametrize("uri", [uri for uri in URIS if SECRET in uri and not uri.startswith("s3:")])
def test_no_password_of_a_tracker_is_stored_or_printed(tmp_path, uri):
    uri = uri.replace("host", f"127.0.0.1:{free_port()}").replace(":5000", "").replace("pymysql", "none")
    tracker = Tracker(Store(tmp_path / "results"), Design(load(write_study(tmp_path))), uri)
    for look in (tracker.refuse_unreachable, tracker.fill):
        with pytest.raises(ServiceError) as told:
            look()
        assert SECRET not in str(told.value)
        assert str(told.value).startswith(f"MLflow at {uri.partition('://')[0]}://")
    experiment = Experiment(local_uri(tmp_path / "results"), "links")
    experiment.uri = uri
    assert SECRET not in experiment.link()


@pytest.mark.parametrize("url", ["s3://key:s3cr3t@bucket/x", "s3://key:a/s3cr3t@bucket/x", "s3://bucket/x?key=s3cr3t"])
def test_no_password_of_a_results_store_is_shown(url):
    with pytest.raises(StoreError, match="holds neither credentials") as told:
        Store(url)
    assert SECRET not in str(told.value)


def test_a_server_that_is_not_there_is_known_before_training(tmp_path):
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=rf"MLflow at {uri}: cannot be reached \(Connection refused\)"):
        drive_here(tmp_path, tracker=uri)
    for bad in ("http://", "http://127.0.0.1:99999", "http://localhost:50OO", "https://no.such.host.invalid"):
        with pytest.raises(ServiceError, match=f"MLflow at {bad}: "):
            drive_here(tmp_path, tracker=bad)
    assert not list((tmp_path / "results").glob("trials/*"))


@pytest.mark.parametrize("uri", ["./mlruns", "mlruns", "file:mlruns", "file:///tmp/mlruns", "ftp://host/x"])
def test_a_tracker_that_mlflow_does_not_write_is_known_before_training(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServiceError, match=f"MLflow at {uri}: ") as told:
        drive_here(tmp_path, tracker=uri)
    assert ("is a folder of files" in str(told.value)) == (not uri.startswith("ftp"))
    assert not list((tmp_path / "results").glob("trials/*"))


@pytest.mark.slow
def test_a_server_that_is_not_there_is_one_line_and_status_2(ablate, tmp_path):
    uri = f"http://user:{SECRET}@127.0.0.1:{free_port()}"
    run = ablate("run", write_study(tmp_path), "--local", "--mlflow", uri)
    assert run.returncode == 2
    (said,) = [line for line in run.stderr.splitlines() if line.startswith("ablate: ")]
    assert "MLflow at http://127.0.0.1:" in said
    assert "Traceback" not in run.stderr
    assert SECRET not in run.stderr


def test_a_deleted_experiment_is_told_with_both_remedies(tmp_path):
    design, store, _ = trained(tmp_path, seeds=1)
    Tracker(store, design).fill()
    known = client(local_uri(store.root))
    found = known.get_experiment_by_name("small").experiment_id
    known.delete_experiment(found)
    with pytest.raises(ServiceError, match=r"was deleted there; restore it .* or name another: --experiment NAME"):
        Tracker(store, design).fill()
    assert Tracker(store, design, experiment="another").fill() == (2, 0)
    known.restore_experiment(found)
    assert Tracker(store, design).fill() == (2, 0)
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")


def half_made(file):
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE assessments (x)")


def one_page_lost(file):
    content = bytearray(file.read_bytes())
    content[4096 * 20 : 4096 * 40] = os.urandom(4096 * 20)
    file.write_bytes(content)


def another_version(file):
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'x'")


DAMAGES = {
    "cut short": lambda file: os.truncate(file, 500_000),
    "cut within a page": lambda file: os.truncate(file, 5000),
    "pages lost": one_page_lost,
    "no database": lambda file: file.write_text("lost and found " * 1000),
    "empty": lambda file: os.truncate(file, 0),
    "tables made by half": half_made,
    "tables of another MLflow": another_version,
}


@pytest.mark.parametrize(
    "damage", [name if name == "cut short" else pytest.param(name, marks=pytest.mark.slow) for name in DAMAGES]
)
def test_a_damaged_file_is_set_aside_and_written_anew(ablate, tmp_path, damage):
    """In a process of its own, for MLflow keeps what it opened."""
    _, store, _ = trained(tmp_path, seeds=1)
    file = store.root / "mlflow.db"
    DAMAGES[damage](file)
    damaged = file.read_bytes()
    track = ablate("track", "small.yaml")
    assert track.stdout == "2 trials are in MLflow; 0 runs of dead drivers were closed or dropped\n", track.stderr
    assert_mirrors(local_uri(store.root), store, tmp_path / "artifacts")
    if damage != "empty":  # MLflow makes its tables there
        assert file.with_name("mlflow.db.damaged").read_bytes()[:16] == damaged[:16]
        assert "mlflow.db.damaged: renamed" in ablate("status", "small.yaml").stderr


@pytest.mark.slow
def test_a_file_that_is_only_locked_is_not_set_aside(tmp_path):
    design, store, _ = trained(tmp_path, seeds=1)
    Tracker(store, design).fill()
    holder = sqlite3.connect(store.root / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ServiceError, match="locked"):
        Tracker(store, design).fill()
    holder.close()
    assert Tracker(store, design).fill() == (2, 0)
    assert not (store.root / "mlflow.db.damaged").exists()


@pytest.mark.parametrize("name", [b"r%20x", b"x%2Fy", b"a?b=c#d", b"caf\xe9", "\u00fc '\"".encode(), b"a@b:c"])
def test_a_results_folder_may_be_called_anything(tmp_path, name, monkeypatch):
    folder = tmp_path / os.fsdecode(name)
    (tmp_path / "results").rename(folder)
    design, store, _ = trained(tmp_path, seeds=1)
    shutil.rmtree(folder / "trials", ignore_errors=True)
    (tmp_path / "results" / "trials").rename(folder / "trials")
    shutil.rmtree(tmp_path / "results")
    store = Store(folder)
    assert Tracker(store, design).fill() == (2, 0)
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "small.yaml"}
    assert Tracker(store, design).fill() == (2, 0)
    parents, children = runs(local_uri(folder))
    assert (len(parents), len(children)) == (1, 2)
    for run in children:
        assert sorted(path.name for path in (folder / "mlflow" / run.info.run_id / "artifacts").iterdir()) == [
            "config.json", "result.json",
        ]  # fmt: skip
    link = (folder / "mlflow.link").read_bytes()
    at = link.partition(b"--backend-store-uri")[0].replace(b"mlflow ui", b"pwd")
    shown = subprocess.run([b"bash", b"-c", at], capture_output=True, check=True, cwd=tmp_path).stdout.strip()
    assert shown == os.fsencode(folder if at.startswith(b"cd ") else tmp_path)


@pytest.mark.parametrize("what", ["not utf-8", "folder", "pipe"])
def test_files_of_a_strangers_folder_do_not_stop_a_run(tmp_path, what):
    """What a server's name would be."""
    path = tmp_path / "results" / "mlflow.link"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe")
        assert drive_here(tmp_path, seeds=1)[1].mirror_trouble == ""
    tracker = Tracker(
        Store(tmp_path / "results"), Design(load(write_study(tmp_path))), f"http://127.0.0.1:{free_port()}"
    )
    with pytest.raises(ServiceError, match="cannot be reached"):
        tracker.refuse_unreachable()


def test_a_tracker_that_leads_elsewhere_is_not_written(tmp_path):
    """Its SQLite file is a link, or says that its artifacts lie in another place."""
    elsewhere = tmp_path / "elsewhere"
    local(elsewhere, "small")
    before = sorted(elsewhere.rglob("*"))
    (tmp_path / "results" / "mlflow.db").unlink()
    (tmp_path / "results" / "mlflow.db").symlink_to(elsewhere / "mlflow.db")
    assert "a link that leads out of" in drive_here(tmp_path, seeds=1)[1].mirror_trouble
    (tmp_path / "results" / "mlflow.db").unlink()
    shutil.copy(elsewhere / "mlflow.db", tmp_path / "results" / "mlflow.db")
    with pytest.raises(ServiceError, match="its files lie in "):
        Tracker(Store(tmp_path / "results"), Design(load(write_study(tmp_path, seeds=1)))).fill()
    assert sorted(elsewhere.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.2, 0.5])
def test_tables_are_made_whole_or_not_at_all(tmp_path, after):
    """A process that is killed while MLflow makes them leaves nothing that stops the next one."""
    place = tmp_path / "place"
    code = "import sys, pathlib, ablate.tracking.experiment as e; e.make_file(pathlib.Path(sys.argv[1], 'mlflow.db'))"
    command = [COMMAND[0], "-c", code, place]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, env=environment) as process:
        while not list(tmp_path.glob("ablate-mlflow-*/mlflow.db")):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(after)
        os.killpg(process.pid, signal.SIGKILL)
    make_file(place / "mlflow.db")
    assert list(local(place, "name").runs()) == []
    assert not (place / "mlflow.db.damaged").exists()
