"""From a recipe to a network: a backbone from the shelf with the task's head, initialised by seed and name.

The random draw of a layer depends on the seed and on the layer's name only, so that layers which two arms have in
common start equal in both (what a number rests on: pairing).
"""

import hashlib
from collections.abc import Collection

import torch
from torch import Tensor, nn

from ablate.datasets import build_dataset
from ablate.errors import PartError, nearest
from ablate.models import Backbone, Supervised, build_model
from ablate.study import Recipe
from ablate.tasks import DrawsOwn, Outputs, build_task

ALL = "backbone"  # the name that stands for all of it where parts are frozen


class Network(nn.Module):
    """images (B, 3, H, W) -> what the task's head gives, for instance heatmaps (B, K, H/4, W/4).

    Heads of some tasks take more than maps (`GivesHead`), which follows the images.
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        if not isinstance(backbone, nn.Module):
            raise PartError(f"recipe.model: a backbone is a module of torch, not a {type(backbone).__name__}")
        self.backbone: nn.Module = backbone
        self.head = head

    def forward(self, images: Tensor, *given: Tensor) -> Outputs:
        outputs: Outputs = self.head(self.backbone(images), *given)
        return outputs


def build(recipe: Recipe) -> Network:
    """The recipe's network on the default device, not yet initialised by seed.

    Raises:
        PartError, ValueError: an impossible combination of knobs, named by the model.
    """
    info, task, backbone = build_dataset(recipe.dataset).info, build_task(recipe.task), build_model(recipe.model)
    places = backbone.intermediate if isinstance(backbone, Supervised) else ()
    net = Network(backbone, task.head(info, backbone.channels, backbone.strides, intermediate=places))
    frozen(net, recipe.train.frozen)  # refuses what is not there
    return net


def frozen(net: nn.Module, names: Collection[str]) -> list[nn.Module]:
    """The modules of the network's backbone that a recipe freezes, by name.

    Raises:
        ValueError: the backbone has none of that name.
    """
    if not names:
        return []
    backbone = net.get_submodule("backbone")
    modules = {**dict(backbone.named_modules()), ALL: backbone}
    for name in names:
        if name not in modules or not name:
            raise ValueError(f"train.frozen: the backbone has no module {name!r}; {nearest(name, _tops(backbone))}")
    return [modules[name] for name in names]


def _tops(backbone: nn.Module) -> list[str]:
    return [ALL, *(name for name, _ in backbone.named_children())]


def initialise(network: nn.Module, rule: str, *, seed: int) -> None:
    """Draw every layer's weights from (seed, layer name) by one rule.

    `torch`: each layer's own default. `normal`: convolutions N(0, 0.001), biases 0, the official pose code's
    rule for training from scratch. `kaiming`: convolutions by He et al., fan-out, the official classification code's.
    Normalisation layers start at weight 1 and bias 0 in all three. Heads may have rules of their own (`DrawsOwn`).
    """
    head = getattr(network, "head", None)
    own = head.own_rules() if isinstance(head, DrawsOwn) else {}
    with torch.random.fork_rng(devices=[]):
        for name, layer in network.named_modules():
            if any(True for _ in layer.parameters(recurse=False)):
                torch.manual_seed(_seed(seed, name))
                _draw(layer, "torch" if own and name.startswith("head.") else rule)
                if layer in own:
                    own[layer](layer)


def _draw(layer: nn.Module, rule: str) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if callable(reset):
        reset()
    if rule == "torch" or not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return
    if rule == "normal":
        nn.init.normal_(layer.weight, std=0.001)
    else:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=7).digest(), "big")
