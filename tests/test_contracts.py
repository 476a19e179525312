"""Every part of every shelf fits the protocol of its shelf: mypy says so of a file that assigns one to the other."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_studies import small_study

from ablate import registry
from ablate.study import Recipe, Trial
from ablate.training.run_trial import run_trial
from ablate.training.site import Site

ROOT = Path(__file__).parent.parent
HEAD = """
from collections.abc import Callable

from ablate.datasets import ClassifiedSamples, Dataset, InstanceSamples, LabelledImage, LabelledSamples
from ablate.datasets import PeopleByImage, PeopleSamples, Person
from ablate.metrics import Metric
from ablate.models import Backbone, Supervised
from ablate.tasks.bottom_up_pose import Scene
from ablate.tasks.classification import Sample
from ablate.tasks.detection import Image
from ablate.tasks import Computes, DrawsOwn, GivesHead, LeavesOut, Task, WeighsBatches, WritesPredictions

"""
# What each task needs of an opened split, and what it makes its samples of; a new task is added here.
NEEDS = {
    "pose": ("PeopleSamples", "Person"),
    "segmentation": ("LabelledSamples", "LabelledImage"),
    "detection": ("InstanceSamples", "Image"),
    "bottom_up_pose": ("PeopleByImage", "Scene"),
    "classification": ("ClassifiedSamples", "Sample"),
}
OPTIONAL = """
from ablate.tasks._detected_people import DetectedPeople
from ablate.tasks._detectors import Detector
gives: Callable[..., GivesHead] = task_detection
draws: Callable[..., DrawsOwn] = Detector
weighs: Callable[..., WeighsBatches] = task_segmentation
supervised: Callable[..., Supervised] = model_hourglass
leaves_out: Callable[..., LeavesOut] = DetectedPeople
"""
WRONG = """
class Loose:  # as parts could be: nothing fits
    channels: int

    def open(self, split: str) -> None:
        pass

    def forward(self, images: object) -> object:
        return images


a: Dataset[PeopleSamples] = Loose()
b: Backbone = Loose()
c: Metric = Loose()
d: Task[PeopleSamples, Person, object] = Loose()
"""


def place(kind: str, name: str) -> tuple[str, str]:
    """Where a part is to be imported from: its module and its builder."""
    part = registry.describe(kind, name)
    builder = next(n for n in ast.parse(part.path.read_text()).body if getattr(n, "lineno", 0) == part.line)
    return ".".join(part.path.relative_to(ROOT).with_suffix("").parts), builder.name


def protocols(kind: str, name: str) -> list[str]:
    """What the part is to fit."""
    if kind == "task":
        return ["Task[{}, {}, {}]".format(*NEEDS[name], "protocol_" + name), "WritesPredictions"]
    if kind == "dataset":
        return [f"Dataset[{NEEDS[task][0]}]" for task in registry.describe(kind, name).facts["tasks"]]
    return [{"protocol": "Computes", "model": "Backbone", "metric": "Metric"}[kind]]


def mypy(text: str, folder: Path) -> list[str]:
    (folder / "fits.py").write_text(HEAD + text)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(folder / "fits.py")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not run.stderr, run.stderr
    return [line for line in run.stdout.splitlines() if ": error: " in line]


@pytest.mark.slow
def test_every_part_fits_its_protocol(tmp_path):
    text, count = "", 0
    for kind in ("protocol", "model", "task", "dataset", "metric"):
        for name in registry.names(kind):
            module, builder = place(kind, name)
            text += f"from {module} import {builder} as {kind}_{name}\n"
            for protocol in protocols(kind, name):
                text += f"fits_{count}: Callable[..., {protocol}] = {kind}_{name}\n"
                count += 1
    text += OPTIONAL
    assert mypy(text, tmp_path) == []
    kinds = ("protocol", "model", "task", "dataset", "metric")
    assert count >= sum(len(registry.names(kind)) for kind in kinds)


@pytest.mark.slow
def test_what_does_not_fit_is_found(tmp_path):
    found = mypy(WRONG, tmp_path)
    wanted = ["Dataset[PeopleSamples]", "Backbone", "Metric", "Task[PeopleSamples, Person, object]"]
    assert [re.findall('variable has type "(.+)"', line) for line in found] == [[protocol] for protocol in wanted]


def test_parts_written_as_functions_are_trained_and_evaluated(small_shelf, tmp_path):
    """What `small_parts` holds was written before parts were dataclasses, and is as it was."""
    recipe = Recipe.model_validate(small_study()["recipe"]).settled(on_gpu=False)
    for kind, name in (("task", "brightness"), ("protocol", "brightness"), ("dataset", "noise")):
        part = registry.describe(kind, name)
        assert part.path.read_text().splitlines()[part.line - 1].startswith("def ")
    trial = Trial(arm={}, seed=0, recipe=recipe, meanings=recipe.meanings())
    *epochs, result = run_trial(trial, Site(results=str(tmp_path)))
    assert (len(epochs), result.status) == (3, "done")
    assert result.scores.keys() == {"closeness", "near"}
