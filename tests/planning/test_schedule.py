"""When it will be done: against Graham's bound, brute force over all schedules, and closed forms of lost work."""

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.planning.schedule import Cluster, Job, forecast, longest_first, makespan

DURATIONS = st.lists(st.floats(0.1, 100), min_size=1, max_size=7)


def alike(seconds, devices=1.0):
    return [Job(value, devices) for value in seconds]


def shortest(seconds, machines: int) -> float:
    """The best makespan of all assignments."""
    return min(
        max(sum(s for s, place in zip(seconds, places, strict=True) if place == m) for m in range(machines))
        for places in product(range(machines), repeat=len(seconds))
    )


def test_jobs_go_where_room_is_first():
    # 5 3 3 2 on two devices: 5 | 3, then 3 at 3, then 2 at 5: ends 7 and 6.
    assert makespan(alike([5, 3, 3, 2]), Cluster(devices=2)) == 7
    assert makespan(alike([5, 3, 3, 2]), Cluster(nodes=2)) == 7
    assert makespan(alike([5, 3, 3, 2]), Cluster(devices=8, at_once=2)) == 7
    assert makespan(alike([5, 3, 3, 2]), Cluster(devices=4)) == 5
    assert makespan([], Cluster()) == 0


@settings(deadline=None, max_examples=60)
@given(DURATIONS, st.integers(1, 3))
def test_longest_first_stays_within_grahams_bound_of_the_best(seconds, machines):
    best = shortest(seconds, machines)
    sorted_down = makespan(alike(sorted(seconds, reverse=True)), Cluster(devices=machines))
    ours = makespan(alike([seconds[i] for i in longest_first(seconds)]), Cluster(devices=machines))
    any_order = makespan(alike(seconds), Cluster(devices=machines))
    assert best <= sorted_down * (1 + 1e-9)
    assert sorted_down <= best * (4 / 3 - 1 / (3 * machines)) + 1e-9
    assert max(ours, any_order) <= best * (2 - 1 / machines) + 1e-9


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=5), st.integers(1, 3))
def test_some_list_gives_the_best_schedule(seconds, machines):
    lists = [makespan(alike(order), Cluster(devices=machines)) for order in permutations(seconds)]
    assert min(lists) == pytest.approx(shortest(seconds, machines))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.sampled_from([0.25, 1 / 3, 0.5, 1, 2, 4])), min_size=1, max_size=12),
    st.integers(1, 3),
)
def test_mixed_needs_keep_the_bounds_that_any_schedule_has(pairs, nodes):
    jobs, cluster = [Job(*pair) for pair in pairs], Cluster(nodes=nodes, devices=4)
    found = makespan(jobs, cluster)
    work = sum(job.seconds * job.devices for job in jobs)
    assert found >= max(work / (4 * nodes), *(job.seconds for job in jobs)) - 1e-9
    assert found <= sum(job.seconds for job in jobs) + 1e-9


def test_several_devices_and_shares_of_one():
    assert makespan(alike([10] * 4, 0.5), Cluster(devices=2)) == 10
    assert makespan(alike([10] * 7, 1 / 3), Cluster(devices=2)) == 20
    assert makespan(alike([10] * 4, 0.6), Cluster(devices=2)) == 20  # two shares of .6 are no whole
    assert makespan(alike([10] * 4, 2), Cluster(devices=4)) == 20
    assert makespan(alike([10] * 4, 2), Cluster(nodes=2, devices=3)) == 20  # a job does not span nodes
    # What fits may overtake: the pair waits for both devices, the single does not.
    assert makespan([Job(10, 1), Job(10, 2), Job(5, 1)], Cluster(devices=2)) == 20
    for job in ((1, 3), (1, 1.5), (-1, 1), (math.nan, 1), (1, 0)):
        with pytest.raises(ValueError, match="job"):
            makespan([Job(*job)], Cluster(devices=2))


def test_near_durations_keep_their_order():
    assert longest_first([10, 9.5, 30, 9.8, 29]) == [2, 4, 0, 1, 3]
    assert longest_first([9.5, 10, 8.9]) == [0, 1, 2]  # 8.9 is within a tenth of 9.5, not of 10
    assert longest_first([1, math.nan, 5]) == [1, 2, 0]
    assert longest_first([math.nan] * 3) == [0, 1, 2]
    assert longest_first([]) == []


def expected(work: float, every: float, mean: float, back: float) -> float:
    """Mean time of one job on one device: each piece up to a saved state is tried until none interrupts it."""
    pieces = [every] * int(work // every) + ([work % every] if work % every else [])
    return sum(mean * math.exp(back / mean) * math.expm1(piece / mean) for piece in pieces)


@pytest.mark.parametrize(
    ("work", "every", "mean", "back"),
    [(1000, 100, 500, 30), (1000, 300, 400, 0), (600, 600, 700, 50), (5000, 50, 1e4, 400), (100, 25, 20, 10)],
)
def test_one_device_loses_what_the_closed_form_says(work, every, mean, back):
    job, cluster = Job(work, saved_every=every), Cluster(preempted_every=mean, back_after=back)
    found = np.array([forecast([job], cluster, seed=seed).seconds for seed in range(12)])
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert found.mean() == pytest.approx(expected(work, every, mean, back), abs=4 * error)
    assert error < 0.05 * found.mean()  # else the line above would say nothing


def test_without_saved_states_everything_is_done_again():
    job, cluster = Job(300), Cluster(preempted_every=400, back_after=20)
    found = np.mean([forecast([job], cluster, seed=seed).seconds for seed in range(20)])
    assert found == pytest.approx(expected(300, 300, 400, 20), rel=0.05)


def test_frequent_saves_lose_half_an_interval_a_preemption():
    """Young's approximation: each of the preemptions, work / mean of them, costs half an interval and the way back."""
    work, every, mean, back = 1e5, 60, 3600, 120
    found = forecast([Job(work, saved_every=every)], Cluster(preempted_every=mean, back_after=back)).seconds
    assert found - work == pytest.approx(work / mean * (every / 2 + back), rel=0.15)


def test_a_node_takes_all_its_trials_with_it():
    """Two jobs on one node are hit together, on two nodes apart: the later end of two independent ones is later."""
    jobs = [Job(1000, saved_every=1000)] * 2
    together = [forecast(jobs, Cluster(devices=2, preempted_every=1500), seed=s).seconds for s in range(8)]
    apart = [forecast(jobs, Cluster(nodes=2, preempted_every=1500), seed=s).seconds for s in range(8)]
    assert np.mean(together) == pytest.approx(expected(1000, 1000, 1500, 0), rel=0.1)
    assert np.mean(apart) > 1.15 * np.mean(together)


def test_a_forecast_depends_on_its_seed_alone_and_has_a_spread():
    jobs = [Job(100 + i, saved_every=30) for i in range(40)]
    cluster = Cluster(nodes=2, devices=4, preempted_every=400, back_after=60)
    first = forecast(jobs, cluster)
    assert first == forecast(jobs, cluster)
    assert first != forecast(jobs, cluster, seed=1)
    assert makespan(jobs, cluster) < first.low < first.seconds < first.high
    calm = forecast(jobs, Cluster(nodes=2, devices=4))
    assert calm.low == calm.seconds == calm.high == makespan(jobs, cluster)


def test_hopeless_checkpoints_are_said_not_simulated():
    with pytest.raises(ValueError, match="save their state every 60 min, nodes are preempted every 1 min"):
        forecast([Job(3600)], Cluster(preempted_every=60))


def test_ten_thousand_trials_leave_hardly_a_device_idle():
    rng = np.random.default_rng(0)
    jobs = [Job(float(s), saved_every=120) for s in rng.uniform(600, 6000, 10_000)]
    found = forecast(jobs, Cluster(nodes=16, devices=8, preempted_every=86400, back_after=300))
    packed = sum(job.seconds for job in jobs) / 128
    assert packed < found.seconds < 1.05 * packed  # what nodes lose by going away is two per cent
