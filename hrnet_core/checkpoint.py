"""A released checkpoint -> the network it came from, its architecture read off keys and shapes alone.

The network is an HRNet or a SimpleBaseline. What shapes cannot tell (an HRNet's upsampling mode, align_corners) follows
the family of the checkpoint (families.py) or the caller. Nothing is guessed in silence: what is missing, left over or
ambiguous is one line that lists it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import nn

from .config import HRNetConfig, check_choice
from .families import FAMILIES, has_head, official_name, recognise
from .hrnet import HRNet
from .infer import State, infer_baseline, infer_config, infer_neck_and_head
from .simple_baseline import SimpleBaseline, SimpleBaselineConfig

HRNET = "stage2.0.branches.0.0.conv1.weight"  # every HRNet has it, no other network does
RESNET, DECONVOLUTION = "layer4.0.conv1.weight", "deconv_layers.0.weight"  # both together: a SimpleBaseline
VISITS = 10_000  # mappings in a file
DEEPEST = 20  # mappings within each other; the deepest checkpoint known has four
MOST_TENSORS = 50_000  # of a file; the largest networks of this field have 4,000
LONGEST, DEEPEST_NAME, SHOWN = 500, 50, 80  # characters and dots of a tensor's name, and how much of it is said
SHARED = 4  # how often the same numbers may stand in a file under several names
ROOM = 2**20  # bytes that it may claim besides: a few small buffers that were expanded
EXTRAS = r"(loss|criterion|data_preprocessor)\.|(.*\.)?total_(ops|params)$"  # what training leaves beside the weights


class Pretrained(nn.Module):
    """Body, neck and head of a checkpoint; `forward` gives what the original gives.

    Heatmaps (B, K, h, w), for HigherHRNet with tags and finer ones (see `HigherHead`), logits (B, classes, h, w)
    at the finest stream's resolution, [auxiliary, main] logits for OCR, class logits (B, classes), the pyramid's
    maps for detectors, and the list of maps without a head (or, for timm's `features_only`, with its widening half:
    strides 4 to 32; the stem's map is not among them). `config` describes the body, `family` the origin, `kind` the
    head (heatmap, bottom_up, segmentation, ocr, classification, pyramid; None without one), `leftover` holds weights
    that belong to none of the three.
    """

    def __init__(
        self,
        body: HRNet | SimpleBaseline,
        *,
        neck: nn.Module,
        head: nn.Module,
        family: str | None,
        kind: str | None,
        leftover: State,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.body, self.neck, self.head = body, neck, head
        self.config, self.family, self.leftover = body.config, family, leftover

    @property
    def outputs(self) -> int | None:
        """Joints or classes that the head has maps or logits for; None without such a head."""
        last = [layer for layer in self.head.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        if not last or self.kind in (None, "pyramid"):
            return None
        return last[-1].out_channels if isinstance(last[-1], nn.Conv2d) else last[-1].out_features

    def forward(self, image: torch.Tensor) -> Any:
        return self.head(self.neck(self.body(image)))


def from_checkpoint(
    source: str | Path | Mapping[str, Any],
    *,
    family: str | None = None,
    upsample: str | None = None,
    align_corners: bool | None = None,
    head: bool = True,
    ignore: Sequence[str] = (),
    entry: str | None = None,
    config: HRNetConfig | SimpleBaselineConfig | None = None,
) -> Pretrained:
    """The network of a checkpoint (a file's path, or a state dict), in eval mode on the CPU.

    `family` (see families.py) is recognised by the head; a body alone needs it, or `upsample` and `align_corners`,
    which overrule it. `head=False` loads the body alone, and what begins with one of `ignore` is not loaded: both end
    up in `.leftover`. `entry` picks one of several networks in a file. `config` describes a body that keys and shapes
    do not: one that was never released, with another stem stride or stream ratio, or products for sums. Keys and shapes
    of a SimpleBaseline tell everything. ValueError, one line, for an unreadable file and for whatever does not fit.
    """
    state = _strip(_network(source if isinstance(source, Mapping) else read(source), entry))
    kept_out = {key: value for key, value in state.items() if key.startswith(tuple(ignore))} if ignore else {}
    state = {key: value for key, value in state.items() if key not in kept_out}
    family = _family(state, family)
    kind = FAMILIES[family].head if family and head and has_head(state, family) else None
    state = _official(state, family)
    if config is None and RESNET in state:
        config = infer_baseline(state)
    elif config is None:
        config = _with_resizing(infer_config(state), state, family, upsample)
    choices: dict[str, Any] = {"upsample": upsample, "align_corners": align_corners}
    choices = {knob: choice for knob, choice in choices.items() if choice is not None}
    if choices and isinstance(config, SimpleBaselineConfig):
        raise ValueError(f"{next(iter(choices))}: SimpleBaseline has no such choice, only an HRNet has")
    config = replace(config, **choices)

    with torch.device("meta"):  # shapes only: every value comes from the checkpoint
        body: HRNet | SimpleBaseline = (
            SimpleBaseline(config) if isinstance(config, SimpleBaselineConfig) else HRNet(config)
        )
        neck, top = infer_neck_and_head(state, body, kind)
    rest = _load([body, neck, top], state)
    if rest and head and family != "detection":
        advice = "head=False loads the body alone, ignore=[prefixes] leaves keys out"
        raise ValueError(f"checkpoint: left over: {_listed(rest)}; {advice}")
    return Pretrained(body, neck=neck, head=top, family=family, kind=kind, leftover=kept_out | rest).eval()


def official_state(source: str | Path | Mapping[str, Any], *, entry: str | None = None) -> State:
    """A checkpoint's tensors by the official names, without wrappers' prefixes. ValueError as `from_checkpoint`."""
    state = _strip(_network(source if isinstance(source, Mapping) else read(source), entry))
    return _official(state, _family(state, None))


def _family(state: State, named: str | None) -> str | None:
    if named is not None:
        check_choice("family", named, FAMILIES)
    return named or recognise(state)


def _official(state: State, family: str | None) -> State:
    return {official_name(key, FAMILIES[family]): value for key, value in state.items()} if family else state


def read(path: str | Path) -> Mapping[str, Any]:
    """The tensors in a file, as safetensors or as torch.save wrote them; no code in it is ever run."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint: no file at {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: object = load_file(path)
        else:
            _refuse_compressed(path)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the two readers raise
        code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, UnpicklingError) else None
        reason = f"holds code ({code[1]}), not tensors alone" if code else "is damaged or no checkpoint"
        raise ValueError(f"checkpoint: {path} {reason}; save its state dict alone") from error
    if not isinstance(loaded, Mapping):
        raise ValueError(f"checkpoint: {path} holds a {type(loaded).__name__}, not a state dict")
    _refuse_strange(loaded, path)
    return loaded


def _refuse_compressed(path: Path) -> None:
    """torch.save compresses nothing, so what is larger unpacked was made to fill the memory."""
    if is_zipfile(path):
        with ZipFile(path) as file:
            if sum(member.file_size for member in file.infolist()) > path.stat().st_size:
                raise ValueError("compressed")


def _refuse_strange(loaded: Mapping[Any, Any], path: Path) -> None:
    """What no trainer saves, and what would take hours or the whole memory to look at.

    What stands under keys that are no texts, an optimiser's state, is nobody's weights and left alone.
    """
    found: dict[int, torch.Tensor] = {}
    stack, visits = [(loaded, 0)], 0
    while stack:
        source, depth = stack.pop()
        visits += 1
        if visits > VISITS or depth > DEEPEST:
            raise ValueError(
                f"checkpoint: {path} holds mappings within each other more than {DEEPEST} deep, or without end"
            )
        for key, value in source.items():
            if not isinstance(key, str) or not isinstance(value, Mapping | torch.Tensor):
                continue
            if isinstance(value, Mapping):
                stack.append((value, depth + 1))
            else:
                found[id(value)] = value
                if problem := _strange(key, value):
                    raise ValueError(f"checkpoint: {path}: {key[:SHOWN]} {problem}")
    if not found:
        raise ValueError(f"checkpoint: {path} holds no tensor under a name")
    if len(found) > MOST_TENSORS:
        raise ValueError(f"checkpoint: {path} holds {len(found):,} tensors, more than any network")
    _refuse_larger_than_file(list(found.values()), path)


def _strange(key: str, value: torch.Tensor) -> str:
    """What is wrong with one tensor, in words; empty if nothing is."""
    if len(key) > LONGEST or key.count(".") > DEEPEST_NAME:
        return f"is a name of {len(key):,} characters and {key.count('.'):,} dots, which no network has"
    if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
        return "is no plain tensor"
    if value.ndim > 1 and not value.numel():
        return f"has no numbers, and a shape of {tuple(value.shape)}"
    return ""


def _refuse_larger_than_file(tensors: Sequence[torch.Tensor], path: Path) -> None:
    """Strides of 0 and a storage that many tensors share make any size of a few bytes, until somebody copies them."""
    size = path.stat().st_size
    stored = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors}
    claimed = max(sum(value.numel() * value.element_size() for value in tensors), sum(stored.values()))
    if claimed > SHARED * size + ROOM:
        raise ValueError(f"checkpoint: {path} claims {claimed:,} bytes of numbers, and has {size:,}")


def _network(source: Mapping[str, Any], entry: str | None) -> tuple[State, str]:
    """The one network in a checkpoint: the mapping that holds it, and the prefix of its body's keys."""
    found = dict(_networks(source, ""))
    if entry is not None:
        found = {name: network for name, network in found.items() if name.startswith(entry)} or found
    if not found:
        names = [name for name in source if isinstance(name, str)]
        signs = f"no key ends in {HRNET} or {DECONVOLUTION}"
        raise ValueError(f"checkpoint: no HRNet in it, no SimpleBaseline: {signs}; it begins with {_listed(names)}")
    if len(found) > 1:
        raise ValueError(f"checkpoint: several networks in it: choose with entry= one of {_listed(found)}")
    return next(iter(found.values()))


def _networks(source: Mapping[str, Any], place: str) -> list[tuple[str, tuple[State, str]]]:
    found = []
    named = {key: value for key, value in source.items() if isinstance(key, str)}
    for key, value in named.items():
        if isinstance(value, Mapping):
            found += _networks(value, f"{place}{key}.")
        elif mark := _mark(key, named):
            tensors = {name: tensor for name, tensor in named.items() if isinstance(tensor, torch.Tensor)}
            found.append((place + key, (tensors, key.removesuffix(mark))))
    return found


def _mark(key: str, source: Mapping[str, Any]) -> str | None:
    """The end of `key` that a network is known by; a ResNet counts where transposed convolutions go with it."""
    if key.endswith(HRNET):
        return HRNET
    upsampled = key.endswith(RESNET) and any(name.endswith(DECONVOLUTION) for name in source)
    return RESNET if upsampled else None


def _strip(network: tuple[State, str]) -> State:
    """Keys without wrappers' prefixes (module., model., backbone. ...); heads lie beside the body's last one."""
    state, prefix = network
    around = prefix.removesuffix("backbone.")
    stripped = {}
    for key, value in state.items():
        name = key.removeprefix(prefix) if key.startswith(prefix) else key.removeprefix(around)
        if not re.match(EXTRAS, name):
            stripped[name] = value
    return stripped


def _with_resizing(config: HRNetConfig, state: State, family: str | None, upsample: str | None) -> HRNetConfig:
    """`config` with what shapes do not show, as the family has it; without a family, `upsample` must be known."""
    if family is None and not config.multi_scale_output:
        family = "pose"  # nothing else was released with the finest output alone
    if family is None:
        if upsample is None and config.streams > 1:
            heads = [key for key in state if not re.match(r"(conv|bn|layer|transition|stage)\d", key)]
            raise ValueError(
                f"checkpoint: no head that tells the upsampling ({_listed(heads) or 'a body alone'}): say "
                f"upsample='nearest' or 'bilinear', or family= one of {', '.join(FAMILIES)}"
            )
        return config
    kind = FAMILIES[family]
    bilinear = (upsample or kind.upsample) == "bilinear"
    return replace(config, upsample=kind.upsample, align_corners=kind.align_corners and bilinear)


def _load(parts: Sequence[nn.Module], state: State) -> State:
    """Fill `parts`, built on the meta device, from `state`; what they have no place for is returned."""
    wanted = {key: value for part in parts for key, value in part.state_dict().items()}
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"checkpoint: missing: {_listed(missing)}; config= describes a body that keys do not show")
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    if wrong:
        raise ValueError(f"checkpoint: shapes do not fit: {_listed(wrong)}; head=False loads the body alone")
    counters = {key: torch.zeros((), dtype=torch.long) for key in wanted}  # absent from files of torch < 0.4.1
    for part in parts:
        part.to_empty(device="cpu")
        part.load_state_dict({key: state.get(key, counters[key]) for key in part.state_dict()})
    return {key: value for key, value in state.items() if key not in wanted}


def _listed(names: Collection[str], most: int = 8) -> str:
    shown = [str(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
