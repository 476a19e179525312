"""ablate track: MLflow, afterwards."""

import shlex
from pathlib import Path

import click
from click.core import ParameterSource

from ablate.cli import options
from ablate.cli.tables import document
from ablate.cli.talk import tell
from ablate.errors import without_credentials
from ablate.planning.open_study import opened


@click.command("track")
@options.study_file
@options.scale
@options.results
@options.tracker
@options.as_json
def command(
    study: Path, scale: str | None, results: str, mlflow: str | None, experiment: str | None, as_json: bool
) -> None:
    """Write to MLflow the results that it lacks, and close the runs that dead drivers left open.

    Example: ablate track studies/fusion_count.yaml --mlflow http://127.0.0.1:5000
    """
    from ablate.storage import Store
    from ablate.tracking import Tracker

    store, design = Store(results), opened(study, scale=scale, results=results, keep=False)
    count, mended = Tracker(store, design, mlflow, experiment).fill()
    if design.tries:
        further = Tracker(store, design.tries, mlflow, experiment or design.study.name).fill()
        count, mended = count + further[0], mended + further[1]
    if as_json:
        document({"trials": count, "mended": mended})
        return
    tell(f"{count} trials are in MLflow; {mended} runs of dead drivers were closed or dropped")


def track_later() -> str:
    """The command that writes to MLflow what the one that runs now could not."""
    return same_study("track")


def same_study(command: str, *flags: str) -> str:
    """Another command on the study of the one that runs now, where that has one, with the flags that it was given."""
    given = click.get_current_context()
    words = ["ablate", command, str(given.params["study"])]
    for name in ("scale", "results", "mlflow", "experiment"):
        if name in given.params and given.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            words += [f"--{name}", str(given.params[name])]
    return shlex.join(without_credentials(word, of=word) for word in [*words, *flags])
