"""A plug-in is tried before anything is trained: what breaks its contract is one line with its place."""

from pathlib import Path

import faulty_parts
import pytest
from small_studies import small_study, write_study

from ablate import registry
from ablate.errors import PartError
from ablate.network.cost import price
from ablate.network.probe import probe
from ablate.storage import Cost, little_trained
from ablate.study import Recipe

FILE = Path(faulty_parts.__file__)
CLASS, FORWARD, BUILDER = "class Faulty(nn.Module):", "    def forward(self, images):", "def faulty(*"
OF_MODEL = {
    "tensor": (FORWARD, "its forward gives a Tensor; expected: a list of maps, finest first"),
    "no channels": (CLASS, "it has no `channels`; expected: a list with the number of channels of each map"),
    "no strides": (CLASS, "it has no `strides`; expected: a list with the pixels of the image for one of each map"),
    "a number": (CLASS, "its `channels` is 4; expected: a list"),
    "one stride more": (CLASS, "its `channels` is [4] and its `strides` [1, 2]; expected: one of each"),
    "two maps promised": (FORWARD, "its forward gives 1 maps; expected: 2, as `channels` has"),
    "stride": (FORWARD, "map 0 of its forward is (2, 4, 8, 8); expected: (2, 4, 4, 4), by `channels` and `strides`"),
    "channels": (FORWARD, "map 0 of its forward is (2, 4, 8, 8); expected: (2, 8, 8, 8)"),
    "detached": (FORWARD, "none of its 2 parameters gets a gradient in training"),
    "no module": (BUILDER, "its builder gives a function; expected: a module of torch"),
}
OF_TASK = {
    "methods": ('@task("faulty_brightness"', "it has no finish; expected: all methods of ablate.tasks.Task"),
    "head": ("    def head(", "its head is a method; expected: a module of torch"),
    "dict": ("    def head(", "its head gives a dict; expected: a tensor or a list of them"),
    "deaf": ("    def forward(self, maps):", "none of its 2 parameters gets a gradient in training"),
}


@pytest.fixture
def shelf(small_shelf):
    registry.load_plugins(("faulty_parts",))


def line_of(text: str) -> int:
    return 1 + next(at for at, line in enumerate(FILE.read_text().splitlines()) if line.startswith(text))


def recipe(model: str | dict, task: str | dict = "brightness") -> Recipe:
    return Recipe.model_validate(small_study()["recipe"] | {"model": model, "task": task}).settled(on_gpu=False)


@pytest.mark.parametrize("fault", OF_MODEL)
def test_a_network_that_breaks_its_contract_is_one_line_with_its_place(shelf, fault):
    place, text = OF_MODEL[fault]
    with pytest.raises(PartError) as caught:
        probe(recipe({"name": "faulty", "fault": fault}))
    assert str(caught.value).startswith(f"{FILE}:{line_of(place)}: model 'faulty': {text}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", OF_TASK)
def test_so_is_a_task(shelf, fault):
    place, text = OF_TASK[fault]
    with pytest.raises(PartError) as caught:
        probe(recipe("faulty", {"name": "faulty_brightness", "fault": fault}))
    assert str(caught.value).startswith(f"{FILE}:{line_of(place)}: task 'faulty_brightness': {text}")


@pytest.mark.parametrize("fault", ["", "frozen", "impossible"])
def test_what_keeps_its_contract_passes(shelf, fault):
    """Maps in a tuple and weights that want no gradient are fine; who prices impossible knobs says so."""
    probe(recipe({"name": "faulty", "fault": fault}, "faulty_brightness"))
    probe(recipe({"name": "dots", "fault": "kill"}))  # nothing is computed, so nothing happens


@pytest.mark.parametrize(("fault", "kind"), [("raises", KeyError), ("misfits", RuntimeError)])
def test_what_an_authors_own_forward_raises_is_raised(shelf, fault, kind):
    with pytest.raises(kind) as caught:
        probe(recipe({"name": "faulty", "fault": fault}))
    assert any(entry.path == FILE and entry.name == "forward" for entry in caught.traceback)


def test_shipped_parts_are_not_tried(shelf, monkeypatch):
    monkeypatch.setattr("ablate.network.probe.build_model", None)
    pose = {"task": "pose", "dataset": "figures", "model": "resnet", "train": {"epochs": 1}}
    probe(Recipe.model_validate(pose).settled(on_gpu=False))


@pytest.mark.parametrize("command", [["plan"], ["run", "--local"]])
def test_the_command_line_says_it_before_any_training(called, tmp_path, command):
    changed = small_study()["recipe"] | {"model": {"name": "faulty", "fault": "tensor"}}
    factors = {"jitter": {"at": "task.jitter", "levels": [0.5, 0.1]}}
    study = write_study(tmp_path, recipe=changed, factors=factors, plugins=["small_parts", "faulty_parts"])
    status, out, err = called(command[0], study, *command[1:])
    assert (status, out) == (2, "")
    line = f"ablate: {FILE}:{line_of(FORWARD)}: model 'faulty': {OF_MODEL['tensor'][1]}\n"
    assert err.removeprefix("small: 4 trials to run, 0 done already\n") == line
    assert not list((tmp_path / "results").glob("trials/*"))


@pytest.mark.slow
def test_a_traceback_stays_a_traceback(ablate, tmp_path):
    changed = small_study()["recipe"] | {"model": {"name": "faulty", "fault": "raises"}}
    factors = {"jitter": {"at": "task.jitter", "levels": [0.5, 0.1]}}
    study = write_study(tmp_path, recipe=changed, factors=factors, plugins=["small_parts", "faulty_parts"])
    run = ablate("run", study, "--local")
    assert run.returncode == 1
    assert "Traceback" in run.stderr
    assert f'{FILE}", line {line_of(FORWARD) + 3}, in forward' in run.stderr
    assert run.stderr.rstrip().endswith('KeyError: "a slip of the author\'s"')


def test_a_task_without_a_format_is_asked_for_no_predictions(called, tmp_path):
    study = write_study(tmp_path)
    status, _, err = called("trial", study, "--arm", "depth=1", "--seed", 0, "--predictions", tmp_path / "found")
    assert status == 2
    assert err.endswith("ablate: --predictions: the task 'brightness' has no write_predictions\n")


@pytest.mark.slow
def test_a_gradient_for_less_than_half_is_said(called, tmp_path):
    """A bare encoder of timm's under a head that reads its finest map: its later stages are never trained."""
    bare = {"name": "timm_encoder", "encoder": "resnet10t", "width": 0.25}
    changed = {
        "task": {"name": "pose", "size": [32, 32], "sigma": 1.0}, "dataset": {"name": "figures", "train": 4, "val": 4},
        "model": bare, "train": {"epochs": 1, "batch": 4},
    }  # fmt: skip
    levels = {"bare": bare, "resnet": {"name": "unet", "width": 2.0}}
    factors = {"model": {"at": "model", "levels": levels}}
    study = write_study(tmp_path, recipe=changed, factors=factors, metrics=["AP"], plugins=[], seeds=1)
    cost = price(Recipe.model_validate(changed).settled(on_gpu=False))
    sentence = little_trained([("bare", cost), ("half", Cost(parameters=4, used_parameters=2, macs=0))])
    assert cost.used_parameters < cost.parameters / 2
    assert sentence.startswith("Less than half of the parameters get a gradient, the others stay as they start: bare ")
    assert sentence.endswith(f"million ({100 * cost.used_parameters / cost.parameters:.0f} %).")
    status, out, _ = called("plan", study)
    assert status == 0
    assert sentence in out
    assert called("run", study, "--local")[0] == 0
    assert called("report", study, "--to", tmp_path / "out")[0] == 0
    assert f"> ⚠ {sentence}" in (tmp_path / "out" / "report.md").read_text()


def test_many_arms_are_counted():
    costs = [(f"a{n}", Cost(parameters=3_400_000, used_parameters=30_000, macs=0)) for n in range(8)]
    assert little_trained(costs).endswith("a5 0.03 of 3.4 million (1 %); 2 more arms.")
    assert little_trained([("none", Cost(parameters=0, used_parameters=0, macs=0))]) == ""
