"""Options that several commands share. No flag changes what a trial computes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ablate.cli import completion

if TYPE_CHECKING:
    from ablate.evaluation.evaluate import Question

Command = TypeVar("Command", bound=Callable[..., Any])

study_file = click.argument("study", type=click.Path(path_type=Path), shell_complete=completion.studies)
trial_id = click.argument("id", shell_complete=completion.ended)
scale = click.option(
    "--scale", metavar="NAME", help="Which of the study's scales (default: its default_scale).",
    shell_complete=completion.scales,
)  # fmt: skip
results = click.option(
    "--results", type=click.Path(file_okay=False), default="results", show_default=True, metavar="FOLDER|URL",
    envvar="ABLATE_RESULTS",
    help="Where results are kept: a folder, or an object store (s3://bucket/prefix, gs://..., az://...).  "
    "[env: ABLATE_RESULTS]",
)  # fmt: skip
data = click.option(
    "--data", type=click.Path(path_type=Path, exists=True, file_okay=False), envvar="ABLATE_DATA", metavar="FOLDER",
    help="The folder that holds the data sets, one folder each, or the folder of the one set that is asked for. There "
    "is no default.  [env: ABLATE_DATA]",
)  # fmt: skip
stored = click.option(
    "--results", type=click.Path(file_okay=False), metavar="FOLDER|URL", envvar="ABLATE_RESULTS",
    help="Store the evaluation there, and in MLflow; `ablate compare` and `ablate show` find it by its id.  "
    "[env: ABLATE_RESULTS]",
)  # fmt: skip
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/json.md).")
as_csv = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
device = click.option(
    "--device", type=click.Choice(["cpu", "cuda"]),
    help="Use results of this kind of device only (default: the kind with more results).",
)  # fmt: skip
MOST = 10_000_000  # seconds, minutes or hours: what clocks and simulations take


def names_study(word: str) -> bool:
    """Whether a word that may be something else too is a study's file or a shipped study's name."""
    from ablate.study import shipped

    return Path(word).suffix in (".yaml", ".yml") or Path(word).exists() or word in shipped()


def bounded(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """For options that are times: neither nan nor endless."""
    if value is not None and not value <= MOST:
        raise click.BadParameter(f"{value} is not a number up to {MOST:,}")
    return value


def _load(context: click.Context, parameter: click.Parameter, named: tuple[str, ...]) -> None:
    """Put the plugins on the shelves before the command begins; of a study, those that it names."""
    from ablate import registry
    from ablate.study import load

    for name in named:
        if Path(name).suffix in (".yaml", ".yml"):
            load(name)
        else:
            registry.load_plugins((name,))


plugin = click.option(
    "--plugin", multiple=True, metavar="MODULE|FILE.py|STUDY.yaml", callback=_load, expose_value=False,
    help="Import a plug-in: a module, a file, or all that a study names; repeatable.",
)  # fmt: skip


def tracker(command: Command, *, otherwise: str = "the study's name") -> Command:
    """--mlflow and --experiment."""
    command = click.option("--experiment", metavar="NAME", help=f"MLflow experiment (default: {otherwise}).")(command)
    return click.option(
        "--mlflow", metavar="URI", envvar="MLFLOW_TRACKING_URI",
        help="MLflow tracking URI (default: a SQLite file in the results folder).  [env: MLFLOW_TRACKING_URI]",
    )(command)  # fmt: skip


def tracker_of_evaluations(command: Command) -> Command:
    """The same, for evaluations."""
    return tracker(command, otherwise="evaluations")


def question(command: Command) -> Command:
    """--task, --data, --set, --score, --device, --batch and --workers: what files are scored by, and with what."""
    for option in (
        click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Loading processes."),
        click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Images or crops at once."),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device (default: cuda if available)."),
        click.option(
            "--set", "chosen", multiple=True, metavar="KEY=VALUE",
            help="Set task.KEY, dataset.KEY, evaluation.KEY (the protocol) or network.KEY (how a file is read); "
            "repeatable. `ablate list knobs pose` and `ablate list knobs network` list them.",
        ),
        click.option(
            "--score", "scores", multiple=True, metavar="NAME",
            help="Also compute a slow score: Dice, HD95; repeatable.",
        ),
        data,
        click.option(
            "--task", metavar="NAME", shell_complete=completion.tasks,
            help="The task, see `ablate list tasks` (default: told by the checkpoint's head).",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def asked(
    task: str | None,
    data: Path | None,
    scores: tuple[str, ...],
    chosen: tuple[str, ...],
    device: str | None,
    batch: int,
    workers: int,
) -> "Question":
    """The question that these options ask.

    Raises:
        StudyError, DataError: a setting that is none, or a GPU that is not there.
    """
    import torch

    from ablate.errors import DataError
    from ablate.evaluation.asked import settings
    from ablate.evaluation.evaluate import Question

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise DataError("--device cuda: this process sees no CUDA device")
    where = torch.device(device or ("cuda" if there else "cpu"))
    return Question(task, data, settings(chosen), where, batch=batch, workers=workers, scores=scores)


def is_study(word: Path) -> bool:
    """Whether a word that may be a checkpoint is a study's file or a shipped study's name."""
    from ablate.study import shipped

    return word.suffix in (".yaml", ".yml") or (str(word) in shipped() and not word.exists())
