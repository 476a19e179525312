"""Site: where a trial runs, which is never part of what it is: folders, device, threads, how often it is saved."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDERS = ("data", "beside", "predictions")


@dataclass(frozen=True)
class Site:
    """Travels to every worker with the trial; all paths are absolute."""

    results: str  # a folder's absolute path, or a URL
    data: Path | None = None  # holds the data sets' folders
    beside: Path | None = None  # the study file's folder: starting weights may lie there
    gpu: bool = False
    gpu_share: float = 1.0  # of the device's memory that this trial may take; less than 1: others are on it
    threads: int = 1  # of each process
    processes: int = 1  # that train the trial together
    workers: int = 0  # processes that load data, for each of them
    checkpoint_minutes: float = 2.0
    hang_minutes: float = 0.0  # without a step, after which the process ends itself; 0: never
    evaluate_every: int = 0  # epochs between points of the metric's curve; 0: the end only
    predictions: Path | None = None  # where the last evaluation's predictions are written, too
    keep_weights: bool = False  # the trained backbone, beside the result
    owner: str = ""  # of leases: the driver, which may take its own dead worker's at once


def packed(site: Site) -> str:
    """A site as text, for the way to other processes."""
    return json.dumps(asdict(site), default=str)


def unpacked(text: str) -> Site:
    """The site again."""
    site = json.loads(text)
    return Site(**{**site, **{name: Path(site[name]) if site[name] else None for name in FOLDERS}})
