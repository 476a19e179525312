"""Site: where a trial runs, which is never part of what it is: folders, device, threads, how often it is saved."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Site:
    """Travels to every worker with the trial; all paths are absolute."""

    results: Path
    data: Path | None = None  # holds the data sets' folders
    beside: Path | None = None  # the study file's folder: starting weights may lie there
    gpu: bool = False
    gpu_share: float = 1.0  # of the device's memory that this trial may take; less than 1: others are on it
    threads: int = 1
    workers: int = 0  # processes that load data
    checkpoint_minutes: float = 2.0
    hang_minutes: float = 0.0  # without a step, after which the process ends itself; 0: never
    evaluate_every: int = 0  # epochs between points of the metric's curve; 0: the end only
    predictions: Path | None = None  # where the last evaluation's predictions are written, too
    keep_weights: bool = False  # the trained backbone, beside the result
