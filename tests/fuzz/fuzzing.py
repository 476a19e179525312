"""Reads hostile files by the ten thousand: `python tests/fuzz/fuzzing.py --inputs 100000`.

Every reader runs in a process of its own, in an empty working folder and with an empty home. Of each input it must make
a value or an AblateError of one line, within seconds of processor time and a bounded memory, and it may write only
where its input lies; files that are opened for writing, made, moved and removed, processes, connections and pickles
are seen through Python's audit events. Prints counts, time and findings; exit status 1 when there are any.
"""

import argparse
import faulthandler
import json
import math
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [path for path in (str(TESTS.parent), str(TESTS)) if path not in sys.path]

SECONDS = 5.0  # of processor time, for one input
STUCK = 120  # seconds without an end, after which the process is given up
MEMORY = 2**30  # bytes that one input may take
BATCH = 200  # inputs drawn from one seed
SITTING = 5000  # inputs that one process reads
WRITES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
    "os.chown",
}
NEVER = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind",
         "pickle.find_class", "webbrowser.open", "ctypes.dlopen"}  # fmt: skip


class Slow(BaseException):
    """An input took too much processor time."""


class Finding(Exception):
    """An input did what none may do."""


class Watch:
    """What a reader does while it is watched; one for the process, for audit hooks stay."""

    def __init__(self, inside: Path) -> None:
        self.inside, self.on, self.seen = os.path.realpath(inside), False, list[str]()
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in NEVER:
            self.seen.append(f"{event} {str(arguments)[:100]}")
        elif event in WRITES or (event == "open" and _writes(arguments)):
            paths = [
                a
                for a in arguments[: 2 if event in ("os.rename", "os.link") else 1]
                if isinstance(a, str | bytes | Path)
            ]
            for path in paths:
                if not f"{os.path.realpath(os.fsdecode(path))}/".startswith(f"{self.inside}/"):
                    self.seen.append(f"{event} {os.fsdecode(path)[:100]!r}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def ends_well(read: Callable[[Any, Path], object], given: Any, folder: Path, watch: Watch) -> str:
    """'value' or 'error'.

    Raises:
        Exception: what the reader let through; Finding where it wrote elsewhere, or took too long or too much memory.
    """
    from fuzz.targets import emptied, readable

    from ablate.errors import AblateError

    emptied(folder)
    before = _memory("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    faulthandler.dump_traceback_later(STUCK, exit=True)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    watch.seen.clear()
    watch.on, end = True, "value"
    try:
        read(given, folder)
    except AblateError as error:
        readable(error)
        end = "error"
    except Slow:
        raise Finding(f"more than {SECONDS:g} s of processor time") from None
    except Exception as error:
        if watch.seen:  # what it tried matters more than how that ended
            raise Finding(watch.seen[0]) from error
        raise
    finally:
        watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
    if watch.seen:
        raise Finding(watch.seen[0])
    if _memory("VmHWM") - before > MEMORY:
        raise Finding(f"more than {MEMORY // 2**20} MiB of memory")
    return end


def _memory(fact: str) -> int:
    with suppress(OSError, IndexError):
        return 1024 * int(Path("/proc/self/status").read_text().partition(f"{fact}:")[2].split()[0])
    return 0


def _slow(*_: object) -> None:
    raise Slow


def read_many(target: str, *, seed: int, count: int, place: Path) -> dict[str, Any]:
    """Inputs of one target in this process: how many ended how, and one example of each finding."""
    from fuzz.targets import TARGETS
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from ablate import registry

    registry.load_plugins(("small_parts",))
    signal.signal(signal.SIGPROF, _slow)
    chosen, watch = TARGETS[target], Watch(place / "input")
    ends, slowest, warm = Counter[str](), 0.0, False
    found = dict[str, list[Any]]()

    def one(drawn: Any) -> None:
        nonlocal slowest
        (place / "current").write_bytes(pickle.dumps(drawn))
        start = time.process_time()
        try:
            end = ends_well(chosen.read, drawn, place / "input", watch)
        except Exception as error:
            end = "finding"
            if warm:
                found.setdefault(_signature(error), [0, repr(drawn)[:1000]])[0] += 1
        if warm:
            ends[end] += 1
            slowest = max(slowest, time.process_time() - start)

    def many(seed: int, number: int) -> None:
        drawing = settings(max_examples=number, database=None, deadline=None, phases=[Phase.generate])
        drawing = settings(drawing, suppress_health_check=list(HealthCheck))
        seeded(seed)(drawing(given(chosen.inputs)(one)))()

    many(0, 30)  # what is imported late is imported now
    warm = True
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + 4 * MEMORY,) * 2)
    while ends.total() < count:
        seed += 1
        many(seed, min(BATCH, count - ends.total()))
    return {"ends": ends, "found": found, "slowest": slowest}


def _signature(error: Exception) -> str:
    """What went wrong, and where in the project's code."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if re.search(r"/(ablate|hrnet_core)/(?!.*site-packages)", frame.filename)]
    at = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    text = re.sub(r"\d+|'.*?'|\".*?\"", "_", " ".join(str(error).split()))[:100]
    return f"{type(error).__name__}: {text!a}{at}"


def in_a_process(target: str, *, seed: int, count: int) -> dict[str, Any]:
    """The same in a process whose working folder and home are empty, and have to stay so."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        place = Path(name)
        for folder in ("input", "cwd", "home", "kept"):
            (place / folder).mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ABLATE_", "MLFLOW_"))}
        kept = str(place / "kept")
        environment |= dict.fromkeys(("MPLCONFIGDIR", "HYPOTHESIS_STORAGE_DIRECTORY", "TMPDIR"), kept)
        environment |= {"HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-B", "-W", "ignore", __file__, "--child", target, str(seed), str(count), name]
        run = subprocess.run(command, cwd=place / "cwd", env=environment, capture_output=True, check=False)
        if run.returncode:  # killed, crashed, or given up: the input that it was at is the finding
            last = repr(pickle.loads((place / "current").read_bytes()))[:1000] if (place / "current").exists() else ""
            said = run.stderr.decode("utf-8", "replace")[-1500:]
            return {
                "ends": {"finding": 1},
                "slowest": 0,
                "found": {f"exit {run.returncode}: {said}": [1, last]},
            }
        report: dict[str, Any] = json.loads((place / "kept" / "report.json").read_text())
        for folder in ("cwd", "home"):
            for path in (place / folder).rglob("*"):
                report["found"][f"wrote {folder}/{path.name}"] = [1, ""]
        return report


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", help="one target")
    options.add_argument("--at-once", type=int, default=2, help="processes")
    options.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        target, seed, count, place = chosen.child
        report = read_many(target, seed=int(seed), count=int(count), place=Path(place))
        Path(place, "kept", "report.json").write_text(json.dumps(report))
        return
    from fuzz.targets import TARGETS

    begun, total, findings = time.monotonic(), 0, 0
    shares = {chosen.only: 100} if chosen.only else {name: target.share for name, target in TARGETS.items()}
    with ThreadPoolExecutor(chosen.at_once) as pool:
        jobs = {}
        for name, share in shares.items():
            count = math.ceil(chosen.inputs * share / 100)
            jobs[name] = [
                pool.submit(_timed, name, seed=chosen.seed * 10**6 + at, count=min(SITTING, count - at))
                for at in range(0, count, SITTING)
            ]
        for name, sittings in jobs.items():
            reports = [job.result() for job in sittings]
            ends = sum((Counter(report["ends"]) for report in reports), Counter[str]())
            seconds, slowest = sum(r["seconds"] for r in reports), max(r["slowest"] for r in reports)
            print(f"{name}: {ends.total():,} inputs in {seconds:.0f} s ({ends.total() / seconds:.0f} a second): "
                  f"{ends['value']:,} values, {ends['error']:,} errors in one line, {ends['finding']:,} findings; "
                  f"the slowest took {slowest:.2f} s",
                  flush=True)  # fmt: skip
            for report in reports:
                for signature, (times, example) in report["found"].items():
                    print(f"  {times} times {signature}\n    {example}", flush=True)
            total, findings = total + ends.total(), findings + sum(len(report["found"]) for report in reports)
    print(f"{total:,} inputs in {time.monotonic() - begun:.0f} s: {findings} findings")
    sys.exit(1 if findings else 0)


def _timed(name: str, *, seed: int, count: int) -> dict[str, Any]:
    begun = time.monotonic()
    return in_a_process(name, seed=seed, count=count) | {"seconds": time.monotonic() - begun}


if __name__ == "__main__":
    main()
