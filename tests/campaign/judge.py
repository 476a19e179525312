"""What an injection cost: from the trace, the ledger, the logs and the results to one row of numbers."""

import math
import re
from pathlib import Path
from typing import Any

from ablate.errors import AblateError
from ablate.storage import Store
from campaign.faults import Hit
from campaign.observation import Ledger, Line, finished
from campaign.study import CHECKPOINT_SECONDS

TROUBLE = re.compile(r"Traceback \(most recent call last\)|\*\*\* SIG|Fatal Python error|StackTrace Information")
NOISE = re.compile(
    r"^(\[?20\d\d-\d\d-\d\d|\(\w+ pid=|\x1b\[|[EWIF]\d{4} |\S* View (run|experiment) )"
)  # libraries speak
SAID = re.compile(r"^(ablate: |MLflow was not written|stopped;|damaged)")


def numbers(results: Path, trial: str) -> tuple | None:
    """All that a result says and no clock decides; None when there is no trusted result."""
    store = Store(results)
    try:
        result = store.get(trial)
        arrays = store.statistics(trial) if result else {}
    except AblateError:
        return None
    if result is None:
        return None
    curve = [(row.epoch, row.loss.hex(), row.lr.hex()) for row in result.curve]
    content = sorted((name, str(array.dtype), array.shape, array.tobytes()) for name, array in arrays.items())
    scores = sorted((name, value.hex()) for name, value in result.scores.items())  # as text nan equals nan
    return result.status, scores, curve, content


def lost(ledger: Ledger) -> int:
    """Finished trials whose result went or changed."""
    return len(ledger.changed)


def twice(ledger: Ledger, trace: list[Line]) -> int:
    """Trials that were trained after their result was stored."""
    done = {trial: stored.time for trial, stored in ledger.first.items() if stored.status != "failed"}
    return len({line.trial for line in trace if line.epoch and line.time > done.get(line.trial, math.inf)})


def repeated(trace: list[Line], trials: set[str]) -> int:
    """Epochs trained to their end more than once, of the trial among `trials` with the most."""
    ends = [(end.trial, end.epoch) for end in finished(trace)]
    extra = {
        trial: sum(own == trial for own, _ in ends) - sum(own == trial for own, _ in set(ends)) for trial in trials
    }
    return max(extra.values(), default=0)


def interval(trace: list[Line]) -> int:
    """The checkpoint interval in epochs: the fastest epoch seen decides how many an interval can hold."""
    begun = {(line.trial, line.epoch, line.pid): line.time for line in trace}
    lengths = [end.time - begun[end.trial, end.epoch, end.pid] for end in finished(trace)]
    lengths = [length for length in lengths if length > 0]  # one process may have begun an epoch twice
    return max(1, math.ceil(CHECKPOINT_SECONDS / min(lengths, default=CHECKPOINT_SECONDS)))


def seconds_to_resume(hit: Hit, trace: list[Line], ledger: Ledger) -> float | None:
    """From the fault to the next finished epoch, or result, of a trial that it stopped; of any when it stopped none."""
    stored = {trial: first.time for trial, first in ledger.first.items()}
    stopped = {trial for trial in hit.stopped.values() if stored.get(trial, math.inf) > hit.time + 0.5}
    ends = [(e.trial, e.time) for e in finished(trace) if e.pid not in hit.stopped] + list(stored.items())
    times = [time for trial, time in ends if time > hit.time and (trial in stopped or not stopped)]
    return round(min(times) - hit.time, 1) if times else None


def said(logs: list[Path]) -> dict[str, Any]:
    """How the drivers spoke: tracebacks, lines of libraries' logs, and their last words."""
    texts = [log.read_text(errors="replace").replace(f"{log.parent}/", "") for log in logs]  # no place of this machine
    lines = [line for text in texts for line in text.splitlines()]
    return {
        "tracebacks": sum(bool(TROUBLE.search(line)) for line in lines),
        "noise": sum(bool(NOISE.search(line)) for line in lines),
        "said": sorted({line[:300] for line in lines if SAID.search(line)}),
    }
