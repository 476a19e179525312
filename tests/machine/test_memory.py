"""How much memory is free, of the machine and of the control groups of both versions."""

import pytest

from ablate.machine import memory


def system(root, *, available=600, cgroup="0::/", groups=()):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal:   1000 kB\nMemFree:   1 kB\nMemAvailable:  {available} kB\n")
    (root / "proc/self/cgroup").write_text(cgroup + "\n")
    for folder, files in groups:
        (root / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / "sys/fs/cgroup" / folder / name).write_text(text)
    return root


def second(limit, taken, given_back):
    return {"memory.max": limit, "memory.current": taken, "memory.stat": f"anon 5\ninactive_file {given_back}\n"}


def first(limit, taken, given_back):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    return dict(zip(names, (limit, taken, f"cache 5\ntotal_inactive_file {given_back}\n"), strict=True))


@pytest.mark.parametrize(
    ("given", "share"),
    [
        ({}, 0.6),
        ({"groups": [("", second("max", "5", "0"))]}, 0.6),
        ({"groups": [("", second("100000", "80000", "10000"))]}, 0.3),  # as a container sees its own
        ({"cgroup": "0::/slurm/job_7", "groups": [("slurm", second("100000", "90000", "0"))]}, 0.1),  # of one above it
        ({"cgroup": "0::/slurm/job_7", "groups": [("slurm/job_7", second("200000", "20000", "0"))]}, 0.6),
        ({"cgroup": "4:memory:/job", "groups": [("memory/job", first("100000", "80000", "0"))]}, 0.2),
        ({"cgroup": "4:memory:/job", "groups": [("memory/job", first("9223372036854771712", "80000", "0"))]}, 0.6),
    ],
)
def test_the_least_of_what_holds(tmp_path, given, share):
    assert memory.free_share(system(tmp_path, **given)) == pytest.approx(share)


def test_where_the_system_does_not_tell_nothing_is_free(tmp_path):
    assert memory.free_share(tmp_path) == 0.0


def test_this_machine_tells():
    assert 0 < memory.free_share() < 1
