"""The further processes of a trial as Ray actors, in the placement group that Tune made for the trial.

Tune's trainable is process 0, in the group's first bundle; every other bundle holds one process more. They are started
anew for every trial: nothing is left on their GPUs, and importing torch is little beside a trial that needs them.
They belong to process 0, so Ray ends them with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray import exceptions, util
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ablate.errors import one_line
from ablate.study import Trial
from ablate.training import team_follower, team_start
from ablate.training.site import Site
from ablate.training.team import Team
from ablate.training.team_start import LOOPBACK

NODE_DIED = "its node has died"  # in Ray's words, at the end of some two hundred characters


@contextmanager
def on_ray(trial: Trial, site: Site) -> Iterator[Team]:
    """The trial's team over its placement group, with this actor as its first process.

    Raises:
        TeamError: a process died or fell silent.
    """
    group, one_node = util.get_current_placement_group(), len(nodes()) == 1
    address = LOOPBACK if one_node else util.get_node_ip_address()
    with team_start.led(trial, site, lambda jobs: Actors(group, jobs, one_node=one_node), address=address) as team:
        yield team


def nodes() -> list[str]:
    """The ids of the nodes that this actor's trial is on."""
    return sorted(set(util.placement_group_table(util.get_current_placement_group())["bundles_to_node_id"].values()))


class Follower:
    """One further process."""

    def follow(self, job: str, one_node: bool) -> None:
        team_follower.follow(job, address=LOOPBACK if one_node else util.get_node_ip_address())


class Actors:
    """Bundles 1 and up of a placement group, an actor in each."""

    def __init__(self, group: Any, jobs: list[str], *, one_node: bool) -> None:
        self.actors, self.calls = [], []
        for place, job in enumerate(jobs, 1):
            bundle = group.bundle_specs[place]
            actor = ray.remote(Follower).options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, place),
            ).remote()  # fmt: skip
            self.actors.append(actor)
            self.calls.append(actor.follow.remote(job, one_node))

    def ended(self) -> str:
        for rank, call in enumerate(self.calls, 1):
            if ray.wait([call], timeout=0)[0]:
                try:
                    ray.get(call)
                except exceptions.RayError as error:
                    text = one_line(error, 2000)
                    why = NODE_DIED if NODE_DIED in text else text[:200]
                    return f"process {rank} of 0 to {len(self.calls)} ended: {why}"
        return ""

    def stop(self) -> None:
        for actor in self.actors:
            with suppress(exceptions.RayError, ValueError):
                ray.kill(actor)
