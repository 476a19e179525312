"""Trials to processes, through Ray Tune, on a machine or a cluster.

Tune is the scheduler, not the designer: it asks us for trial after trial, places them and tells us what died. Workers
are kept warm between trials (`reuse_actors`), since importing torch costs more than a small trial. Nothing of Tune's
own state is used again: what is missing is asked of the results folder.
"""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ablate.errors import AblateError, StoreError
from ablate.machine import Stop, origin, scratch
from ablate.planning import gpu_share
from ablate.running.attempts import Attempts
from ablate.running.ray import cluster, hooks, nodes, pulse, worker
from ablate.storage import Store
from ablate.study import Budget, Trial
from ablate.training.reports import Listener
from ablate.training.site import Site, packed


def run_on_ray(
    trials: list[Trial],
    site: Site,
    budget: Budget,
    listeners: Sequence[Listener],
    *,
    stop: Stop,
    lost: Callable[[str], None],
    plugins: tuple[str, ...] = (),
    address: str | None = None,
) -> None:
    """All trials through Ray Tune, on this machine or on the cluster at `address`; `lost`: see `cluster.watched`.

    Raises:
        ServiceError: the cluster cannot be reached, has no node that a trial fits on, or has one that is not ready.
        AblateError: what a worker found wrong with the data or the results folder.
    """
    cluster.quiet(alone=address is None)
    import ray
    from ray import tune

    with scratch.folder(None if address else cluster.short_place()) as own:
        try:
            cluster.connect(ray, address, own)
            stop.listen()  # should Ray have taken a signal
            with cluster.watched(ray, lost):
                _launch(ray, tune, trials, site, budget, listeners, own, stop=stop, plugins=plugins, address=address)
        finally:
            cluster.leave(ray, own)


def _launch(
    ray: Any, tune: Any, trials: list[Trial], site: Site, budget: Budget, listeners: Sequence[Listener], own: Path, *,
    stop: Stop, plugins: tuple[str, ...], address: str | None,
) -> None:  # fmt: skip
    """Run the trials on a cluster that is there; `own` is this process's folder for temporary files."""
    cluster.refuse_unplaceable(ray.nodes(), budget)
    if address:
        nodes.check_nodes(ray, trials, site, budget, plugins)
    shares = gpu_share.shares(trials, cluster.gpu_memory(ray)) if budget.share else {}
    attempts = Attempts(
        trials, Store(site.results, site.kind), listeners, owner=site.owner, retries=budget.retries,
        nodes=lambda: cluster.alive(ray),
    )  # fmt: skip
    relay = hooks.Relay(attempts, stop, slots=lambda: cluster.slots(ray, budget), patient=address is not None)
    with pulse.watched(ray, site.budget.hang_minutes, relay.training, relay.silent.__setitem__):
        _tune(tune, relay, site, budget, plugins, shares, own)
    if relay.trouble:
        raise AblateError(relay.trouble)


def _tune(
    tune: Any, relay: hooks.Relay, site: Site, budget: Budget, plugins: tuple[str, ...], shares: dict[str, float],
    own: Path,
) -> None:  # fmt: skip
    """Let Tune run what the relay hands out.

    Raises:
        StoreError: this machine's folder for temporary files is full, where Tune keeps its own.
    """
    config = {"site": packed(site), "plugins": list(plugins), "umask": cluster.umask(), "code": origin.code()}
    tuner = tune.Tuner(
        tune.with_resources(worker.trainable(tune), cluster.shape(tune, budget)),
        param_space=config,
        tune_config=tune.TuneConfig(
            search_alg=hooks.searcher(relay, budget, shares),
            scheduler=hooks.scheduler(relay),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=hooks.name,
            trial_dirname_creator=hooks.name,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(own / "tune"),
            callbacks=[hooks.callback(tune, relay)],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),  # Attempts decides what is tried again
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a trial saves its own state
        ),
    )
    try:
        tuner.fit()
    except (OSError, tune.TuneError) as error:
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise StoreError(f"{own.parent}: no room left on the disk") from None
