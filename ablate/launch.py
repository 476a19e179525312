"""Trials to processes: Ray Tune on a machine or a cluster, or a plain loop in this one. The only file that knows Ray.

Tune is the scheduler, not the designer: it gets our list of trials, places them and replaces processes that died.
Workers are kept warm between trials (`reuse_actors`), since importing torch costs more than a small trial. Nothing of
Tune's own state is used again: what is missing is asked of the results folder.
"""

import json
import logging
import os
import socket
import tempfile
import warnings
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ablate import registry
from ablate.errors import AblateError, ServiceError
from ablate.result import Epoch, Result
from ablate.site import Site
from ablate.study import Budget
from ablate.trial import Trial


class Listener(Protocol):
    """Hears of trials as they go, in the driver; must return at once."""

    def started(self, trial: Trial) -> None:
        """A worker took up the trial."""

    def epoch(self, trial: Trial, row: Epoch) -> None:
        """An epoch ended."""

    def ended(self, trial: Trial, status: str) -> None:
        """The trial's result is stored ('done', 'failed', 'diverged'), or another driver has it ('busy')."""

    def died(self, trial: Trial, reason: str) -> None:
        """The trial's process died more often than the budget retries."""


def run_here(trials: list[Trial], site: Site, listener: Listener) -> None:
    """One trial after the other in this process, without Ray."""
    from ablate.run import run_trial

    for trial in trials:
        listener.started(trial)
        status = "busy"
        for event in run_trial(trial, site):
            if isinstance(event, Result):
                status = event.status
            else:
                listener.epoch(trial, event)
        listener.ended(trial, status)


def run_on_ray(
    trials: list[Trial],
    site: Site,
    budget: Budget,
    listener: Listener,
    *,
    plugins: tuple[str, ...] = (),
    address: str | None = None,
) -> None:
    """All trials through Ray Tune, on this machine or on the cluster at `address`.

    Raises:
        ServiceError: the cluster cannot be reached, or has no node that a trial fits on.
        AblateError: what a worker found wrong with the data or the results folder.
    """
    _quiet()
    import ray
    from ray import tune

    _connect(ray, address)
    try:
        _refuse_unplaceable(ray.nodes(), budget)
        relay = _relay(tune, {trial.id: trial for trial in trials}, listener)
        with tempfile.TemporaryDirectory(prefix="ablate-tune-") as scratch:
            tune.Tuner(
                tune.with_resources(_trainable(tune), {"cpu": budget.cpus, "gpu": budget.gpus}),
                param_space={
                    "trial": tune.grid_search([trial.model_dump_json() for trial in trials]),
                    "site": json.dumps(asdict(site), default=str),
                    "plugins": list(plugins),
                },
                tune_config=tune.TuneConfig(
                    reuse_actors=True,
                    max_concurrent_trials=budget.parallel,
                    trial_name_creator=_name,
                    trial_dirname_creator=_name,
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=scratch,
                    callbacks=[relay],
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=budget.retries),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a trial saves its own state
                ),
            ).fit()
        if relay.trouble:
            raise AblateError(relay.trouble)
    finally:
        ray.shutdown()


def _name(tune_trial: Any) -> str:
    return Trial.model_validate_json(tune_trial.config["trial"]).id


def _trainable(tune: Any) -> type:
    """The class that Tune runs in its workers: one `step` is one epoch."""

    class OneTrial(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            registry.load_plugins(tuple(config["plugins"]))
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            site = json.loads(new_config["site"])
            folders = {name: Path(site[name]) if site[name] else None for name in ("results", "data", "beside")}
            self.events = _events(Trial.model_validate_json(new_config["trial"]), Site(**{**site, **folders}))
            return True

        def step(self) -> dict[str, Any]:
            return next(self.events)

        def cleanup(self) -> None:
            self.events.close()

    return OneTrial


def _events(trial: Trial, site: Site) -> Generator[dict[str, Any]]:
    """What a worker reports: small documents only, for Ray writes down all that is reported."""
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


def _relay(tune: Any, trials: dict[str, Trial], listener: Listener) -> Any:
    """Tune's callbacks, in our words."""

    class Relay(tune.Callback):
        def __init__(self, trials: dict[str, Trial], listener: Listener) -> None:
            self.trials, self.listener, self.trouble = trials, listener, ""

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its callbacks to restore a run; we never do, and a screen cannot be pickled

        def on_trial_start(self, *, trial: Any, **info: Any) -> None:
            self.listener.started(self.trials[_name(trial)])

        def on_trial_result(self, *, trial: Any, result: dict[str, Any], **info: Any) -> None:
            if "row" in result:
                self.listener.epoch(self.trials[_name(trial)], Epoch.model_validate_json(result["row"]))
            elif "trouble" in result:
                self.trouble = str(result["trouble"])
            else:
                self.listener.ended(self.trials[_name(trial)], str(result["status"]))

        def on_trial_error(self, *, trial: Any, **info: Any) -> None:
            self.listener.died(self.trials[_name(trial)], _last_line(trial))

    return Relay(trials, listener)


def _last_line(tune_trial: Any) -> str:
    error = getattr(tune_trial, "get_pickled_error", lambda: None)()
    lines = [line for line in str(error or "the process died").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "the process died"


def _connect(ray: Any, address: str | None) -> None:
    if address and address.startswith("ray://"):
        raise ServiceError(
            f"--address {address}: a ray:// client would keep the driver off the cluster; "
            "run `ablate` on the head node with --address auto"
        )
    if address and address != "auto":
        _refuse_silent(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    old_mask = os.umask(0o077)  # ray writes its access token with the process's mask
    try:
        ray.init(address=address or "local", include_dashboard=None if address else False, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"Ray at {address}" if address else "a local Ray"
        raise ServiceError(f"{where} cannot be reached: {' '.join(str(error).split())[:200]}; try --local") from None
    finally:
        os.umask(old_mask)


def _refuse_silent(address: str) -> None:
    """Ray itself would wait for minutes where nothing answers."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ServiceError(f"Ray at {address} cannot be reached: {error}; give auto or HOST:PORT") from None


def _refuse_unplaceable(nodes: list[dict[str, Any]], budget: Budget) -> None:
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    fits = [n for n in alive if n.get("CPU", 0) >= budget.cpus and n.get("GPU", 0) >= budget.gpus]
    if not fits:
        most = max((f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in alive), default="nothing")
        raise ServiceError(
            f"budget: a trial needs {budget.cpus:g} CPUs and {budget.gpus:g} GPUs, the largest node has {most}"
        )


def _quiet() -> None:
    """Ray and Tune say nothing of their own and keep their hands off our folders; before they are first imported."""
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_PRINT_ALL_TRIAL_ERRORS="0",
        RAY_CHDIR_TO_TRIAL_DIR="0",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        RAY_AIR_NEW_OUTPUT="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="1",
        TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
    )
    warnings.filterwarnings("ignore", module=r"ray\.")
    import ray  # noqa: F401  importing it sets the level of its loggers

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
