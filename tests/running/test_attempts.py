"""What is tried next and when a trial has failed, without Ray: causes of death told apart, other drivers respected."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from small_studies import write_study

from ablate.running import attempts
from ablate.running.attempts import NODE_LOSSES, Attempts
from ablate.storage import Result, Store
from ablate.study import Design, load


class Heard:
    def __init__(self) -> None:
        self.ends: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.retries = 0
        self.waits_for: list[str] = []

    def ended(self, trial, status):
        self.ends[trial.id] = status

    def waits(self, trial, whom):
        self.waits_for.append(whom)

    def retried(self, trial, reason):
        self.retries += 1

    def died(self, trial, reason):
        self.failures[trial.id] = reason


@pytest.fixture
def trials(tmp_path, small_shelf):
    return Design(load(write_study(tmp_path))).trials


@pytest.fixture
def heard():
    return Heard()


def stored(store, trial, status="done"):
    result = Result(
        id=trial.id, recipe=trial.recipe, seed=trial.seed, meanings=trial.meanings, plugins=trial.plugins, status=status
    )
    store.put(result, {})


def test_trials_come_in_the_lists_order_and_only_those_without_a_result(tmp_path, trials, heard):
    store = Store(tmp_path / "results")
    stored(store, trials[1], "failed")
    line = Attempts(trials, store, [heard])
    assert [line.take().trial for _ in range(3)] == [trials[0], trials[2], trials[3]]
    assert line.take() is None
    assert heard.ends == {trials[1].id: "elsewhere"}
    assert not line.over
    for trial in (trials[0], trials[2], trials[3]):
        line.ended(trial, "done")
    assert line.over


def test_a_trial_whose_process_dies_once_more_than_the_retries_has_failed(tmp_path, trials, heard):
    line = Attempts(trials[:1], Store(tmp_path), [heard], retries=2)
    for _ in range(3):
        line.died(line.take().trial, "its process was killed or crashed")
    said = "tried 3 times: its process was killed or crashed"
    assert (heard.failures, heard.ends) == ({trials[0].id: said}, {trials[0].id: "failed"})
    assert (heard.retries, line.over) == (2, True)
    assert (Store(tmp_path).get(trials[0].id).status, Store(tmp_path).get(trials[0].id).reason) == ("failed", said)


@pytest.mark.parametrize("by", ["a result", "another process"])
def test_what_is_known_of_a_trial_outweighs_the_death_of_its_process(tmp_path, trials, heard, by):
    store = Store(tmp_path)
    line = Attempts(trials[:1], store, [heard, heard], retries=0)
    attempt = line.take()
    if by == "a result":
        stored(store, trials[0])
        line.died(attempt.trial, "its node died after that")
    else:
        with store.lock(trials[0].id):
            line.died(attempt.trial, "its node died, and another driver took the trial")
    assert heard.ends == {trials[0].id: "done" if by == "a result" else "busy"}
    assert (store.get(trials[0].id) is None) == (by != "a result")


HOLDER = """
import sys, time
from ablate.storage import Store
with Store(sys.argv[1]).lock(sys.argv[2]) as hold:
    print(bool(hold), flush=True)
    time.sleep(600)
"""


def test_it_is_told_whom_a_run_waits_for(tmp_path, trials, heard, monkeypatch):
    monkeypatch.setattr(attempts, "LOOK_AGAIN", 0)
    store, trial = Store(tmp_path), trials[0]
    line = Attempts([trial], store, [heard])
    assert line.take()
    command = [sys.executable, "-c", HOLDER, tmp_path, trial.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "True\n"
            other.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, other.pid, os.WSTOPPED)
            line.ended(trial, "busy")
            for _ in range(2 * attempts.PATIENCE):
                assert line.take() is None
            where = f"process {other.pid} on {socket.gethostname()}"
            assert heard.waits_for == [f"{where}, which is stopped (kill -CONT {other.pid})"]
            other.send_signal(signal.SIGCONT)
        finally:
            other.kill()
    assert line.take().trial == trial


def test_nodes_that_go_away_use_up_no_retries(tmp_path, trials, heard):
    line = Attempts(trials[:1], Store(tmp_path), [heard], retries=0)
    for _ in range(NODE_LOSSES):
        line.died(line.take().trial, "its node died", with_node=True)
    assert not heard.failures
    line.died(line.take().trial, "its node died", with_node=True)
    assert heard.failures  # for ever would be too long


def test_a_death_on_a_node_that_went_away_later_is_the_nodes(tmp_path, trials, heard):
    """Processes of a machine that is shut down die one by one, and a worker often before Ray's own."""
    there = {"a", "b", "c"}
    line = Attempts(trials[:1], Store(tmp_path), [heard], retries=1, nodes=lambda: there)
    line.died(line.take().trial, "killed", nodes=["a"])
    there -= {"a"}
    line.died(line.take().trial, "killed", nodes=["b"])
    there -= {"b"}
    line.died(line.take().trial, "killed", nodes=["c"])
    assert not heard.failures
    line.died(line.take().trial, "killed", nodes=["c"])
    assert heard.failures


def test_a_death_is_a_nodes_when_any_node_of_the_trial_went_away(tmp_path, trials, heard):
    line = Attempts(trials[:1], Store(tmp_path), [heard], retries=0, nodes=lambda: {"a", "c"})
    line.died(line.take().trial, "its processes lost each other", nodes=["a", "b"])
    assert not heard.failures
    line.died(line.take().trial, "its processes lost each other", nodes=["a", "c"])
    assert heard.failures


def test_who_ran_out_of_memory_beside_others_is_tried_last_and_alone(tmp_path, trials, heard):
    line = Attempts(trials[:2], Store(tmp_path), [heard], retries=0)
    line.crowded_out(line.take().trial, "CUDA out of memory")
    assert [(a.trial, a.alone) for a in (line.take(), line.take())] == [(trials[1], False), (trials[0], True)]


@pytest.mark.parametrize("leaves", ["a result", "nothing"])
def test_a_trial_of_another_process_is_waited_for(tmp_path, trials, heard, monkeypatch, leaves):
    monkeypatch.setattr(attempts, "LOOK_AGAIN", 0.01)
    store = Store(tmp_path / "results")
    line = Attempts(trials[:1], store, [heard])
    with store.lock(trials[0].id):
        line.ended(line.take().trial, "busy")
        time.sleep(0.05)
        assert line.take() is None
        assert not line.over
        if leaves == "a result":
            stored(store, trials[0], "diverged")
    time.sleep(0.05)
    again = line.take()
    if leaves == "a result":
        assert again is None
        assert heard.ends == {trials[0].id: "elsewhere"}
        assert line.over
    else:
        assert again.trial == trials[0]  # it died there, so it is ours


def test_trouble_with_the_place_rests_a_trial_and_is_no_death_of_its_own(tmp_path, trials, heard, monkeypatch):
    monkeypatch.setattr(attempts, "REST", 0.05)
    line = Attempts(trials[:1], Store(tmp_path / "results"), [heard], retries=0)
    for _ in range(attempts.TROUBLES):
        assert line.take()
        assert line.troubled(trials[0], "the disk is not mounted here")
        assert line.take() is None
        assert not line.over
        time.sleep(0.06)
    assert line.take()
    assert not line.troubled(trials[0], "the disk is not mounted here")
    assert (heard.retries, heard.ends, heard.failures) == (attempts.TROUBLES, {}, {})


def test_trouble_that_one_node_has_ends_nothing_while_others_train(tmp_path, trials, heard, monkeypatch):
    monkeypatch.setattr(attempts, "REST", 0.0)
    line = Attempts(trials[:2], Store(tmp_path / "results"), [heard], retries=0)
    healthy = line.take().trial
    for _ in range(2 * attempts.TROUBLES):
        assert line.troubled(line.take().trial, "other code there")
    last = line.take().trial
    line.ended(healthy, "done")
    assert not line.troubled(last, "other code there")
