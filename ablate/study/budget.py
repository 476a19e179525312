"""Budget: where and how a study's trials run, which is never part of what they are."""

from pydantic import BaseModel, Field

from ablate.study.recipe import STRICT


class Budget(BaseModel):
    """Where and how trials run. Never part of a trial's identity."""

    model_config = STRICT
    cpus: float = Field(default=1, gt=0)  # CPUs of each process, and its number of threads
    gpus: float = Field(default=0, ge=0)  # GPUs of a trial: a fraction of one, or several, each with a process
    processes: int | None = Field(default=None, ge=1)  # processes that train one trial together (default: one per GPU)
    across_nodes: bool = False  # spread a trial's processes over nodes (default: as few nodes as possible)
    parallel: int | None = Field(default=None, ge=1)  # most trials at once (default: as many as fit)
    workers: int = Field(default=0, ge=0)  # data-loading processes per training process
    share: bool = False  # as many trials share a GPU as their predicted memory allows; gpus is then 1
    labels: dict[str, str] = {}  # labels that a node must have, set by `ray start --labels`: {gpu-type: a100}
    retries: int = Field(default=2, ge=0)  # retries after a trial's process died; lost nodes do not count
    hang_minutes: float = Field(default=30, ge=0)  # minutes without a training step until a process is killed; 0: never
    checkpoint_minutes: float = Field(default=2, ge=0)  # minutes between saved states; they are saved after an epoch
    evaluate_every: int = Field(default=0, ge=0)  # epochs between evaluations during training; 0: only at the end
    keep_weights: bool = False  # keep each trial's trained network, for `ablate export`
    keep_predictions: bool = False  # keep each trial's predictions on the test images, for pictures in the report

    @property
    def threads(self) -> int:
        """Of each process."""
        return max(1, int(self.cpus))

    @property
    def team(self) -> int:
        """How many processes train one trial."""
        return self.processes or max(1, int(self.gpus))

    @property
    def devices(self) -> float:
        """GPUs that one trial takes; CPUs, where it takes no GPU."""
        return self.gpus or self.cpus * self.team
