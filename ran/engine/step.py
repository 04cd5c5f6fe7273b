"""One optimizer step, as a function of tensors on the device that fetches nothing: what a CUDA graph can replay."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ran.config import RunConfig
from ran.engine.device import Arithmetic
from ran.engine.scoring import LogWindow
from ran.engine.setup import TrainingData

EAGER_STEPS = 3
"""steps before a CUDA graph is captured: they create what outlives a step, such as the momentum and cuDNN's plans"""


@dataclass(frozen=True, eq=False)
class TrainStep:
    """Batch, forward, loss, backward, sums of the log window, update. The learning rate is the optimizer's tensor."""

    config: RunConfig
    data: TrainingData
    forward: Callable[[Tensor], Tensor]
    """images (B, 3, H, W) -> logits (B, K)"""
    optimizer: torch.optim.Optimizer
    window: LogWindow
    arithmetic: Arithmetic
    size: int
    """number of images in one forward pass"""
    assign: Callable[[Iterable[Any]], Iterable[Any]] = iter
    """a step's micro-batches -> those of this process"""

    def __call__(self, *inputs: Tensor) -> None:
        """Takes the step of what `TrainingData.fetch` returned."""
        batch = self.data.make(*inputs)
        t, smoothing = self.config.train, self.config.optim.label_smoothing
        for x, y, y_true in self.assign(zip(*(part.split(self.size) for part in batch), strict=True)):
            with self.arithmetic.on(x.device):
                logits = self.forward(x.contiguous(memory_format=self.arithmetic.memory_format)).float()
            loss = F.cross_entropy(logits, y, label_smoothing=smoothing) * (len(y) / t.batch_size)
            loss.backward()
            self.window.add(loss, logits, y, y_true)
        self.optimizer.step()
        self.optimizer.zero_grad()


class StaticStep:
    """Takes steps from buffers that stay in place, on CUDA as one graph (train.graph); elsewhere it calls the step.

    A graph has the kernels of the eager step in its order, and replaces thousands of launches by one. The first
    EAGER_STEPS steps after a start or resume are eager; nothing of a graph is saved.
    """

    def __init__(self, step: Callable[..., None], device: torch.device):
        self._step, self._device = step, device
        self._inputs: tuple[Tensor, ...] = ()
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, *inputs: Tensor) -> None:
        """Takes the step of what `TrainingData.fetch` returned. Raises RuntimeError if it cannot be captured."""
        if not self._inputs:
            self._inputs = tuple(torch.empty_like(value) for value in inputs)
        for buffer, value in zip(self._inputs, inputs, strict=True):
            buffer.copy_(value)
        if self._stream is None:
            self._step(*self._inputs)
        elif self._taken < EAGER_STEPS:
            self._on_a_side_stream(self._stream)
        else:
            if self._graph is None:
                self._graph = self._captured(self._stream)
            self._graph.replay()
        self._taken += 1

    def _on_a_side_stream(self, stream: torch.cuda.Stream) -> None:
        # The stream of the capture, so that gradients are accumulated on it from the first step on.
        computing = torch.cuda.current_stream(self._device)
        stream.wait_stream(computing)
        with torch.cuda.stream(stream):
            self._step(*self._inputs)
        computing.wait_stream(stream)

    def _captured(self, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, such as those that decode images, may call CUDA meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._step(*self._inputs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error.__context__ or error).splitlines()[0]  # ending the capture fails too
            raise RuntimeError(f"train.graph: the step cannot be captured ({reason}); --train.graph off") from error
        return graph
