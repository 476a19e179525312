"""ablate export: a trained backbone as a checkpoint."""

from pathlib import Path

import click

from ablate.cli import options
from ablate.cli.tables import document
from ablate.cli.talk import tell


@click.command("export")
@options.trial_id
@click.option(
    "--to", "target", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE.safetensors",
    help="Where the checkpoint is written.",
)  # fmt: skip
@options.results
@options.device
@options.as_json
def command(id: str, target: Path, results: str, device: str | None, as_json: bool) -> None:
    """Write the backbone that a finished trial trained, and print how a recipe names it.

    The study's budget must have kept it (keep_weights: true). Example:
    ablate export 3f2a --to pose.safetensors
    """
    import hashlib

    from ablate.errors import AblateError, DamagedError, StoreError
    from ablate.machine import write_atomically
    from ablate.storage import WEIGHTS, Store

    store = Store(results, device)
    result = store.find(id)
    content, kept = store.weights(result.id), f"{store.place.name}/{store.name(result.id, WEIGHTS)}"
    if content is None:
        folder = kept.removesuffix(f"/{WEIGHTS}")
        raise StoreError(
            f"{kept}: not kept; set keep_weights: true in the study's budget, move {folder} away, and run again"
        )
    suffix = Path(WEIGHTS).suffix
    if target.suffix != suffix or target.exists():
        fault = "is there already" if target.exists() else f"does not end in {suffix}"
        raise AblateError(f"--to {target}: {fault}")
    digest = hashlib.sha256(content).hexdigest()
    if result.kept_weights not in ("", digest):  # older results do not say
        raise DamagedError(f"{kept}: damaged: not what the trial kept")
    write_atomically(target, content)
    if as_json:
        document({"id": result.id, "file": target, "sha256": digest})
        return
    tell(f"weights: {{file: {target.name}, sha256: {digest}}}")
