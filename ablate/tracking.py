"""MLflow as a mirror of the results: a parent run per `ablate run`, a child per trial. The only file that knows MLflow.

Written by the driver alone, from a thread of its own, so that a slow or absent server costs no training time. Never
read back for numbers; `ablate track` fills in what the mirror missed. A child is found again by its trial's id, so
nothing is logged twice.
"""

import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablate import env
from ablate.errors import ServiceError
from ablate.place import write_atomically
from ablate.result import Epoch, Result
from ablate.store import Store
from ablate.study import Study
from ablate.trial import Trial

GIBI = 2**30


def local_uri(results: Path) -> str:
    """The default tracker: a SQLite file under the results folder."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


class Mirror:
    """One experiment of one tracker. Every method may raise what the tracker raises: see `Writer`."""

    def __init__(self, store: Store, study: Study, *, uri: str | None = None, experiment: str | None = None) -> None:
        _quiet()
        import mlflow

        self.store, self.study, self.uri = store, study, uri or local_uri(store.root)
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        name = experiment or study.name
        found = self.client.get_experiment_by_name(name)
        location = None if uri else (store.root / "mlflow").resolve().as_uri()
        self.experiment = found.experiment_id if found else self.client.create_experiment(name, location)
        self.children = {run.data.tags["ablate.trial"]: run for run in self._search("tags.`ablate.trial` LIKE '%'")}
        self.parent = ""

    def open(self, planned: list[Trial], reused: list[Trial]) -> None:
        """Begin the parent run of one `ablate run`; trials that are done already are linked by a tag, not copied."""
        tags = {
            "mlflow.runName": f"{self.study.name} {self.study.scale}".strip(),
            "ablate.study": self.study.name,
        }
        tags |= {"ablate.scale": self.study.scale, "ablate.planned": str(len(planned))}
        tags |= {"ablate.reused": " ".join(trial.id for trial in reused)[:5000]}
        self.parent = self._create(tags)

    def started(self, trial: Trial) -> None:
        """Open the trial's run, or take up the one it has."""
        if trial.id in self.children:
            self.client.update_run(self._run(trial), status="RUNNING")
            return
        label = " ".join(f"{name}={level}" for name, level in trial.arm.items())
        tags = {
            "mlflow.runName": f"{label} seed={trial.seed}",
            "ablate.trial": trial.id,
            "ablate.study": self.study.name,
        }
        if self.parent:
            tags["mlflow.parentRunId"] = self.parent
        run_id = self._create(tags | {f"ablate.arm.{name}": level for name, level in trial.arm.items()})
        recipe = trial.recipe.model_dump(mode="json")
        self._log(run_id, params={**_flat(recipe), "seed": str(trial.seed)})
        self.client.log_dict(run_id, {"seed": trial.seed, "recipe": recipe}, "config.json")
        self.children[trial.id] = self.client.get_run(run_id)

    def epochs(self, trial: Trial, rows: list[Epoch]) -> None:
        """Log the rows of the learning curve that the run does not have yet."""
        run = self.children[trial.id]
        last = run.data.metrics.get("epoch", 0)
        for row in (row for row in rows if row.epoch > last):
            values = {
                "epoch": row.epoch,
                "loss": row.loss,
                "lr": row.lr,
                "train_images_per_second": row.images_per_second,
            }
            self._log(run.info.run_id, metrics=values | row.scores, step=row.epoch)
            run.data.metrics["epoch"] = row.epoch

    def ended(self, trial: Trial, result: Result) -> None:
        """Log what the result holds and close its run with the status that it deserves."""
        run = self.children[trial.id]
        if run.data.tags.get("ablate.status") == result.status and run.info.status in ("FINISHED", "FAILED"):
            return
        self.epochs(trial, result.curve)
        metrics = dict(result.scores) | {"seconds": result.seconds}
        if result.cost:
            metrics |= {
                "GFLOPs": result.cost.macs / GIBI,
                "parameters": result.cost.parameters,
                "images_per_second": result.cost.images_per_second,
                "peak_memory_bytes": result.cost.peak_memory,
            }
        self._log(run.info.run_id, metrics=metrics, step=len(result.curve))
        tags = {
            "ablate.status": result.status,
            "ablate.reason": result.reason,
            "mlflow.source.git.commit": result.env["revision"],
        }
        tags |= {
            "ablate.dirty": result.env["dirty"],
            "ablate.GFLOPs": "multiply-adds of convolutions and linear layers / 2^30",
        }
        for name, value in (tags | {f"ablate.data.{k}": v for k, v in result.data_digest.items()}).items():
            self.client.set_tag(run.info.run_id, name, value)
        self.client.log_dict(run.info.run_id, json.loads(result.model_dump_json()), "result.json")
        self._close(run.info.run_id, "FINISHED" if result.status == "done" else "FAILED")
        self.children[trial.id] = self.client.get_run(run.info.run_id)

    def close(self, status: str, unfinished: list[Trial]) -> None:
        """End the parent run; children that did not end are KILLED until a later run takes them up."""
        for trial in unfinished:
            if trial.id in self.children and self.children[trial.id].info.status == "RUNNING":
                self._close(self._run(trial), "KILLED")
        if self.parent:
            self._close(self.parent, status)

    def link(self) -> str:
        """How to look at this experiment."""
        if self.uri.startswith("sqlite:"):
            return f"mlflow ui --backend-store-uri {self.uri}"
        return f"{self.uri}/#/experiments/{self.experiment}" if self.uri.startswith("http") else self.uri

    def _run(self, trial: Trial) -> str:
        return str(self.children[trial.id].info.run_id)

    def _create(self, tags: dict[str, str]) -> str:
        tags |= {"mlflow.user": os.environ.get("USER", "unknown"), "mlflow.source.name": "ablate"}
        tags["mlflow.source.git.commit"] = env.revision()["revision"]
        return str(self.client.create_run(self.experiment, tags=tags).info.run_id)

    def _close(self, run_id: str, status: str) -> None:
        self.client.set_terminated(run_id, status)

    def _search(self, condition: str) -> list[Any]:
        runs, token = [], None
        while True:
            page = self.client.search_runs([self.experiment], condition, max_results=1000, page_token=token)
            runs += list(page)
            token = page.token
            if not token:
                return runs

    def _log(
        self,
        run_id: str,
        *,
        metrics: dict[str, float] | None = None,
        params: dict[str, str] | None = None,
        step: int = 0,
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        # The SQL store keeps infinity as 1.8e308: such a value is left to the status tag and the result document.
        finite = {k: float(v) for k, v in (metrics or {}).items() if abs(float(v)) < 1e300}
        rows = [Metric(_speakable(name), value, now, step) for name, value in finite.items()]
        self.client.log_batch(run_id, metrics=rows, params=[Param(k, v) for k, v in (params or {}).items()])


def _speakable(name: str) -> str:
    """A metric's name in the characters that MLflow takes; a class may be called anything."""
    return "/".join(re.sub(r"[^\w.\- :]", "_", part).lstrip(".") or "_" for part in name.split("/"))[:250]


class Writer:
    """A thread that mirrors; the first thing that fails ends the mirroring, with one line in `trouble`."""

    def __init__(self, open_mirror: Callable[[], Mirror]) -> None:
        self.trouble = ""
        self._jobs: queue.SimpleQueue[Callable[[Mirror], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(open_mirror,), name="mlflow", daemon=True)
        self._thread.start()

    def put(self, job: Callable[[Mirror], None]) -> None:
        """Queue a job; returns at once."""
        self._jobs.put(job)

    def close(self, timeout: float = 120) -> None:
        """Wait for what is queued."""
        self._jobs.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.trouble = self.trouble or f"still busy after {timeout:.0f} s"

    def _work(self, open_mirror: Callable[[], Mirror]) -> None:
        try:
            mirror = open_mirror()
            while job := self._jobs.get():
                job(mirror)
        except Exception as error:  # whatever the tracker does, training goes on
            self.trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def check_reachable(uri: str) -> None:
    """One quick look at a tracking server before any training.

    Raises:
        ServiceError: nothing answers there.
    """
    if not uri.startswith(("http://", "https://")):
        return
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except HTTPError:
        return  # something answers; credentials are MLflow's business
    except (URLError, OSError, ValueError) as error:
        raise ServiceError(f"MLflow at {uri} cannot be reached: {error}; start it, or leave --mlflow out") from None


def note_link(store: Store, link: str) -> None:
    """Keep how to open the tracker, for `ablate status`."""
    write_atomically(store.root / "mlflow.link", link.encode())


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in document.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": str(value)}
    return flat


def _quiet() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.pop("MLFLOW_RUN_ID", None)  # it would override the parent of every run
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
