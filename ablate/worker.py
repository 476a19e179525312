"""The worker's side of Ray: a class that Tune runs in its processes, one step an epoch, kept warm between trials.

What it reports are small documents, for Ray writes down all that is reported.
"""

import os
import threading
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

from ablate import env, notes, ray_watchdog, registry, watchdog
from ablate.errors import AblateError, TeamError, one_line
from ablate.result import Epoch, Result
from ablate.site import Site, unpacked
from ablate.store import Store
from ablate.trial import Trial

CROWDED = "CrowdedOut"
STARTING = 5.0  # minutes that a process may take to start: torch over a slow network file system


class CrowdedOut(Exception):
    """A trial ran out of a device's memory beside others; its process is not used again."""


def row(report: dict[str, Any]) -> Epoch:
    """The epoch in a report."""
    return Epoch.model_validate_json(report["row"])


def trainable(tune: Any) -> type:
    """The class that Tune runs in its workers: one `step` is one epoch."""

    class OneTrial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            import ray

            os.umask(config["umask"])  # the driver's: a local Ray was started under a narrow one
            self.trial, self.site = Trial.model_validate_json(config["trial"]), unpacked(config["site"])
            minutes = self.site.hang_minutes and max(self.site.hang_minutes, STARTING)
            with watchdog.watched(minutes, self.give_up):
                import ablate.run  # noqa: F401  takes long, and is no training step
                from ablate import ray_team

                registry.load_plugins(tuple(config["plugins"]))
                env.code()
                self.nodes = ray_team.nodes()
            self.pulse = ray_watchdog.Pulse(ray.get_runtime_context().get_node_id())
            self.begin(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.cleanup()
            self.begin(new_config)
            return True

        def begin(self, config: dict[str, Any]) -> None:
            self.trial, site = Trial.model_validate_json(config["trial"]), unpacked(config["site"])
            self.pulse.at(self.trial.id)
            self.site = replace(site, gpu_share=min(1.0, config["gpus"] or 1.0))
            self.reports = reports(self.trial, self.site, on_ray=True, code=config["code"])

        def step(self) -> dict[str, Any]:
            with watchdog.watched(self.site.hang_minutes, self.give_up):
                report = next(self.reports) | {"nodes": self.nodes}
            if report.get("done"):
                self.pulse.at("")  # another process may have the trial now
            return report

        def give_up(self, reason: str) -> None:
            """Say why, if the results folder is not what hangs, and go."""

            def leave() -> None:
                with suppress(AblateError):
                    notes.leave(Store(self.site.results), self.trial.id, notes.LAST_WORDS, reason)

            writer = threading.Thread(target=leave, daemon=True)
            writer.start()
            writer.join(timeout=10)
            os._exit(1)

        def cleanup(self) -> None:
            with suppress(AblateError):  # a state that cannot be saved costs what came after the last one
                self.reports.close()

    return OneTrial


def reports(trial: Trial, site: Site, *, on_ray: bool = False, code: str = "") -> Generator[dict[str, Any]]:
    """What is told of a trial: its epochs, then how it ended. Closed in between, it saves its state.

    `code` is what another process expects of this one, see `env.code`.

    Raises:
        TeamError: its processes lost each other.
        CrowdedOut: on a device that it shares, and not alone.
    """
    import torch

    from ablate import ray_team, team_start
    from ablate.run import Cancelled, run_trial

    status, epochs, closed = "busy", 0, False
    try:
        if code:
            env.refuse_other(code)
        store = Store(site.results)
        store.refuse_missing()
        store.refuse_full()  # else a trial that found no room would train as far again, to find none
        with closing(run_trial(trial, site, ray_team.on_ray if on_ray else team_start.here)) as events:
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
