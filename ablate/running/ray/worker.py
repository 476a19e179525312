"""The worker's side of Ray: a class that Tune runs in its processes, one step an epoch, kept warm between trials.

What it reports are small documents, for Ray writes down all that is reported.
"""

import os
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ablate import registry
from ablate.errors import AblateError
from ablate.machine import origin, watchdog
from ablate.running.ray import pulse
from ablate.storage import Store, notes
from ablate.study import Trial
from ablate.training.reports import reports
from ablate.training.site import unpacked

STARTING = 5.0  # minutes that a process may take to start: torch over a slow network file system


def trainable(tune: Any) -> type:
    """The class that Tune runs in its workers: one `step` is one epoch."""

    class OneTrial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            import ray

            os.umask(config["umask"])  # the driver's: a local Ray was started under a narrow one
            self.trial, self.site = Trial.model_validate_json(config["trial"]), unpacked(config["site"])
            minutes = self.site.budget.hang_minutes and max(self.site.budget.hang_minutes, STARTING)
            with watchdog.watched(minutes, self.give_up):
                import ablate.training.run_trial  # noqa: F401  takes long, and is no training step
                from ablate.running.ray import team

                with suppress(AblateError):  # `reports` says what is wrong
                    registry.load_plugins(config["plugins"])
                origin.code()
                self.team, self.nodes = team.on_ray, team.nodes()
            self.pulse = pulse.Pulse(ray.get_runtime_context().get_node_id())
            self.begin(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.cleanup()
            self.begin(new_config)
            return True

        def begin(self, config: dict[str, Any]) -> None:
            self.trial, site = Trial.model_validate_json(config["trial"]), unpacked(config["site"])
            self.pulse.at(self.trial.id)
            self.site = replace(site, gpu_share=min(1.0, config["gpus"] or 1.0))
            self.reports = reports(self.trial, self.site, self.team, code=config["code"], plugins=config["plugins"])

        def step(self) -> dict[str, Any]:
            with watchdog.watched(self.site.budget.hang_minutes, self.give_up):
                report = next(self.reports) | {"nodes": self.nodes}
            if report.get("done"):
                self.pulse.at("")  # another process may have the trial now
            return report

        def give_up(self, reason: str) -> None:
            """Say why, if the results folder is not what hangs, and go."""

            def leave() -> None:
                with suppress(AblateError):
                    notes.leave(Store(self.site.results, self.site.kind), self.trial.id, notes.LAST_WORDS, reason)

            writer = threading.Thread(target=leave, daemon=True)
            writer.start()
            writer.join(timeout=10)
            os._exit(1)

        def cleanup(self) -> None:
            with suppress(AblateError):  # a state that cannot be saved costs what came after the last one
                self.reports.close()

    return OneTrial
