"""An MLflow experiment: its runs found, opened, written and closed. The only file that knows MLflow.

Each call is one request, or few where there is much to say, and may be made again after a failure that hid whether it
was carried out: a metric that comes twice with one time is kept once.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ablate.errors import ServiceError, one_line
from ablate.machine import write_atomically
from ablate.tracking.values import keeps, speakable

PAGE = 250  # runs in one answer: a MB or two
CHILDREN = "tags.`ablate.trial` LIKE '%'"
RUNNING = "attributes.status = 'RUNNING'"

Row = tuple[str, float, int, int]  # a metric's name and value, when (ms since 1970), and in which epoch


@dataclass
class Child:
    """What is known of a trial's run."""

    run: str  # MLflow's id
    trial: str
    status: str  # MLflow's
    session: str  # of the `ablate run` that had it last
    epoch: int  # the last one that it has
    holds: tuple[str, str]  # status and end of the result that it shows whole; empty texts without one


def make_file(file: Path) -> None:
    """MLflow's tables in a new SQLite file, whole or not at all: it makes them one by one, and mends none."""
    if file.exists():
        return
    _quiet()
    import mlflow

    aside = file.with_name(f".{file.name}.{int.from_bytes(os.urandom(8))}")
    with TemporaryDirectory(prefix="ablate-mlflow-") as folder:
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


class Experiment:
    """One experiment of the tracker at `uri`; made there if need be, with local artifacts at `place`."""

    def __init__(self, uri: str, name: str, place: Path | None = None) -> None:
        _quiet()
        import mlflow

        self.uri, self.client = uri, mlflow.MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(name)
        if found and place and found.artifact_location != place.as_uri():  # made elsewhere, by us or by a stranger
            raise ServiceError(
                f"{uri}: its files lie in {found.artifact_location}, not beside it; move it away, and `ablate track` "
                f"makes another"
            )
        self.id = found.experiment_id if found else self.client.create_experiment(name, place and place.as_uri())

    @property
    def lanes(self) -> int:
        """How many threads may write at once: SQLite takes one."""
        return 8 if self.uri.startswith(("http://", "https://")) else 1

    def link(self) -> str:
        """How to look at it; a password is left out."""
        uri = re.sub(r"//[^/@]*@", "//", self.uri)
        if uri.startswith("sqlite:"):
            return f"mlflow ui --backend-store-uri {uri}"
        return f"{uri.rstrip('/')}/#/experiments/{self.id}" if uri.startswith("http") else uri

    def search(self, *conditions: str) -> Iterator[Any]:
        """The runs that are not in MLflow's bin and meet all conditions."""
        token, condition = None, " and ".join(conditions)
        while True:
            page = self.client.search_runs([self.id], condition, max_results=PAGE, page_token=token)
            yield from page
            if not (token := page.token):
                return

    def children(self, *conditions: str) -> list[Child]:
        """The trials' runs among them, those to be preferred where a trial has several last."""
        found = {run.info.run_id: _child(run) for run in self.search(CHILDREN, *conditions)}
        return sorted(found.values(), key=lambda child: (bool(child.holds[0]), child.status == "RUNNING", child.epoch))

    def create(self, tags: dict[str, str], start: int | None = None) -> str:
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
        """Keep a JSON document with a run, in place of an earlier one of that name."""
        self.client.log_dict(run, content, name)

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        """All that was logged of one metric: epoch and value."""
        return sorted((row.step, row.value) for row in self.client.get_metric_history(run, metric))

    def close(self, run: str, status: str, end: int | None = None) -> None:
        """End a run, now or at `end`."""
        self.client.set_terminated(run, status, end)

    def reopen(self, run: str) -> None:
        """Say that a run goes on."""
        self.client.update_run(run, status="RUNNING")

    def drop(self, run: str) -> None:
        """To MLflow's bin, from which `mlflow gc` deletes."""
        self.client.delete_run(run)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """What a tracker fails with, as one line.

    Raises:
        ServiceError: it did not answer, or refused.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        text = one_line(error)
        raise ServiceError(f"MLflow at {uri} failed: {text}; the same command goes on from here") from None


def _child(run: Any) -> Child:
    tags, info = run.data.tags, run.info
    holds = tags.get("ablate.status", ""), tags.get("ablate.finished", "")
    epoch = int(run.data.metrics.get("epoch", 0))
    return Child(info.run_id, tags["ablate.trial"], info.status, tags.get("ablate.session", ""), epoch, holds)


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
