"""How fast this machine trains a network and reads its images, measured on a few."""

import time

import numpy as np
import torch
from torch.nn import functional as F

from ran.config import RunConfig
from ran.data.source import Source
from ran.engine.device import Arithmetic
from ran.models.network import build
from ran.models.zoo import config_spec

READ = 64  # image files
CPU_PIXELS = 2**18  # of a batch: 256 images of 32x32, 5 of 224x224


def seconds_per_image(
    config: RunConfig, *, num_classes: int, image_size: int, device: torch.device, steps: int = 3
) -> float:
    """Returns the seconds that an image takes in the fastest of a few training steps, after one to warm up.

    The fastest, since whatever else the machine does only adds to it. The network is not compiled, and its weights are
    not updated: that takes a hundredth of a step, and a second to import.
    """
    arithmetic = Arithmetic.of(config.train)
    layout = arithmetic.memory_format
    batch = config.train.micro_batch or config.train.batch_size
    if device.type == "cpu":  # large images fill a core one by one, and many would take seconds and gigabytes
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
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.monotonic() - tick)
    return min(times[1:]) / batch


def seconds_to_read(source: Source) -> float:
    """Returns the seconds that decoding an image of a data set takes, by all the threads that do; 0 for one in memory.

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
