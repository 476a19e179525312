"""How much of the memory that this process may use is free: of the machine, and of each control group that it is in."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
# In a folder of control groups of version 2 and 1: the limit, what is taken, and what of that are files' copies that
# the kernel gives back.
LIMITS = (("memory.max", "memory.current", "inactive_file"),
          ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))  # fmt: skip


def free_share(root: Path = ROOT) -> float:
    """0 to 1, of whichever has the least; 0 where the system does not tell. `root` has `proc` and `sys`."""
    with suppress(OSError, ValueError, KeyError, ZeroDivisionError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        machine = {name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        total = machine["MemTotal"]
        return min([machine["MemAvailable"] / total, *_of_groups(root, total)])
    return 0.0


def _of_groups(root: Path, total: int) -> Iterator[float]:
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys/fs/cgroup" / controllers
            for folder in (top, *(top / part for part in _growing(path))):
                yield from _of_group(folder, total)


def _of_group(folder: Path, total: int) -> Iterator[float]:
    for limit, taken, given_back in LIMITS:
        with suppress(OSError, ValueError, KeyError):  # without a limit: no file, or the word max
            most = int((folder / limit).read_text())
            if 0 < most < total:
                of = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield 1 - (int((folder / taken).read_text()) - int(of[given_back])) / most


def _growing(path: str) -> Iterator[Path]:
    """a, then a/b, then a/b/c: a limit of any of them holds."""
    parts = Path(path.lstrip("/")).parts
    return (Path(*parts[: end + 1]) for end in range(len(parts)))
