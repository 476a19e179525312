"""Options that several commands share. Flags say where and how, never what."""

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
    "--scale", metavar="NAME", help="One of the study's scales; its default one otherwise.",
    shell_complete=completion.scales,
)  # fmt: skip
results = click.option(
    "--results", type=click.Path(file_okay=False), default="results", show_default=True, metavar="FOLDER|URL",
    envvar="ABLATE_RESULTS",
    help="The results: a folder, or an object store as s3://bucket/prefix, gs://..., az://... with credentials from "
    "the environment; what needs a disk (reports, MLflow's SQLite) then lies under results-of/s3/bucket/prefix.  "
    "[env: ABLATE_RESULTS]",
)  # fmt: skip
data = click.option(
    "--data", type=click.Path(path_type=Path, exists=True, file_okay=False), envvar="ABLATE_DATA",
    help="The folder that holds the data sets' folders.  [env: ABLATE_DATA]",
)  # fmt: skip
stored = click.option(
    "--results", type=click.Path(file_okay=False), metavar="FOLDER|URL", envvar="ABLATE_RESULTS",
    help="Keep it with the results there and show it in their MLflow; `ablate compare` and `show` find it by its id.  "
    "[env: ABLATE_RESULTS]",
)  # fmt: skip
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON (docs/json.md).")
as_csv = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
device = click.option(
    "--device", type=click.Choice(["cpu", "cuda"]),
    help="Take results of this kind of device; of the one with more results otherwise.",
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
    help="Load the parts of a module or file of yours, or those that a study names; repeatable. It is imported.",
)  # fmt: skip


def tracker(command: Command, *, otherwise: str = "the study's name") -> Command:
    """--mlflow and --experiment."""
    command = click.option("--experiment", metavar="NAME", help=f"MLflow experiment; {otherwise} otherwise.")(command)
    return click.option(
        "--mlflow", metavar="URI", envvar="MLFLOW_TRACKING_URI",
        help="MLflow tracking URI; a SQLite file beside the results otherwise.  [env: MLFLOW_TRACKING_URI]",
    )(command)  # fmt: skip


def tracker_of_evaluations(command: Command) -> Command:
    """The same, for evaluations."""
    return tracker(command, otherwise="evaluations")


def question(command: Command) -> Command:
    """--task, --data, --set, --score, --device, --batch and --workers: what files are scored by, and with what."""
    for option in (
        click.option("--workers", type=click.IntRange(0), default=0, help="Processes that prepare pictures."),
        click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Samples at once."),
        click.option("--device", type=click.Choice(["cpu", "cuda"]), help="A GPU where there is one, otherwise."),
        click.option(
            "--set", "chosen", multiple=True, metavar="KEY=VALUE",
            help="A knob of task., dataset., evaluation. (the protocol) or network. (how a file is read); repeatable. "
            "`ablate list knobs pose` and `ablate list knobs network` name them.",
        ),
        click.option(
            "--score", "scores", multiple=True, metavar="NAME",
            help="Also compute a score that takes long: Dice, HD95; repeatable.",
        ),
        data,
        click.option(
            "--task", metavar="NAME", shell_complete=completion.tasks,
            help="What is predicted: `ablate list tasks`. A checkpoint tells by its head.",
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
