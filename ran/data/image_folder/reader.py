"""Images that lie in files and are decoded when they are wanted, by threads, ahead of who wants them."""

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
"""batches under way while one is worked on"""


@dataclass(frozen=True, eq=False)
class Files:
    """A stack of images (N, 3, side, side), uint8: each the central square of a file's image.

    A part of it is taken, and it is split, as a tensor is; `crops` has what training takes of the same files instead.
    """

    folder: Path
    names: tuple[str, ...]
    """below `folder`"""
    side: int
    """of a square in pixels"""
    share: float
    """of an image's shorter side that the central square keeps"""

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
        """Returns itself: decoded images come to a device as they are used."""
        return self

    def read(self) -> Tensor:
        """Returns all of them as uint8 (N, 3, side, side). Raises DataError for a damaged file, which it names."""
        return self._centres().wait()

    def split(self, size: int) -> Iterator[Tensor]:
        """Yields them in parts of `size`, decoded ahead. Raises as `read` does."""
        return ahead(self[i : i + size]._centres() for i in range(0, len(self), size))

    def crops(self, draws: Draws) -> "Reading":
        """Returns the drawn crops, one of each file, flipped where drawn, as they begin to be read."""

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
    """Images that threads are reading."""

    def __init__(self, count: int, side: int, read: Callable[[int], np.ndarray]):
        """`read` returns image i, uint8 (side, side, 3)."""
        self._images = np.empty((count, side, side, 3), np.uint8)

        def fill(i: int) -> None:
            self._images[i] = read(i)

        self._tasks = [pool().submit(fill, i) for i in range(count)]

    def wait(self) -> Tensor:
        """Returns all of them as uint8 (count, 3, side, side), channels innermost in memory. Raises what `read` did."""
        for task in self._tasks:
            task.result()
        return torch.from_numpy(self._images).permute(0, 3, 1, 2)

    def cancel(self) -> None:
        """Lets be what has not begun."""
        for task in self._tasks:
            task.cancel()


def ahead(readings: Iterable[Reading]) -> Iterator[Tensor]:
    """Yields what each reading reads, the AHEAD next of them begun; a generator that is dropped cancels them."""
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
    """Sets how many threads decode in this process; None = its share of the cores that it may use."""
    global _workers
    _workers = count


def pool() -> ThreadPoolExecutor:
    """Returns the threads that decode."""
    return _pool(_cores() if _workers is None else _workers)


@functools.lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "images")


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes on this machine
    return max(1, allowed // beside)
