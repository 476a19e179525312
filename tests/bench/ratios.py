"""What every benchmark prints for the table of docs/speed.md: a ratio against a peer that ran in turns with ours."""

import statistics
import time
from collections.abc import Callable, Mapping

MARK = "ratio"


def told(work: str, peer: str, ratio: float, limit: str = "") -> None:
    """Print a row: how many times as long (or as much) the peer takes; above 1, ours is better. Below `limit`
    something is wrong with ours."""
    print(f"{MARK} | {work} | {peer} | {ratio:.2f} | {limit}", flush=True)


def in_turns(runs: Mapping[str, Callable[[], object]], turns: int, *, cpu: bool = True) -> dict[str, float]:
    """Median seconds of each: of CPU of this process, so that other work counts little, or of the clock.

    One turn more comes first, which warms up.
    """
    clock = time.process_time if cpu else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items() if turn % 2 else reversed(list(runs.items())):
            start = clock()
            run()
            if turn:
                seconds[name].append(clock() - start)
    return {name: statistics.median(of) for name, of in seconds.items()}
