"""Trials to processes: Ray Tune on a machine or a cluster, or a plain loop in this one. Ray is known here, in
cluster.py and in worker.py only.

Tune is the scheduler, not the designer: it gets our list of trials, places them and replaces processes that died.
Workers are kept warm between trials (`reuse_actors`), since importing torch costs more than a small trial. Nothing of
Tune's own state is used again: what is missing is asked of the results folder.
"""

import tempfile
from typing import Any, Protocol

from ablate import cluster, worker
from ablate.errors import AblateError
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
    cluster.quiet(alone=address is None)
    import ray
    from ray import tune

    cluster.connect(ray, address)
    try:
        cluster.refuse_unplaceable(ray.nodes(), budget)
        relay = _relay(tune, {trial.id: trial for trial in trials}, listener)
        with tempfile.TemporaryDirectory(prefix="ablate-tune-") as scratch:
            tune.Tuner(
                tune.with_resources(worker.trainable(tune), {"cpu": budget.cpus, "gpu": budget.gpus}),
                param_space={
                    "trial": tune.grid_search([trial.model_dump_json() for trial in trials]),
                    "site": worker.packed(site),
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
