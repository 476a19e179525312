"""Tests that train leave torch as they found it."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Trials set the number of threads of their process; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
