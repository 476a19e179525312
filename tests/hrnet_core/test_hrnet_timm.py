"""The same weights give timm's outputs, for every HRNet that timm has."""

import pytest
import timm
import torch
from torch import nn

from hrnet_core import ClassificationHead, from_checkpoint

LARGE = ("hrnet_w40", "hrnet_w44", "hrnet_w48", "hrnet_w48_ssld", "hrnet_w64")
MODELS = [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in timm.list_models("hrnet_*")]


def test_all_of_timm_is_covered():
    assert {"hrnet_w18_small", "hrnet_w18_small_v2", *(f"hrnet_w{w}" for w in (18, 30, 32, 40, 44, 48, 64))} <= set(
        timm.list_models("hrnet_*")
    )


@pytest.mark.parametrize("name", MODELS)
def test_class_logits_equal_timm(name, randomised):
    theirs = randomised(timm.create_model(name))
    ours = from_checkpoint(theirs.state_dict())
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, logits = theirs(image), ours(image)
    assert expected.abs().max() > 0.1  # else the comparison would say nothing
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert ours.family == "classification"
    assert not ours.leftover


def test_features_only_equal_timm(randomised):
    theirs = randomised(timm.create_model("hrnet_w18_small_v2", features_only=True))
    ours = from_checkpoint(theirs.state_dict())
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, maps = theirs(image)[1:], ours(image)  # without the stem's map
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-5)


def test_plain_features_equal_timm_once_the_upsampling_is_told(randomised):
    theirs = randomised(timm.create_model("hrnet_w18_small", features_only=True, feature_location=""))
    with pytest.raises(ValueError, match="upsample='nearest' or 'bilinear'"):
        from_checkpoint(theirs.state_dict())
    ours = from_checkpoint(theirs.state_dict(), upsample="nearest")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image)[1:], rtol=1e-5, atol=1e-5)


def test_training_step_equals_timm(randomised):
    theirs = randomised(timm.create_model("hrnet_w18_small"))
    ours = from_checkpoint(theirs.state_dict()).double().train()
    theirs = theirs.double().train()  # so that gradients can be compared closely
    image, labels = torch.randn(4, 3, 64, 64).double(), torch.tensor([1, 2, 3, 4])
    losses = [nn.functional.cross_entropy(model(image), labels) for model in (theirs, ours)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-9, atol=0)
    expected = dict(theirs.named_parameters())
    for part in (ours.body, ours.head):
        for name, parameter in part.named_parameters():
            scale = expected[name].grad.abs().max().item()
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=0, atol=1e-7 * scale + 1e-12, msg=name)


def test_pooled_features_without_a_classifier(randomised):
    theirs = randomised(timm.create_model("hrnet_w18_small", num_classes=0))
    ours = from_checkpoint(theirs.state_dict())
    assert isinstance(ours.head, ClassificationHead)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-5, atol=1e-5)
