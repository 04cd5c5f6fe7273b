"""Image files as a stack of images, decoded on demand and ahead by threads or processes (pools.py)."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ran.data.image_folder import decode, pools
from ran.data.image_folder.random_crops import Draws

AHEAD = 2
"""number of batches that are read ahead"""
AT_ONCE = 4
"""number of images that a process is given at once"""

Read = Callable[[], np.ndarray]
"""reads one image"""


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

        def read(i: int) -> Read:
            box = functools.partial(draws.pick(slice(i, i + 1)).box, 0)  # alone, because a process may receive it
            return functools.partial(decode.crop, self._path(i), self.side, box, bool(draws.flips[i]))

        return Reading([read(i) for i in range(len(self))], self.side)

    def _centres(self) -> "Reading":
        paths = map(self._path, range(len(self)))
        return Reading([functools.partial(decode.centre, path, self.side, self.share) for path in paths], self.side)

    def _path(self, i: int) -> str:
        return os.path.join(self.folder, self.names[i])


Stack = Tensor | Files
"""uint8 images (N, 3, H, W), in memory or in files"""


def loaded(images: Stack) -> Tensor:
    """Returns images in memory."""
    return images.read() if isinstance(images, Files) else images


class Reading:
    """Images that are being read by threads, or by processes where CUDA trains."""

    def __init__(self, reads: Sequence[Read], side: int):
        """`reads`: one function per image; each returns uint8 (side, side, 3)."""
        processes = pools.process_pool()
        # A GPU copies from pinned memory while it computes.
        pinned = processes is not None and torch.cuda.is_available()
        self._images = torch.empty((len(reads), side, side, 3), dtype=torch.uint8, pin_memory=pinned)
        self._tasks: list[Future[Any]]
        if processes is None:
            self._tasks = [pools.pool().submit(self._fill, i, read) for i, read in enumerate(reads)]
        else:
            parts = [reads[i : i + AT_ONCE] for i in range(0, len(reads), AT_ONCE)]
            self._tasks = [processes.submit(_read_all, part) for part in parts]

    def _fill(self, i: int, read: Read) -> None:
        self._images.numpy()[i] = read()

    def wait(self) -> Tensor:
        """Returns all images as uint8 (count, 3, side, side), channels_last. Raises the first error of a read."""
        try:
            found = [task.result() for task in self._tasks]
        except BrokenProcessPool:
            pools.forget_processes()
            raise
        filled = 0
        for part in found:
            if part is not None:  # of a process; threads have filled their own
                self._images.numpy()[filled : filled + len(part)] = part
                filled += len(part)
        return self._images.permute(0, 3, 1, 2)

    def cancel(self) -> None:
        """Cancels what has not begun."""
        for task in self._tasks:
            task.cancel()


def _read_all(reads: Sequence[Read]) -> np.ndarray:
    return np.stack([read() for read in reads])


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
