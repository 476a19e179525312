"""Where a study is mirrored: whether that answers, how a run is followed, and how what was missed is filled in."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ablate.errors import DamagedError, ServiceError, StoreError, without_credentials
from ablate.machine import files, write_atomically
from ablate.storage import Store
from ablate.study import Design, Trial
from ablate.tracking.experiment import Experiment, answering, local
from ablate.tracking.mirror import Mirror
from ablate.tracking.writer import Writer

LINK, FEW = "mlflow.link", 4096  # how to look at it, for `ablate status`; and the bytes that it may have


@dataclass(frozen=True)
class Tracker:
    """One study, its results folder, and the tracker that mirrors them."""

    store: Store
    design: Design
    uri: str | None = None  # the results folder's SQLite when not given
    experiment: str | None = None  # the study's name when not given

    def refuse_unreachable(self) -> None:
        """One look before any training, unless the tracker has mirrored these results before: it may be down.

        Raises:
            ServiceError: it does not answer, or refuses.
        """
        if self.uri and not self._known().startswith(without_credentials(self.uri, of=self.uri).rstrip("/")):
            with answering(self._named):
                self._opened()

    def follow(self, missing: Sequence[Trial], reused: Sequence[Trial]) -> Writer:
        """Begin to mirror an `ablate run`; what it lacks of other results is filled in at the end."""

        def opened() -> Mirror:
            mirror = Mirror(self._opened(), self.store, self.design, len(missing), reused)
            mirror.survey()
            return mirror

        return Writer(self.store, opened, self._named)

    def fill(self) -> tuple[int, int]:
        """Write what the results folder holds and the tracker does not, and drop or close what dead drivers left there.

        Returns how many of the study's trials it now shows, and how many runs were closed or dropped.

        Raises:
            ServiceError: the tracker cannot be reached, or stopped answering.
        """
        with answering(self._named):
            mirror = Mirror(self._opened(), self.store, self.design)
            shown, mended, trouble = mirror.fill()
            mirror.close("FINISHED")
            if trouble:
                raise ServiceError(trouble)
        return shown, mended

    def refill(self) -> str:
        """`fill` where these results were mirrored before, for a driver may have died; returns any trouble."""
        try:
            if self._known():
                self.fill()
        except (ServiceError, StoreError) as error:
            return str(error)
        return ""

    @property
    def _named(self) -> str:
        return self.uri or str(self.store.root)

    def _opened(self) -> Experiment:
        name = self.experiment or self.design.study.name
        found = Experiment(self.uri, name) if self.uri else local(self.store.root, name)
        write_atomically(self.store.root / LINK, os.fsencode(found.link()))
        return found

    def _known(self) -> str:
        with suppress(DamagedError):
            return files.read(self.store.root / LINK, most=FEW).decode(errors="replace")
        return ""
