import pytest

from ablate import registry


@pytest.fixture(autouse=True)
def toy_shelf(monkeypatch):
    """The parts of toy_parts.py on the shelves, for one test."""
    monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
    registry.load_plugins(("toy_parts",))
    yield
    registry.describe.cache_clear()
    registry._knob_model.cache_clear()
