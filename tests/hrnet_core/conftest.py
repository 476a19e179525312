"""Networks with random weights whose values stay near 1, so that comparisons to 1e-5 mean something."""

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """Random affine parameters and the running statistics of one random batch; the network comes back in eval mode."""

    def randomise(model: nn.Module) -> nn.Module:
        torch.manual_seed(0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                module.momentum = None  # the running mean becomes that of the batch
        with torch.no_grad():
            model.train()(torch.randn(4, 3, 64, 96))
        return model.eval()

    return randomise
