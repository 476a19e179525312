"""Trains one scale of a study on one GPU that its trials share, for twelve minutes at most.

    PYTHONPATH=. python tests/gpu/study.py studies/fusion_count.yaml --results FOLDER [--scale laptop] [--minutes 11]

The scale is the study's own but for its budget, which is no part of a trial's recipe. The data lie in ABLATE_DATA. What
is not done when the time is over is continued by the same command; `ablate import FOLDER` takes the results elsewhere.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from ablate.study import yaml_subset


def shared(study: str, scale: str, *, gpus: int) -> str:
    """The text of a study whose trials at that scale share a GPU, or with 0 train on the processor."""
    document = yaml_subset.parse(study)
    chosen = document["scales"][scale]
    chosen["budget"] = chosen.get("budget", {}) | {"gpus": gpus, "share": gpus > 0}
    return yaml_subset.dump(document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--results", required=True)
    parser.add_argument("--scale", default="laptop")
    parser.add_argument("--minutes", default="11")
    parser.add_argument("--gpus", type=int, default=1, choices=(0, 1), help="0: try the script without a GPU")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, told.study.name)
        file.write_text(shared(told.study.read_text(encoding="utf-8"), told.scale, gpus=told.gpus), encoding="utf-8")
        where = ("--scale", told.scale, "--results", told.results, "--minutes", told.minutes)
        sys.exit(subprocess.run([sys.executable, "-m", "ablate", "run", file, *where], check=False).returncode)


if __name__ == "__main__":
    main()
