"""Image files as a stack of images, decoded on demand by threads that read ahead."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ran.data.image_folder import decode
from ran.data.image_folder.random_crops import Draws

AHEAD = 2
"""number of batches that are read ahead"""


@dataclass(frozen=True, eq=False)
class Files:
    """A stack of uint8 images (N, 3, side, side): the central square of each file's image.

    Indexing and `split` work as for a tensor; `crops` returns random crops of the same files for training.
    """

    folder: Path
    names: tuple[str, ...]
    """paths relative to `folder`"""
    side: int
    """side of a square in pixels"""
    share: float
    """share of an image's shorter side that the central square keeps"""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: slice | Sequence[int] | np.ndarray | Tensor) -> "Files":
        if isinstance(chosen, slice):
            return replace(self, names=self.names[chosen])
        return replace(self, names=tuple(self.names[int(i)] for i in chosen))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.side, self.side

    def to(self, device: torch.device) -> "Files":
        """Returns itself: decoded images are moved to a device when they are used."""
        return self

    def read(self) -> Tensor:
        """Returns all images as uint8 (N, 3, side, side). Raises DataError, naming a damaged file."""
        return self._centres().wait()

    def split(self, size: int) -> Iterator[Tensor]:
        """Yields the images in parts of `size`, decoded ahead. Raises as `read` does."""
        return ahead(self[i : i + size]._centres() for i in range(0, len(self), size))

    def crops(self, draws: Draws) -> "Reading":
        """Begins to read one random crop per file, flipped if drawn."""

        def read(i: int) -> np.ndarray:
            return decode.crop(self._path(i), self.side, functools.partial(draws.box, i), bool(draws.flips[i]))

        return Reading(len(self), self.side, read)

    def _centres(self) -> "Reading":
        return Reading(len(self), self.side, lambda i: decode.centre(self._path(i), self.side, self.share))

    def _path(self, i: int) -> str:
        return os.path.join(self.folder, self.names[i])


Stack = Tensor | Files
"""uint8 images (N, 3, H, W), in memory or in files"""


def loaded(images: Stack) -> Tensor:
    """Returns images in memory."""
    return images.read() if isinstance(images, Files) else images


class Reading:
    """Images that are being read by threads."""

    def __init__(self, count: int, side: int, read: Callable[[int], np.ndarray]):
        """`read` returns image i, uint8 (side, side, 3)."""
        self._images = np.empty((count, side, side, 3), np.uint8)

        def fill(i: int) -> None:
            self._images[i] = read(i)

        self._tasks = [pool().submit(fill, i) for i in range(count)]

    def wait(self) -> Tensor:
        """Returns all images as uint8 (count, 3, side, side), channels_last. Raises the first error of `read`."""
        for task in self._tasks:
            task.result()
        return torch.from_numpy(self._images).permute(0, 3, 1, 2)

    def cancel(self) -> None:
        """Cancels what has not begun."""
        for task in self._tasks:
            task.cancel()


def ahead(readings: Iterable[Reading]) -> Iterator[Tensor]:
    """Yields the result of each reading, with the next AHEAD begun; closing the generator cancels them."""
    begun: deque[Reading] = deque()
    try:
        for reading in readings:
            begun.append(reading)
            if len(begun) > AHEAD:
                yield begun.popleft().wait()
        while begun:
            yield begun.popleft().wait()
    finally:
        for reading in begun:
            reading.cancel()


_workers: int | None = None


def set_workers(count: int | None) -> None:
    """Sets the number of decoding threads in this process; None = its share of the available cores."""
    global _workers
    _workers = count


def pool() -> ThreadPoolExecutor:
    """Returns the pool of decoding threads."""
    return _pool(_cores() if _workers is None else _workers)


@functools.lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "images")


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes on this machine
    return max(1, allowed // beside)
