"""The worker's side of Ray: a class that Tune runs in its processes, one step an epoch, kept warm between trials.

What it reports are small documents, for Ray writes down all that is reported.
"""

from collections.abc import Generator
from typing import Any

from ablate import registry
from ablate.errors import AblateError, TeamError
from ablate.result import Result
from ablate.site import Site, unpacked
from ablate.trial import Trial


def trainable(tune: Any) -> type:
    """The class that Tune runs in its workers: one `step` is one epoch."""

    class OneTrial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            registry.load_plugins(tuple(config["plugins"]))
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.events = _events(Trial.model_validate_json(new_config["trial"]), unpacked(new_config["site"]))
            return True

        def step(self) -> dict[str, Any]:
            return next(self.events)

        def cleanup(self) -> None:
            self.events.close()

    return OneTrial


def _events(trial: Trial, site: Site) -> Generator[dict[str, Any]]:
    """What is reported of a trial."""
    from ablate.followers import on_ray
    from ablate.run import run_trial

    status = "busy"
    try:
        for event in run_trial(trial, site, on_ray):
            if isinstance(event, Result):
                status = event.status
            else:
                yield {"row": event.model_dump_json()}
        yield {"status": status, "done": True}
    except TeamError:
        raise  # ends the attempt; Tune tries again
    except AblateError as error:
        yield {"trouble": str(error), "status": "stopped", "done": True}
