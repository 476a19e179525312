"""The shelves: knobs are read without importing, checked by their annotations, and a plugin is an equal."""

import sys
import textwrap

import pytest

from ablate import registry
from ablate.errors import PartError


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Puts a plugin module with this text on the shelves; everything is as before afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))

    def put(name: str, text: str) -> None:
        source = "from dataclasses import dataclass\nfrom typing import ClassVar\n\n"
        source += "from ablate.registry import dataset, metric, model, protocol, section, task\n\n\n"
        (tmp_path / f"{name}.py").write_text(source + textwrap.dedent(text))
        sys.modules.pop(name, None)
        registry.load_plugins((name,))

    yield put
    registry.describe.cache_clear()
    registry._knob_model.cache_clear()


PLUGIN = '''
    @model("mine", meaning=3, note=("a", "b"))
    def mine(
        *,
        width: int = 8,  # channels
        sizes: tuple[int, ...] = (1, 2),
        ratio: float = 2,  # a whole number that means 2.0
        mode: str | None = None,
        wide: bool = False,
        needed: int,
    ):
        """My network.

        And more of it.
        """
        return (width, sizes, ratio, mode, wide, needed)
'''


def test_a_part_describes_itself(plugin):
    plugin("described", PLUGIN)
    part = registry.describe("model", "mine")
    assert (part.summary, part.meaning, part.facts["note"]) == ("My network.", 3, ("a", "b"))
    assert [knob.name for knob in part.knobs] == ["width", "sizes", "ratio", "mode", "wide", "needed"]
    assert part.knobs[0] == registry.Knob("width", "int", 8, "channels")
    assert part.knobs[5].default is registry.REQUIRED
    assert "mine" in registry.names("model")
    assert "hrnet" in registry.names("model")


def test_knobs_are_filled_in_checked_and_handed_over(plugin):
    plugin("built", PLUGIN)
    filled = registry.check_knobs("model", "mine", {"needed": 1, "wide": "off"})
    assert filled == {"width": 8, "sizes": [1, 2], "ratio": 2.0, "mode": None, "wide": False, "needed": 1}
    assert registry.build("model", "mine", filled) == (8, (1, 2), 2.0, None, False, 1)


def test_a_written_default_is_the_default(plugin):
    """2, 2.0 and nothing at all are one value, for keys are made of it."""
    plugin("equal", PLUGIN)
    values = [
        registry.check_knobs("model", "mine", {"needed": 1} | more) for more in ({}, {"ratio": 2}, {"ratio": 2.0})
    ]
    assert [str(value["ratio"]) for value in values] == ["2.0"] * 3


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({}, "needed: is missing"),
        ({"needed": 1, "widht": 2}, "widht: the model 'mine' has no such knob; did you mean 'width'?"),
        ({"needed": "one"}, "needed: should be a valid integer, not 'one'"),
        ({"needed": 1, "width": True}, "width: should be a valid integer, not true"),
        ({"needed": 1, "width": "8"}, "width: should be a valid integer, not '8'"),
        ({"needed": 1, "width": 8.5}, "width: should be a valid integer, not 8.5"),
        ({"needed": 1, "ratio": "1e-3"}, "ratio: should be a valid number, not '1e-3'"),
        ({"needed": 1, "ratio": float("inf")}, "ratio: should be a finite number, not inf"),
        ({"needed": 1, "ratio": float("nan")}, "ratio: should be a finite number, not nan"),
        ({"needed": 1, "sizes": {"a": 1}}, "sizes: should be: list of whole numbers; not {'a': 1}"),
        ({"needed": 1, "sizes": [1, "a"]}, "sizes: should be: list of whole numbers; not [1, 'a']"),
        ({"needed": 1, "mode": 3}, "mode: should be: text, or none; not 3"),
    ],
)
def test_a_wrong_knob_is_one_line(plugin, knobs, message):
    plugin("wrong", PLUGIN)
    with pytest.raises(PartError) as caught:
        registry.check_knobs("model", "mine", knobs)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


FIELDS = '''
    @dataset("mine", meaning=3, tasks=("a", "b"))
    @dataclass(frozen=True, kw_only=True)
    class Mine:
        """My pictures.

        And more of them.
        """

        width: int = 8  # pixels
        open_: bool = False  # whether one may look
        kind: ClassVar[str] = "drawn"
        needed: int  # a number

        def open(self):
            return self.width, self.open_, self.needed
'''


def test_fields_of_a_frozen_dataclass_are_knobs(plugin):
    """Read as the arguments of a function are; an underscore sets a field apart from a method of the knob's name."""
    plugin("fields", FIELDS)
    part = registry.describe("dataset", "mine")
    assert (part.summary, part.meaning, part.facts["tasks"]) == ("My pictures.", 3, ("a", "b"))
    assert part.path.read_text().splitlines()[part.line - 1] == "class Mine:"
    assert part.knobs == (
        registry.Knob("width", "int", 8, "pixels"),
        registry.Knob("open", "bool", False, "whether one may look"),
        registry.Knob("needed", "int", registry.REQUIRED, "a number"),
    )
    filled = registry.check_knobs("dataset", "mine", {"needed": 1, "open": True})
    assert filled == {"width": 8, "open": True, "needed": 1}
    assert registry.build("dataset", "mine", filled).open() == (8, True, 1)
    with pytest.raises(PartError, match=r"open_: the dataset 'mine' has no such knob; did you mean 'open'\?"):
        registry.check_knobs("dataset", "mine", {"open_": True})


@pytest.mark.parametrize(
    ("decorator", "field", "message"),
    [
        ("", "width: int = 8", r"needs @dataclass\(frozen=True\)"),
        ("@dataclass", "width: int = 8", r"needs @dataclass\(frozen=True\)"),
        ("@dataclass(frozen=True)", "width: int = 4 * 2", "must be literals"),
        ("@dataclass(frozen=True)", "width: Path = None", "annotation 'Path'"),
    ],
)
def test_a_class_that_breaks_the_contract_is_named(plugin, decorator, field, message):
    text = f'from pathlib import Path\n\n@task("broken_task")\n{decorator}\nclass Broken:\n    {field}\n'
    plugin("broken_class", text)
    with pytest.raises(PartError, match=message):
        registry.check_knobs("task", "broken_task", {})


def test_an_unknown_part_has_a_nearest_name():
    with pytest.raises(PartError, match=r"unknown model 'hrnett'; did you mean 'hrnet'\?"):
        registry.describe("model", "hrnett")
    with pytest.raises(PartError, match=r"unknown dataset '\.\./figures'"):
        registry.describe("dataset", "../figures")


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("*, width: int = 4 * 2", "must be literals"),
        ("*, width: Path = None", "annotation 'Path'"),
        ("*, width: print('run') = None", r"annotation \"print\('run'\)\": .* is no type"),
        ("width: int = 8", "keyword-only"),
        ("*widths", "keyword-only"),
        ("**knobs", "keyword-only"),
    ],
)
def test_a_builder_that_breaks_the_contract_is_named(plugin, signature, message):
    plugin(
        "broken", f'from pathlib import Path\n\n@model("broken_part")\ndef broken_part({signature}):\n    return None\n'
    )
    with pytest.raises(PartError, match=message):
        registry.check_knobs("model", "broken_part", {})


@pytest.mark.parametrize(
    ("written", "value", "wrong"),
    [
        ("int | tuple[int, int] | None", [3, 4], [3, True]),
        ("Literal['a', -1] | None", -1, "b"),
        ("dict[str, list[float]]", {"a": [0.5]}, {"a": 0.5}),
        ("tuple[float, ...]", [1.0, 2.0], ["1"]),
    ],
)
def test_annotations_mean_what_they_mean_to_python(plugin, written, value, wrong):
    """They are read and not run, so that every version of Python reads the same."""
    made = f'@model("typed_part")\ndef typed_part(*, knob: {written} = 0):\n    return None\n'
    plugin("typed", f"from typing import Literal\n\n{made}")
    assert registry.check_knobs("model", "typed_part", {"knob": value}) == {"knob": value}
    with pytest.raises(PartError, match="knob"):
        registry.check_knobs("model", "typed_part", {"knob": wrong})


@pytest.mark.parametrize("name", ["no_such_module_here", ".relative", "", "no.such.package"])
def test_a_plugin_that_cannot_be_imported_is_named(name):
    with pytest.raises(PartError, match="plugins: cannot import"):
        registry.load_plugins((name,))


def test_a_plugin_that_does_not_parse_is_named(plugin):
    with pytest.raises(PartError, match="plugins: cannot import 'unparsed'"):
        plugin("unparsed", "def (:\n")


def test_a_plugin_without_parts_is_named(plugin):
    with pytest.raises(PartError, match="plugins: 'partless' holds no decorated part"):
        plugin("partless", "x = 1\n")


def test_a_plugin_may_be_loaded_twice_and_imported_before(plugin):
    plugin("twice", PLUGIN)
    registry.load_plugins(("twice", "twice"))
    registry._plugins.clear()  # as in a process where somebody else imported it first
    registry.load_plugins(("twice",))
    assert "mine" in registry.names("model")


def test_a_plugin_cannot_take_a_name_that_is_taken(plugin):
    """The two would share keys, and one's results would be taken for the other's."""
    with pytest.raises(PartError, match="brings a model 'hrnet', which is there already"):
        plugin("usurper", '@model("hrnet")\ndef hrnet():\n    return None\n')
    plugin("first", PLUGIN)
    with pytest.raises(PartError, match="brings a model 'mine', which is there already"):
        plugin("second", PLUGIN)


def test_every_own_part_can_be_read():
    for kind in (*registry.FOLDERS, "protocol"):
        for name in registry.names(kind):
            part = registry.describe(kind, name)
            assert part.summary
            assert part.path.stem == name
            assert part.path.read_text().splitlines()[part.line - 1].startswith(("def ", "class "))
            assert all(knob.doc for knob in part.knobs), name
            if not any(knob.default is registry.REQUIRED for knob in part.knobs):
                assert set(registry.check_knobs(kind, name, {})) == {knob.name for knob in part.knobs}


def test_reading_the_shelves_imports_no_part():
    """Run in a fresh process: what this one has imported says nothing."""
    import subprocess

    script = """
import sys
from ablate import registry
for kind in (*registry.FOLDERS, "protocol"):
    for name in registry.names(kind):
        registry.check_knobs(kind, name, {})
parts = [m for m in sys.modules if m.startswith("ablate.") and m.count(".") > 1 or m in ("torch", "numpy")]
parts = [m for m in parts if not m.startswith("ablate.machine.")]
print(parts)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
