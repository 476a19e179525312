"""Starting weights: a recipe's checkpoint is found, its digest checked, and its tensors put into the backbone.

One rule serves every family, without a table of names: the part of the backbone and the part of the checkpoint that
agree in most names belong together, whatever stands before these names (`module.`, `backbone.`, `encoder.`). Heads
stay outside on both sides. A checkpoint of another network is refused, not loaded as far as it goes.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ablate.errors import AblateError, DataError, nearest, one_line
from ablate.network.build import Network, build
from ablate.study import Recipe, Weights
from ablate.training.site import Site
from hrnet_core.checkpoint import read

LEAST_SHARED = 0.75  # of the layers that both parts know; a ResNet-50 in the checkpoint of a ResNet-101 has 0.55
LEAST_LOADED = 0.5  # of the backbone's part; the transposed convolutions beside a SimpleBaseline's ResNet leave 0.69
MOST_HEADER = 2**26  # bytes of a file's header; the largest networks have one of a megabyte
NAMED = 4  # tensors that a message names before it only counts

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Agreement:
    """Two parts that agree in names: all names of the one begin with `place`, of the other with `source`."""

    place: str = ""
    source: str = ""
    names: tuple[str, ...] = ()  # without either beginning


def check(recipe: Recipe, site: Site) -> None:
    """That the recipe's checkpoint is there, is the one that was meant, and fits; without memory for the network.

    Raises:
        DataError: it does not, in one line.
    """
    if recipe.weights:
        with torch.device("meta"):
            backbone = build(recipe).backbone
        _fitting(backbone, recipe.weights, find(recipe.weights, site))


def start(backbone: nn.Module, weights: Weights, site: Site) -> str:
    """Load the checkpoint into the backbone; in words, which file it was and how much of the backbone it filled.

    Raises:
        DataError: the file is missing, is another one, holds code, or belongs to another network.
    """
    tensors = _fitting(backbone, weights, find(weights, site))
    state = backbone.state_dict()
    for name, value in tensors.items():
        state[name].copy_(value)  # shares its memory with the backbone
    counts = {name: parameter.numel() for name, parameter in backbone.named_parameters()}
    loaded = sum(count for name, count in counts.items() if name in tensors)
    return f"{Path(weights.file).name}: {loaded:,} of the backbone's {sum(counts.values()):,} parameters"


def find(weights: Weights, site: Site) -> Path:
    """The file with the recipe's digest: absolute, or under the data folder, or beside the study file.

    Raises:
        DataError: there is none; of a file that is another one, its digest is said.
    """
    if ".." in Path(weights.file).parts or "\0" in weights.file:
        raise DataError(f"recipe.weights.file: {weights.file!r} leads out of the data folder")
    places = [Path(folder, weights.file) for folder in (site.data, site.beside) if folder] or [Path(weights.file)]
    found = {place: _digest(place) for place in dict.fromkeys(places) if place.is_file()}
    for place, digest in found.items():
        if digest.startswith(weights.sha256):
            return place
    for place, digest in found.items():
        raise DataError(f"recipe.weights: {place} has sha256 {digest}, not {weights.sha256}")
    raise DataError(f"recipe.weights: no file at {' or '.join(map(str, dict.fromkeys(places)))}")


def packed(network: nn.Module, *, trial_id: str, recipe: Recipe | None = None) -> bytes:
    """A network as a checkpoint (safetensors) that `start` takes: equal weights of one trial, equal bytes.

    With its recipe, which says how to build it again, it stands for the whole network, head included.
    """
    tensors = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    about = {"trial": trial_id} | ({"recipe": recipe.model_dump(mode="json")} if recipe else {})
    # One entry only: safetensors writes several in no fixed order.
    return bytes(safetensors.torch.save(tensors, {"ablate": json.dumps(about)}))


def unpacked(file: Path, recipe: Recipe | None = None) -> Network | None:
    """The whole network that `packed` wrote, in evaluation mode, and None where the file is no such checkpoint.

    A recipe that is given stands for the file's own.

    Raises:
        DataError: it says that it is one, and is not, or is of parts that are on no shelf here.
    """
    recipe = recipe or recipe_of(file)
    if recipe is None:
        return None
    try:
        net = build(recipe)
        net.load_state_dict(dict(read(file)))
    except (ValueError, RuntimeError, AblateError) as error:
        raise DataError(f"{file}: not the network of its recipe: {one_line(error)}") from None
    return net.eval()


def recipe_of(file: Path) -> Recipe | None:
    """The recipe in the header of a file that `packed` wrote with one; None where there is none."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= MOST_HEADER else {}
        about = json.loads(header["__metadata__"]["ablate"])
        return Recipe.model_validate(about["recipe"]) if "recipe" in about else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"recipe.weights: {path}: {error.strerror}") from None


def _fitting(backbone: nn.Module, weights: Weights, path: Path) -> Tensors:
    """The checkpoint's tensors by the backbone's names."""
    try:
        networks = dict(_networks(read(path), ""))
    except ValueError as error:
        raise DataError(f"recipe.weights: {error}") from None
    if weights.entry is not None:
        if weights.entry not in networks:
            raise DataError(f"recipe.weights.entry: {path}: no {weights.entry!r}; {nearest(weights.entry, networks)}")
        networks = {weights.entry: networks[weights.entry]}
    originals = {_plain(name): name for name in backbone.state_dict()}
    wanted = _counted({_plain(name): value for name, value in backbone.state_dict().items()})
    agreed = {entry: _agreement(wanted, given) for entry, given in networks.items()}
    most = max((len(found.names) for found in agreed.values()), default=0)
    best = [entry for entry, found in agreed.items() if len(found.names) == most]
    if not most:
        theirs = _listed([name for given in networks.values() for name in given])
        raise DataError(f"recipe.weights: {path} fits nowhere: it has {theirs}; the backbone has {_listed(wanted)}")
    if len(best) > 1:
        raise DataError(f"recipe.weights: {path} holds several networks: add entry: one of {', '.join(sorted(best))}")
    given, found = networks[best[0]], agreed[best[0]]
    _refuse_other(wanted, given, found, path)
    return {originals[found.place + name]: given[found.source + name] for name in found.names}


def _networks(source: Mapping[str, object], entry: str) -> Iterator[tuple[str, Tensors]]:
    """Every mapping in a checkpoint that holds tensors by name, under the keys that lead to it."""
    tensors = {key: value for key, value in source.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield entry, _counted({_plain(name): value for name, value in tensors.items()})
    for key, value in source.items():
        if isinstance(key, str) and isinstance(value, Mapping):
            yield from _networks(value, f"{entry}.{key}".removeprefix("."))


def _plain(name: str) -> str:
    """`layers_0.weight` is `layers.0.weight`: timm flattens its sequences where it gives features."""
    return re.sub(r"_(?=\d+\.)", ".", name)


def _counted(tensors: Tensors) -> Tensors:
    """Without the batch counters of normalisation layers, which old files lack and nothing reads."""
    return {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}


def _agreement(wanted: Tensors, given: Tensors) -> Agreement:
    """The parts that agree in most names; of several the smallest, so that no head stands beside them."""
    best = Agreement()
    for place in _places(wanted):
        tails = [name.removeprefix(place) for name in wanted if name.startswith(place)]
        for source in _places(given):
            names = tuple(tail for tail in tails if source + tail in given)
            if len(names) >= max(len(best.names), 1):
                best = Agreement(place, source, names)
    return best


def _places(tensors: Tensors) -> list[str]:
    """Beginnings that a quarter of the names or more have, short ones first: few, for modules nest."""
    counts: dict[str, int] = {"": len(tensors)}
    for name in tensors:
        for end in re.finditer(r"\.", name):
            counts[name[: end.end()]] = counts.get(name[: end.end()], 0) + 1
    return sorted((place for place, count in counts.items() if 4 * count >= len(tensors)), key=len)


def _refuse_other(wanted: Tensors, given: Tensors, found: Agreement, path: Path) -> None:
    """Shapes fit, and the two parts hold nearly the same layers; what only one side knows at all is a head's."""
    ours = {name.removeprefix(found.place): value for name, value in wanted.items() if name.startswith(found.place)}
    theirs = {name.removeprefix(found.source): value for name, value in given.items() if name.startswith(found.source)}
    tops = {name.partition(".")[0] for name in found.names}
    missing = [name for name in ours if name not in theirs and name.partition(".")[0] in tops]
    over = [name for name in theirs if name not in ours and name.partition(".")[0] in tops]
    wrong = [
        f"{name} is {tuple(theirs[name].shape)}, not {tuple(ours[name].shape)}"
        for name in found.names
        if theirs[name].shape != ours[name].shape
    ]
    if wrong:
        raise DataError(f"recipe.weights: {path} is of another network: {_listed(wrong)}")
    shared = _size(ours, found.names)
    if shared < LEAST_SHARED * (shared + _size(ours, missing) + _size(theirs, over)):
        lists = [f"{what}: {_listed(names)}" for what, names in (("missing", missing), ("left over", over)) if names]
        raise DataError(f"recipe.weights: {path} is of another network: {'; '.join(lists)}")
    if shared < LEAST_LOADED * _size(ours, ours):
        rest = [name for name in ours if name not in theirs]
        raise DataError(f"recipe.weights: {path} fills less than half of the backbone; missing: {_listed(rest)}")


def _size(tensors: Tensors, names: Iterable[str]) -> int:
    return sum(tensors[name].numel() for name in names)


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more
