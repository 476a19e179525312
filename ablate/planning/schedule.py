"""When a list of trials will be done on so many devices: numbers in, numbers out.

Trials are placed as Ray places them, by list scheduling: whenever room is free, the first of the list that fits
starts. Longest first, this ends within a third of the best possible (Graham 1969). Nodes may be preempted: their trials
go on from their last saved states. What that costs is simulated, with a fixed seed.
"""

import heapq
import math
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

NEAR = 0.1  # durations this near to each other, relative to the longer, count as equal: predictions are no better
STARTS = 100_000  # of trials that one forecast may simulate
DRAWS = 10, 400  # the fewest and the most simulations of a forecast: a spread needs some, a quantile many
HOPELESS = 5  # mean times between preemptions without a saved state: one of e**5 tries would reach it
FULL = 1 - 1e-9  # three thirds of a device are one


@dataclass(frozen=True)
class Job:
    """One trial, as a schedule sees it."""

    seconds: float  # of undisturbed work
    devices: float = 1.0  # whole ones of a node, or a share of one
    saved_every: float = math.inf  # seconds of work between saved states

    def __post_init__(self) -> None:
        if not (0 <= self.seconds < math.inf and self.devices > 0 and self.saved_every > 0):
            raise ValueError(f"no job: {self}")
        if self.devices > 1 and self.devices != int(self.devices):
            raise ValueError(f"a job takes whole devices or a share of one, not {self.devices:g}")


@dataclass(frozen=True)
class Cluster:
    """Nodes with equal devices. Times between two preemptions of a node are exponential and independent of others."""

    nodes: int = 1
    devices: int = 1  # of each node
    preempted_every: float = math.inf  # seconds, mean of one node
    back_after: float = 0.0  # seconds from a preemption until the node, or another in its place, takes its trials up
    at_once: float = math.inf  # jobs, on all nodes together


@dataclass(frozen=True)
class Forecast:
    """When all jobs are done."""

    seconds: float  # the mean
    low: float  # 5 % of the simulations end before this
    high: float  # 5 % after this


def longest_first(seconds: Sequence[float]) -> list[int]:
    """Indices by falling duration; durations within a tenth of the longest among them keep their order.

    An unknown duration (nan) counts as the longest there is.
    """
    known = [math.inf if math.isnan(value) else value for value in seconds]
    order: list[int] = []
    group: list[int] = []
    for index in sorted(range(len(known)), key=lambda index: -known[index]):
        if group and known[index] < known[group[0]] * (1 - NEAR):
            order += sorted(group)
            group = []
        group.append(index)
    return order + sorted(group)


def makespan(jobs: Sequence[Job], cluster: Cluster) -> float:
    """Seconds until all jobs are done when nothing is preempted.

    Raises:
        ValueError: a job that is larger than a node.
    """
    return max(_ends(jobs, cluster, None), default=0.0)


def forecast(jobs: Sequence[Job], cluster: Cluster, *, seed: int = 0) -> Forecast:
    """The same with preemptions, over simulations that depend on the seed alone.

    Raises:
        ValueError: a job that is larger than a node, or hardly ever reaches its next saved state.
    """
    if math.isinf(cluster.preempted_every) or not jobs:
        exact = makespan(jobs, cluster)
        return Forecast(exact, exact, exact)
    longest = max(min(job.saved_every, job.seconds) for job in jobs)
    if longest > HOPELESS * cluster.preempted_every:
        raise ValueError(
            f"trials save their state every {longest / 60:.0f} min, nodes are preempted every "
            f"{cluster.preempted_every / 60:.0f} min: hardly any would end"
        )
    if cluster.back_after > HOPELESS * cluster.preempted_every:
        raise ValueError(
            f"nodes come back after {cluster.back_after / 60:.0f} min and are preempted every "
            f"{cluster.preempted_every / 60:.0f} min: hardly any would ever be there"
        )
    rng = np.random.default_rng(seed)
    draws = min(max(STARTS // len(jobs), DRAWS[0]), DRAWS[1])
    found = [max(_ends(jobs, cluster, rng)) for _ in range(draws)]
    low, high = np.quantile(found, (0.05, 0.95))
    return Forecast(statistics.fmean(found), float(low), float(high))


def _ends(jobs: Sequence[Job], cluster: Cluster, rng: np.random.Generator | None) -> Iterator[float]:
    """The seconds at which jobs end, in order of time."""
    waiting: dict[float, deque[int]] = {}  # by what they take, for of equal jobs only the first need be asked
    for index, job in enumerate(jobs):
        if job.devices > cluster.devices:
            raise ValueError(f"a job takes {job.devices:g} devices, a node has {cluster.devices}")
        waiting.setdefault(job.devices, deque()).append(index)
    # What no job will ever need is left out: numbers of nodes and devices may be anything.
    devices = min(cluster.devices, sum(math.ceil(job.devices) for job in jobs))
    cluster = replace(cluster, nodes=min(cluster.nodes, len(jobs)), devices=devices)
    nodes = [_Node(cluster, rng) for _ in range(cluster.nodes)]
    running: list[tuple[float, int, int, list[int]]] = []  # end, job, node, its devices

    def started(place: int, now: float) -> bool:
        if len(running) >= cluster.at_once:
            return False
        for index, devices in sorted((queue[0], devices) for devices, queue in waiting.items() if queue):
            if taken := nodes[place].take(devices):
                waiting[devices].popleft()
                heapq.heappush(running, (nodes[place].end(jobs[index], now), index, place, taken))
                return True
        return False

    for place in range(cluster.nodes):
        while started(place, 0.0):
            pass
    while running:  # what waits fitted nowhere before, so it can fit only where a job ends
        now, index, place, taken = heapq.heappop(running)
        nodes[place].give(jobs[index].devices, taken)
        while started(place, now):
            pass
        yield now


class _Node:
    """The free shares of one node's devices, and the times at which it is preempted."""

    def __init__(self, cluster: Cluster, rng: np.random.Generator | None) -> None:
        self.free = [1.0] * cluster.devices
        self.mean, self.back_after, self.rng = cluster.preempted_every, cluster.back_after, rng
        self.preempted: list[float] = []  # so far drawn, rising
        self.current = 0  # the first of them that is not before any job to come

    def take(self, devices: float) -> list[int]:
        """Devices with room for a job, which they give; none where it does not fit."""
        whole = devices >= 1
        fitting = [i for i, free in enumerate(self.free) if free >= (FULL if whole else devices * FULL)]
        taken = fitting[: int(devices)] if whole else sorted(fitting, key=self.free.__getitem__)[:1]
        if len(taken) < (devices if whole else 1):
            return []
        for device in taken:
            self.free[device] -= min(devices, 1.0)
        return taken

    def give(self, devices: float, taken: list[int]) -> None:
        for device in taken:
            self.free[device] += min(devices, 1.0)

    def end(self, job: Job, now: float) -> float:
        """When a job that starts now has done its work; what it did since its last saved state is done again."""
        if self.rng is None:
            return now + job.seconds
        work, at = job.seconds, self._next(self.current, now)
        self.current = at  # jobs start in order of time
        while now + work > (hit := self.preempted[at]):
            if hit > now:  # not while the node was still coming back
                work -= (hit - now) - math.fmod(hit - now, job.saved_every)
            now = hit + self.back_after
            at = self._next(at + 1, hit)
        return now + work

    def _next(self, at: int, after: float) -> int:
        """The index of the first preemption later than `after`, from `at` on."""
        assert self.rng is not None
        while True:
            while at >= len(self.preempted):
                last = self.preempted[-1] if self.preempted else 0.0
                self.preempted += (last + np.cumsum(self.rng.exponential(self.mean, 16))).tolist()
            if self.preempted[at] > after:
                return at
            at += 1
