"""An MLflow experiment: its runs found, opened, written and closed. The only file that knows MLflow."""

import json
import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ablate.errors import ServiceError, one_line, without_credentials
from ablate.machine import files, write_atomically
from ablate.tracking.values import keeps, speakable

PAGE = 250  # runs in one answer: a MB or two
TRIES = 2  # of MLflow's to reach a database: ten take 100 s, and we try again ourselves
FILE, FOLDER, ASIDE = "mlflow.db", "mlflow", "mlflow.db.damaged"
ODD = re.compile("[%?\udc80-\udcff]")  # what a URI of SQLite cannot say: bytes that are no UTF-8 among it

Row = tuple[str, float, int, int]  # a metric's name and value, when (ms since 1970), and in which epoch


@dataclass(frozen=True)
class Run:
    """What is known of a run."""

    id: str  # MLflow's
    status: str  # MLflow's
    tags: dict[str, str]


class Experiment:
    """One experiment of the tracker at `uri`, made there if need be. With `folder`, its files lie there.

    Raises:
        ServiceError: it was deleted, or its files lie elsewhere.
        Exception: whatever MLflow raises, see `answering`.
    """

    def __init__(self, uri: str, name: str, *, folder: Path | None = None) -> None:
        _quiet()
        import mlflow

        if not uri.startswith(("http://", "https://")):
            from mlflow.store.db import utils

            utils.MAX_RETRY_COUNT = TRIES
        self.uri, self.folder, self.client = uri, folder, mlflow.MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(name)
        if found and found.lifecycle_stage == "deleted":
            raise ServiceError(
                f"the experiment {name!r} was deleted there; restore it (mlflow experiments restore --experiment-id "
                f"{found.experiment_id}), or name another: --experiment NAME"
            )
        if found and folder and found.artifact_location != folder.as_uri():  # made elsewhere, by us or by a stranger
            raise ServiceError(
                f"its files lie in {found.artifact_location}, not beside it; move it away, and `ablate track` makes "
                f"another"
            )
        self.id = found.experiment_id if found else self.client.create_experiment(name, folder and folder.as_uri())

    def link(self) -> str:
        """How to look at it, without credentials."""
        if self.folder and ODD.search(str(self.folder)):
            return f"cd {shlex.quote(str(self.folder.parent))} && mlflow ui --backend-store-uri sqlite:///{FILE}"
        uri = without_credentials(self.uri, of=self.uri)
        if uri.startswith("sqlite:"):
            return shlex.join(["mlflow", "ui", "--backend-store-uri", uri])
        return f"{uri.rstrip('/')}/#/experiments/{self.id}" if uri.startswith("http") else uri

    def runs(self, *conditions: str) -> Iterator[Run]:
        """The runs that are not in MLflow's bin and meet all conditions."""
        token, condition = None, " and ".join(conditions)
        while True:
            page = self.client.search_runs([self.id], condition, max_results=PAGE, page_token=token)
            for run in page:
                yield Run(run.info.run_id, run.info.status, run.data.tags)
            if not (token := page.token):
                return

    def create(self, tags: Mapping[str, str], start: int | None = None) -> str:
        """A new run, begun now or at `start` (ms since 1970); returns its id."""
        tags = {speakable(name): _text(value) for name, value in tags.items()}
        return str(self.client.create_run(self.id, start_time=start, tags=tags).info.run_id)

    def log(
        self, run: str, metrics: Iterable[Row] = (), *, params: Mapping[str, str] = {}, tags: Mapping[str, str] = {}
    ) -> None:
        """All of it in one request, or in several where MLflow's limits ask for it."""
        from mlflow.entities import Metric, Param, RunTag

        rows = [Metric(speakable(name), float(value), *when) for name, value, *when in metrics if keeps(value)]
        settings = [Param(speakable(name), _text(value)) for name, value in params.items()]
        self.client.log_batch(run, rows, settings, [RunTag(speakable(name), _text(tags[name])) for name in tags])

    def document(self, run: str, name: str, content: dict[str, Any]) -> None:
        """Keep a JSON document with a run."""
        if self.folder:  # where MLflow keeps it, whose URIs know only UTF-8
            write_atomically(self.folder / run / "artifacts" / name, json.dumps(content, indent=2).encode())
        else:
            self.client.log_dict(run, content, name)

    def close(self, run: str, status: str, end: int | None = None) -> None:
        """End a run, now or at `end`."""
        self.client.set_terminated(run, status, end)

    def reopen(self, run: str) -> None:
        """Say that a run goes on."""
        self.client.update_run(run, status="RUNNING")

    def drop(self, run: str) -> None:
        """To MLflow's bin, from which `mlflow gc` deletes."""
        self.client.delete_run(run)


def local(root: Path, name: str) -> Experiment:
    """The experiment of that name in the results folder's own SQLite file.

    A file that MLflow cannot use is set aside, for the results hold all that was in it. Raises as `Experiment` does.
    """
    root = root.resolve()
    for own in (FOLDER, FILE):
        files.refuse_outside(root / own, root)
    file = root / FILE
    if file.exists() and _is_malformed(file):
        _set_aside(file)
    make_file(file)
    try:
        return Experiment(local_uri(root), name, folder=root / FOLDER)
    except Exception as error:
        if not _blames_content(error):
            raise
        _set_aside(file)
    make_file(file)
    return Experiment(local_uri(root, anew=True), name, folder=root / FOLDER)


def local_uri(root: Path, *, anew: bool = False) -> str:
    """Of the SQLite file in a results folder; by another name of the folder where its own cannot stand in a URI, or
    where MLflow, which keeps what it opened under a URI, is to open it `anew`."""
    folder = str(root.resolve())
    if anew or ODD.search(folder):
        folder = f"/proc/self/fd/{os.open(folder, os.O_PATH)}"
    return f"sqlite:///{folder}/{FILE}"


def make_file(file: Path) -> None:
    """MLflow's tables in a new SQLite file, whole or not at all: it makes them one by one, and mends none."""
    if file.exists():
        return
    _quiet()
    import mlflow

    aside = file.with_name(f".{file.name}.{int.from_bytes(os.urandom(8))}")
    # A signal in between may leave SQLite still writing there, which is no reason for a traceback.
    with TemporaryDirectory(prefix="ablate-mlflow-", ignore_cleanup_errors=True) as folder:
        made = Path(folder, file.name)
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{made.resolve()}").search_experiments()
        write_atomically(aside, made.read_bytes())
    try:
        os.link(aside, file)
    except FileExistsError:
        pass  # another driver was quicker
    except OSError:  # no hard links there
        if not file.exists():
            aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """What a tracker fails with, as one line without credentials.

    Raises:
        ServiceError: it did not answer, or refused.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, ServiceError, OSError, ImportError, ValueError) as error:
        raise ServiceError(f"MLflow at {without_credentials(uri, of=uri)}: {_why(error, uri)}") from None


def _why(error: Exception, uri: str) -> str:
    said = without_credentials(str(getattr(error, "orig", None) or error), of=uri)  # orig: without SQL and values
    if "MLFLOW_ALLOW_FILE_STORE" in said:
        return "is a folder of files, which MLflow 3 does not write; name a server, or a file as sqlite:///mlflow.db"
    if "error code 401" in said:
        return "refused the user's name or password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    away = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.strerror]
    if away and "://" in uri:
        return f"cannot be reached ({away[-1]}); start it, or leave --mlflow out"
    return one_line(said)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came from."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _is_malformed(file: Path) -> bool:
    """Whether SQLite itself finds it damaged. One that it cannot read now is not."""
    try:
        with closing(sqlite3.connect(file)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True


def _blames_content(error: Exception) -> bool:
    """Whether tables are missing, were made by half or by another MLflow; not locks, rights or a full disk."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException

    causes = [cause for cause in _causes(error) if isinstance(cause, sqlite3.Error)]
    if not causes:
        return isinstance(error, MlflowException | CommandError)
    return causes[-1].sqlite_errorcode & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _set_aside(file: Path) -> None:
    """With what SQLite keeps beside it, which would spoil a new one."""
    for suffix in ("-journal", "-wal", "-shm", ""):
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            beside.replace(file.with_name(ASIDE + suffix))


def _text(value: str) -> str:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL takes no zero bytes


def _quiet() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it costs a request, too
    os.environ.pop("MLFLOW_RUN_ID", None)  # it would override the parent of every run
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # it would open a second run where an answer comes late
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
