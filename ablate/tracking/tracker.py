"""Where a study is mirrored: whether that answers, how a run is followed, and how what was missed is filled in."""

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from ablate.errors import DamagedError, ServiceError, StoreError
from ablate.machine import files, process, write_atomically
from ablate.storage import Store
from ablate.study import Design, Trial
from ablate.tracking.experiment import answering
from ablate.tracking.mirror import Mirror
from ablate.tracking.writer import LITTLE, Writer

PATIENCE = 30.0  # seconds that the end of a run waits for a server
LOCAL = 120.0  # the same, for a file of ours, whose tables may have to be made first
FEW = 4096  # bytes of the small files that drivers leave


@dataclass(frozen=True)
class Tracker:
    """One study, its results folder, and the tracker that mirrors them."""

    store: Store
    design: Design
    uri: str | None = None  # the results folder's SQLite when not given
    experiment: str | None = None  # the study's name when not given

    def refuse_unreachable(self) -> None:
        """One quick look before any training, unless the tracker has mirrored these results before: it may be down.

        Raises:
            ServiceError: nothing answers there, nor ever did.
        """
        known = ""
        with suppress(DamagedError):
            known = files.read(self.store.root / "mlflow.link", most=FEW).decode(errors="replace")
        if self.uri and not known.startswith(self.uri.rstrip("/")):
            check_reachable(self.uri)

    def follow(self, missing: list[Trial], reused: list[Trial]) -> Writer:
        """Begin to mirror an `ablate run`; what an earlier driver left behind is filled in on the way."""
        session, behind = uuid4().hex, self._behind()

        def opened() -> Mirror:
            mirror = self._mirror(session)
            if behind:
                mirror.survey()
            mirror.open(missing, reused)
            mirror.reconcile()
            return mirror

        write_atomically(self._mark, process.own().encode())
        _remove(behind)  # what they stood for, ours stands for now
        writer = Writer(self.store, opened, self._mark.touch)
        for trial in reused if behind else []:
            writer.ended(trial)
        return writer

    def finish(self, writer: Writer, status: str, *, hurry: bool = False) -> str:
        """End what `follow` began, in seconds if need be; returns why the tracker lacks something, or an empty text."""
        trouble = writer.close(status, LITTLE if hurry else PATIENCE if self.uri else LOCAL)
        if not trouble:
            _remove([self._mark])
        return trouble

    def fill(self) -> tuple[int, int]:
        """Write what the results folder holds and the tracker does not, and mend what dead drivers left there.

        Returns how many of the study's trials it now holds, and how many runs were mended.

        Raises:
            ServiceError: the tracker cannot be reached, or stopped answering.
        """
        if self.uri:
            check_reachable(self.uri)
        behind = self._behind()
        results = self.store.read().results
        trials = [trial for trial in self.design.trials if trial.id in results]
        with answering(self.uri or "the results folder"):
            mirror = self._mirror(uuid4().hex)
            mirror.survey()
            mended = mirror.reconcile()
            new = [trial for trial in trials if not mirror.shows(trial, results[trial.id])]
            if new:
                mirror.open(new, [])
                for trial in new:
                    mirror.ended(trial, results[trial.id])
                mirror.close("FINISHED")
        _remove(behind)
        return len(trials), mended

    def fill_if_behind(self) -> str:
        """Fill it in if an earlier driver ended, or died, before the tracker had it all; returns any trouble."""
        if self._behind():
            try:
                self.fill()
            except (ServiceError, StoreError) as error:
                return str(error)
        return ""

    def _mirror(self, session: str) -> Mirror:
        mirror = Mirror(self.store, self.design.study, uri=self.uri, experiment=self.experiment, session=session)
        write_atomically(self.store.root / "mlflow.link", mirror.experiment.link().encode())  # for `ablate status`
        return mirror

    def _behind(self) -> list[Path]:
        """Marks of drivers that ended, or died, before the tracker had all they knew; none of one that runs."""
        return [mark for mark in self.store.root.glob(f"{self._about}*") if not _has_a_driver(mark)]

    @property
    def _mark(self) -> Path:
        """A file that is there while the tracker may lack something of ours: from a run's start to a good end."""
        return self.store.root / f"{self._about}.{_short(process.own())}"

    @property
    def _about(self) -> str:
        """What the names of a study's marks begin with; the study's own name may hold what a file's cannot."""
        study = self.design.study
        return "mlflow.behind." + _short(f"{study.name}\n{study.scale}")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _has_a_driver(mark: Path) -> bool:
    """Whether another process than this one keeps it up to date."""
    try:
        holder = files.read(mark, most=FEW).decode(errors="replace")
        silence = time.time() - mark.stat().st_mtime
    except (DamagedError, FileNotFoundError):  # it ended well just now, or is no mark of ours
        return True
    return holder != process.own() and process.lives(holder, silence)


def _remove(marks: list[Path]) -> None:
    for mark in marks:
        with suppress(OSError):  # one that stays costs a look at the next run
            mark.unlink(missing_ok=True)


def check_reachable(uri: str) -> None:
    """One quick look at a tracking server before any training.

    Raises:
        ServiceError: nothing answers there.
    """
    if not uri.startswith(("http://", "https://")):
        return
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except HTTPError:
        return  # something answers; credentials are MLflow's business
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise ServiceError(f"MLflow at {uri} cannot be reached: {error}; start it, or leave --mlflow out") from None
