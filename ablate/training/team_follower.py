"""A further process of a trial: it does its share until the trial ends, and stores nothing.

As `python -m ablate.training.team_follower` it reads its job from the first line of its standard input, which process 0
holds open as long as it lives; at the input's end this process ends too, whatever it is at.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torch.distributed import DistError, Store, TCPStore  # type: ignore[attr-defined]  # the stubs lack them

from ablate import registry
from ablate.errors import LoadingError, TeamError
from ablate.machine import origin
from ablate.study import Trial
from ablate.training import run_trial
from ablate.training.fit import Diverged
from ablate.training.site import unpacked
from ablate.training.team import PATIENCE, joined


def follow(job: str, *, address: str | None = None) -> None:
    """Do the job that process 0 wrote; `address` is where this process listens, process 0's when not given.

    Raises:
        Exception: whatever goes wrong here and not everywhere; process 0 has been told.
    """
    said = json.loads(job)
    rank, size = int(said["rank"]), int(said["size"])
    store = TCPStore(said["address"], said["port"], is_master=False, timeout=PATIENCE, wait_for_workers=False)
    with _reporting(store, rank):
        origin.refuse_other(said["code"])
        registry.load_plugins(tuple(said["plugins"]))
        trial, site = Trial.model_validate_json(said["trial"]), unpacked(said["site"])
        trial.refuse_other_plugins()
        store.set(f"here/{rank}", "")
        with joined(rank, size, store, address or said["address"], gpu=site.gpu) as team, _reporting(store, rank):
            run_trial.follow(trial, site, team)


@contextmanager
def _reporting(store: Store, rank: int) -> Iterator[None]:
    """Tell process 0 what went wrong, before it sees that this process is gone."""
    try:
        yield
    except Exception as error:
        if isinstance(error, TeamError | DistError | Diverged) and not isinstance(error, LoadingError):
            return  # process 0 sees the same, or is gone
        if not store.check([f"fault/{rank}"]):
            if run_trial.is_of_the_code(error):
                with suppress(OSError):  # nobody may read it
                    traceback.print_exception(error)
            store.set(f"fault/{rank}", json.dumps([type(error).__name__, str(error)]))
        raise


def main() -> None:
    job = sys.stdin.readline()
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        follow(job)
    except Exception:
        os._exit(1)
    os._exit(0)  # at once: nothing of this process is worth an orderly end


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


if __name__ == "__main__":
    main()
