"""A sample of the fuzzing (`make fuzz`): every reader of a file that others may have made, hostile inputs."""

import subprocess
import sys

import pytest
from fuzz.fuzzing import in_a_process
from fuzz.targets import TARGETS
from small_studies import TESTS


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_every_input_ends_in_a_value_or_in_one_line(target):
    """None hangs, fills the memory, writes elsewhere, connects, starts a process or unpickles."""
    report = in_a_process(target, seed=77, count=150)
    assert report["found"] == {}
    assert sum(report["ends"].values()) == 150
    assert len(report["ends"]) == 2, "all of one kind tests little"


LEAKY = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
from fuzz import fuzzing
place = Path(sys.argv[1])
watch = fuzzing.Watch(place)

def ends(read):
    try:
        print(fuzzing.ends_well(read, None, place / "input", watch))
    except Exception as error:
        print(type(error).__name__, error)

fuzzing.SECONDS, fuzzing.MEMORY = 0.5, 2**27
import signal
signal.signal(signal.SIGPROF, fuzzing._slow)
import pickle, socket
ends(lambda given, folder: (folder / "inside").write_text("x"))
ends(lambda given, folder: (place.parent / "outside").write_text("x"))
ends(lambda given, folder: pickle.loads(pickle.dumps(fuzzing.Finding)))
ends(lambda given, folder: socket.create_connection(("127.0.0.1", 9)))
ends(lambda given, folder: [n for n in iter(int, 1)])
ends(lambda given, folder: len(bytearray(b"x" * 2**28)))
"""


@pytest.mark.slow
def test_the_watch_sees_what_it_watches_for(tmp_path):
    (tmp_path / "place").mkdir()
    script = LEAKY.format(tests=str(TESTS), root=str(TESTS.parent))
    run = subprocess.run(
        [sys.executable, "-B", "-c", script, str(tmp_path / "place")], capture_output=True, text=True, check=False
    )
    lines = run.stdout.splitlines()
    assert lines[0] == "value", run.stderr
    assert lines[1].startswith("Finding open ")
    assert lines[2].startswith("Finding pickle.find_class")
    assert lines[3].startswith("Finding socket.connect")
    assert lines[4].startswith("Finding more than 0.5 s")
    assert lines[5].startswith("Finding more than 128 MiB")
