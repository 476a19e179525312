"""ablate export: a trained or released network as a file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablate.cli import completion, options
from ablate.cli.tables import document
from ablate.cli.talk import say, tell

if TYPE_CHECKING:
    from torch import nn

SUFFIXES = (".safetensors", ".onnx", ".pt2")
FURTHER = 64  # pixels that the second size of the comparison is larger by


@click.command("export")
@click.argument("what", metavar="ID|CHECKPOINT", shell_complete=completion.ended)
@click.option(
    "--to", "target", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE",
    help="FILE.safetensors (weights), FILE.onnx, or FILE.pt2 (torch.export).",
)  # fmt: skip
@click.option(
    "--size",
    type=click.IntRange(1),
    nargs=2,
    metavar="HEIGHT WIDTH",
    help="A further image size at which outputs are compared.",
)
@options.results
@options.device
@options.plugin
@options.as_json
def command(
    what: str, target: Path, size: tuple[int, int] | None, results: str, device: str | None, as_json: bool
) -> None:
    """Write the whole network, head included, of a finished trial or a released checkpoint.

    A trial's weights are stored only if its study says `budget: {keep_weights: true}`. For .safetensors the lines that
    name the file in a recipe are printed. ONNX and .pt2 files are run at two sizes and compared with the network,
    with a SimCC head at its one size; of the detectors only FCOS can be written so.
    Example: ablate export 3f2a --to pose.onnx
    """
    import hashlib

    from ablate.errors import AblateError
    from ablate.evaluation import checkpoints
    from ablate.machine import write_atomically

    released = Path(what).is_file()
    if not released and (Path(what).suffix or "/" in what):
        raise AblateError(f"{what}: no such file")
    name, content = ("", b"") if released else _kept(what, results, device)
    if target.suffix not in SUFFIXES or target.exists():
        fault = "is there already" if target.exists() else f"does not end in {', '.join(SUFFIXES)}"
        raise AblateError(f"--to {target}: {fault}")
    compared = []
    if target.suffix == ".safetensors":
        write_atomically(target, checkpoints.official_weights(Path(what)) if released else content)
    else:
        from ablate.network.export import export

        net, usual = checkpoints.whole(Path(what)) if released else _of_trial(name, content)
        first = size or usual
        compared = export(net, target, [first, (first[0] + FURTHER, first[1] + FURTHER)])
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    shown = [{"size": list(one.size), "difference": one.difference} for one in compared]
    if as_json:
        document({"id": name, "file": target, "sha256": digest, "compared": shown})
        return
    for one in compared:
        height, width = one.size
        say(f"at {height} x {width} its output is within {one.difference:.1e} of the network's")
    tell(f"weights: {{file: {target.name}, sha256: {digest}}}" if not compared else f"{target} sha256 {digest}")


def _kept(prefix: str, results: str, device: str | None) -> tuple[str, bytes]:
    """What a trial kept, by its id."""
    import hashlib

    from ablate.errors import DamagedError, StoreError
    from ablate.storage import WEIGHTS, Store

    store = Store(results, device)
    result = store.find(prefix)
    content, kept = store.weights(result.id), f"{store.place.name}/{store.name(result.id, WEIGHTS)}"
    if content is None:
        folder = kept.removesuffix(f"/{WEIGHTS}")
        raise StoreError(
            f"{kept}: not kept; set keep_weights: true in the study's budget, move {folder} away, and run again"
        )
    if result.kept_weights not in ("", hashlib.sha256(content).hexdigest()):  # older results do not say
        raise DamagedError(f"{kept}: damaged: not what the trial kept")
    return result.id, content


def _of_trial(name: str, content: bytes) -> "tuple[nn.Module, tuple[int, int]]":
    """The network that a trial kept, and the size of images that it is made for."""
    import tempfile

    from ablate.errors import DataError
    from ablate.evaluation import checkpoints
    from ablate.training.weights import recipe_of

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kept.safetensors")
        file.write_bytes(content)
        if recipe_of(file) is None:
            raise DataError("what this trial kept is its backbone alone, of an earlier version: .safetensors only")
        try:
            return checkpoints.whole(file)
        except DataError as error:
            raise DataError(str(error).replace(str(file), f"trial {name}")) from None
