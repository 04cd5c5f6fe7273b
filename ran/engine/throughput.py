"""Speeds: of a training run while it trains; of training and of reading images here, measured on a few images."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from ran.config import RunConfig
from ran.data.source import Source
from ran.engine.device import Arithmetic, synchronize
from ran.kernels.build import is_built
from ran.models.network import build
from ran.models.zoo import config_spec

READ = 64  # image files that are read
CPU_PIXELS = 2**18  # per batch: 256 images of 32x32, 5 of 224x224


class Stopwatch:
    """Seconds that the steps of a run take, without logging, evaluation and checkpoints between them."""

    def __init__(self, device: torch.device):
        """Starts."""
        self.device, self.seconds = device, 0.0
        self._since = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops in the block, once the device has done what it was given: steps are only launched on a GPU."""
        synchronize(self.device)
        self.seconds += time.monotonic() - self._since
        try:
            yield
        finally:
            self._since = time.monotonic()


def seconds_per_image(
    config: RunConfig, *, num_classes: int, image_size: int, device: torch.device, steps: int = 3
) -> float:
    """Returns the seconds per image of the fastest of a few training steps, after one warm-up step.

    The fastest, because other load on the machine can only slow a step down. The network is not compiled and its
    weights are not updated, which would take a hundredth of a step, and a second to import. Our kernels are used only
    if they are built already. A GPU's memory is given back.
    """
    try:
        return _seconds_per_image(config, num_classes, image_size, device, steps)
    finally:
        if device.type != "cpu":  # the runs may be in other processes
            torch.accelerator.empty_cache()


def _seconds_per_image(config: RunConfig, num_classes: int, image_size: int, device: torch.device, steps: int) -> float:
    kernels = config.train.kernels
    if kernels == "auto" and not is_built():
        kernels = "eager"
    arithmetic = Arithmetic.of(replace(config.train, kernels=kernels), device)
    layout = arithmetic.memory_format
    batch = config.train.micro_batch or config.train.batch_size
    if device.type == "cpu":  # one large image keeps a core busy; many would take seconds and gigabytes
        batch = max(2, min(batch, CPU_PIXELS // image_size**2))
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    network = build(config_spec(config.model), num_classes=num_classes).to(device).to(memory_format=layout)
    images = torch.zeros(batch, 3, image_size, image_size, device=device).contiguous(memory_format=layout)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    times = []
    for _ in range(1 + steps):
        tick = time.monotonic()
        with arithmetic.on(device):
            logits = network(images).float()
        F.cross_entropy(logits, labels).backward()
        network.zero_grad()
        synchronize(device)
        times.append(time.monotonic() - tick)
    return min(times[1:]) / batch


def seconds_to_read(source: Source) -> float:
    """Returns the seconds to decode one image of a data set with all decoding threads; 0 for a data set in memory.

    Raises DataError for a damaged file.
    """
    if source.folder is None:
        return 0.0
    stack = source.load()[0].images
    chosen = stack[np.linspace(0, len(stack) - 1, min(READ, len(stack))).astype(int)]
    tick = time.monotonic()
    for _ in chosen.split(READ // 4):
        pass
    return (time.monotonic() - tick) / len(chosen)
