"""The worker's side of Ray: a class that Tune runs in its processes, one step an epoch, kept warm between trials.

What it reports are small documents, for Ray writes down all that is reported.
"""

import json
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ablate import registry
from ablate.errors import AblateError
from ablate.result import Result
from ablate.site import Site
from ablate.trial import Trial

FOLDERS = ("data", "beside")


def packed(site: Site) -> str:
    """A site as text, for the way to the workers."""
    return json.dumps(asdict(site), default=str)


def unpacked(text: str) -> Site:
    """The site again."""
    site = json.loads(text)
    return Site(**{**site, **{name: Path(site[name]) if site[name] else None for name in FOLDERS}})


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
    from ablate.run import run_trial

    status = "busy"
    try:
        for event in run_trial(trial, site):
            if isinstance(event, Result):
                status = event.status
            else:
                yield {"row": event.model_dump_json()}
        yield {"status": status, "done": True}
    except AblateError as error:
        yield {"trouble": str(error), "status": "stopped", "done": True}
