"""What the losses of an epoch add up to, read step by step or at its end, and which of them was no number."""

import math

import pytest
import torch

from ablate.training.fit import Diverged, Losses

STEPS = [(0.1, 32), (0.3, 32), (0.7, 5)]
NAN = float("nan")


def filled(steps, *, late):
    losses = Losses(3, len(steps), late=late)
    for loss, size in steps:
        losses.add(torch.tensor(loss), {"boxes": torch.tensor(loss / 4)}, size)
    return losses


@pytest.mark.parametrize("late", [False, True])
def test_they_add_up_in_float64_in_the_order_of_steps(late):
    total, parts = filled(STEPS, late=late).read()
    in_float32 = [torch.tensor(loss).item() for loss, _ in STEPS]
    assert total == (in_float32[0] * 32 + in_float32[1] * 32) + in_float32[2] * 5
    assert parts == {"boxes": pytest.approx(total / 4)}
    assert Losses(1, 0, late=late).read() == (0.0, {})


def test_a_loss_that_is_no_number_is_found_at_once_or_at_the_end_with_its_step():
    steps = [(0.5, 2), (NAN, 2), (math.inf, 2)]
    text = "the loss was nan in epoch 3, step 2 of 3"
    with pytest.raises(Diverged, match=text):
        filled(steps, late=False)
    late = filled(steps, late=True)
    with pytest.raises(Diverged, match=text):
        late.read()


@pytest.mark.parametrize("late", [False, True])
def test_what_it_led_to_is_put_down_to_it(late):
    with pytest.raises(ValueError, match="no boxes"), filled(STEPS, late=late).first():
        raise ValueError("no boxes")
    losses = filled([(0.5, 2), (NAN, 2)], late=True)
    with pytest.raises(Diverged, match="step 2"), losses.first():
        raise ValueError("no boxes")


def test_of_what_is_read_at_once_nothing_is_kept():
    """In a team a loss is a view of all gradients."""
    everything = torch.arange(100.0)
    losses = Losses(1, 1, late=False)
    losses.add(everything[3], {}, 1)
    assert list(map(type, losses._losses)) == [float]
