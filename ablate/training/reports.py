"""What a process that trains tells of its trial, as small documents, and who hears of it."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Protocol, TypedDict

from ablate import registry
from ablate.errors import AblateError, TeamError, one_line
from ablate.machine import origin
from ablate.storage import Epoch, Result, Store
from ablate.study import Trial
from ablate.training.site import Site

if TYPE_CHECKING:
    from ablate.training.run_trial import Assembly

CROWDED = "CrowdedOut"


class CrowdedOut(Exception):
    """A trial ran out of a device's memory beside others; its process is not used again."""


class Report(TypedDict, total=False):
    """A document: an epoch that ended, what kept the trial from being tried, or how it ended."""

    row: str  # an `Epoch` as JSON
    trouble: str  # one line
    status: str  # see `Listener.ended`
    done: bool  # whether it is the last


def row(report: Mapping[str, object]) -> Epoch:
    """The epoch in a report."""
    return Epoch.model_validate_json(str(report["row"]))


class Listener(Protocol):
    """Hears of trials as they go, in the driver; must return at once."""

    def noticed(self, remark: str) -> None:
        """Before the first trial: what of the data may be a mistake, and may be meant."""

    def started(self, trial: Trial) -> None:
        """A worker took up the trial."""

    def epoch(self, trial: Trial, row: Epoch) -> None:
        """An epoch ended."""

    def ended(self, trial: Trial, status: str) -> None:
        """Its result is stored ('done', 'failed', 'diverged'; 'elsewhere': by another process), or it has none:
        'cancelled', or 'busy' where another process is at it and is not waited for."""

    def waits(self, trial: Trial, whom: str) -> None:
        """Another process, named in words, is at it and at others maybe; the run ends when that one has ended them."""

    def retried(self, trial: Trial, reason: str) -> None:
        """It did not end, and is tried again."""

    def died(self, trial: Trial, reason: str) -> None:
        """It was tried as often as the budget lets."""


def reports(
    trial: Trial,
    site: Site,
    assembly: "Assembly | None" = None,
    *,
    code: str = "",
    plugins: Sequence[str] = (),
) -> Generator[Report]:
    """What is told of a trial: its epochs, then how it ended. Closed in between, it saves its state.

    `assembly` calls its processes together, on this machine where none is given. `code` is what another process expects
    of this one, see `origin.code`; `plugins` are to be loaded here, and to be what the trial is named after.

    Raises:
        TeamError: its processes lost each other.
        CrowdedOut: on a device that it shares, and not alone.
    """
    import torch

    from ablate.training import team_start
    from ablate.training.run_trial import Cancelled, run_trial

    status, epochs, closed = "busy", 0, False
    try:
        if code:
            origin.refuse_other(code)
        registry.load_plugins(plugins)
        trial.refuse_other_plugins()
        store = Store(site.results)
        store.refuse_missing()
        store.refuse_full()  # else a trial that found no room would train as far again, to find none
        with closing(run_trial(trial, site, assembly or team_start.here)) as events:
            for event in events:
                if isinstance(event, Result):
                    store.refuse_missing()  # else it went onto another disk, where no driver sees it
                    status = "elsewhere" if event.status == "done" and not epochs else event.status
                else:
                    epochs += 1
                    closed = True  # if this is as far as it goes
                    yield {"row": event.model_dump_json()}
                    closed = False
    except Cancelled:
        status = "cancelled"
    except torch.OutOfMemoryError as error:
        raise CrowdedOut(one_line(error)) from None
    except TeamError:
        raise  # ends the attempt, and there may be another
    except AblateError as error:
        if closed:
            raise  # its state could not be saved
        yield {"trouble": str(error), "done": True}
        return
    yield {"status": status, "done": True}
