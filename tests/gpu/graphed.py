"""A whole training step as one CUDA graph: forward pass, loss, backward pass and update are launched at once.

It stands beside the training loop, not in it, for it has run on no device yet: `price.py` measures what it gives, and
`test_graphs.py` compares its losses with those of the loop's own steps, which are its fallback.
"""

import torch
from torch import Tensor

from ablate.tasks import Batch, GivesHead, SomeTask
from ablate.training.fit import Training

WARM = 3  # steps on a stream of their own first: kernels are chosen, constants and moments made


class Graphed:
    """Steps of a training, replayed where a batch has the first one's shapes; all others are the training's own."""

    def __init__(self, training: Training, task: SomeTask) -> None:
        self._training, self._task = training, task
        # What is read, counted or chosen by the processor within a step cannot be replayed.
        self._fits = not (isinstance(task, GivesHead) or getattr(task, "ohem", False) or training.average)
        self._fits = self._fits and training.team.size == 1 and training.device.type == "cuda"
        self._shapes: dict[str, tuple[torch.Size, torch.dtype]] = {}
        self._warmed, self._graph = 0, torch.cuda.CUDAGraph() if self._fits else None
        self._static: Batch = {}
        for group in training.optimizer.param_groups if self._fits else ():
            if "capturable" in group:  # SGD keeps nothing that it counts by
                group["capturable"] = True

    def step(self, batch: Batch, lr: float) -> Tensor:
        """One step, as `Training.step`."""
        shapes = {name: (value.shape, value.dtype) for name, value in batch.items()}
        self._shapes = self._shapes or shapes
        if not self._graph or shapes != self._shapes:
            return self._training.step(self._task, batch, lr)
        if self._warmed < WARM:
            return self._beside(batch, lr)
        if not self._static:
            self._capture(batch)
        for name, value in batch.items():
            self._static[name].copy_(value)
        self._lr.fill_(lr)
        self._graph.replay()
        return self._loss.clone()  # the next replay writes there

    def _beside(self, batch: Batch, lr: float) -> Tensor:
        """A step of the training's own on another stream, as a capture asks for."""
        self._warmed += 1
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            loss = self._training.step(self._task, batch, lr)
        current.wait_stream(stream)
        return loss

    def _capture(self, batch: Batch) -> None:
        """Nothing is computed by it. The rate is a tensor, so that groups multiply it anew in each replay."""
        self._static = {name: value.clone() for name, value in batch.items()}
        self._lr = torch.zeros((), device=self._training.device)
        assert self._graph
        with torch.cuda.graph(self._graph):
            self._loss = self._training.step(self._task, self._static, self._lr)  # type: ignore[arg-type]
