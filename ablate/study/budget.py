"""Budget: where and how a study's trials run, which is never part of what they are."""

from pydantic import BaseModel, Field

from ablate.study.recipe import STRICT


class Budget(BaseModel):
    """Where and how trials run. Never part of a trial's identity."""

    model_config = STRICT
    cpus: float = Field(default=1, gt=0)  # per process; also its number of threads
    gpus: float = Field(default=0, ge=0)  # per trial: a fraction of one, or whole ones with a process each
    processes: int | None = Field(default=None, ge=1)  # that train one trial together; as many as GPUs when not given
    across_nodes: bool = False  # spread a trial's processes over nodes; else on as few as possible
    parallel: int | None = Field(default=None, ge=1)  # trials at once; as many as fit when not given
    workers: int = Field(default=0, ge=0)  # processes that load data, per training process
    share: bool = False  # give each trial such a fraction of a GPU as its predicted memory lets; gpus is 1 then
    labels: dict[str, str] = {}  # that a node must have, such as gpu-type: a100, given by `ray start --labels`
    retries: int = Field(default=2, ge=0)  # of a trial whose process died; nodes that went away do not count
    hang_minutes: float = Field(default=30, ge=0)  # without a training step, after which a process is ended; 0: never
    checkpoint_minutes: float = Field(default=2, ge=0)  # between saved states, at the end of an epoch
    evaluate_every: int = Field(default=0, ge=0)  # epochs between points of the metric's curve; 0: the end only
    keep_weights: bool = False  # keep every trial's trained network, for `ablate export`
    keep_predictions: bool = False  # keep what every trial predicts of the test images, for pictures in the report

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
