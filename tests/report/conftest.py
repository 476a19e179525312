from pathlib import Path

import pytest
import toy_parts

from ablate import registry


@pytest.fixture(autouse=True)
def toy_shelf(monkeypatch):
    """The toy parts on the shelves, for one test."""
    kinds = {"model": ["toy_net"], "task": ["toy_task", "toy_other_task"], "dataset": ["toy_figures"]}
    kinds |= {"protocol": ["toy_task", "toy_other_task"], "metric": ["toy_score"], "section": ["toy_section"]}
    parts = {(kind, name): Path(toy_parts.__file__) for kind, names in kinds.items() for name in names}
    monkeypatch.setattr(registry, "_plugins", registry._plugins | parts)
    registry.describe.cache_clear()
