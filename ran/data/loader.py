"""The batch of each step: a pure function of (seed, step), so no state has to be saved."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ran.data.augment import Normalization
from ran.data.image_folder import random_crops
from ran.data.image_folder.reader import Files, Reading, Stack, ahead
from ran.data.upload import Uploader
from ran.rng import stream

STEPS_AT_ONCE = 128
"""number of steps whose indices and augmentation are sent to a device at once: half a megabyte with batches of 128"""


class Order:
    """The positions in the training set of each step's images.

    The passes over the data, each in its own order, are concatenated; batch `step` is the window [step*B, (step+1)*B)
    of that sequence, so no image is left out if B does not divide their number.
    """

    def __init__(self, count: int, batch_size: int, seed: int):
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._orders: dict[int, np.ndarray] = {}

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A batch spans at most two epochs, unless it is larger than the data set.
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = stream(self.seed, "order", epoch).permutation(self.count)
        return self._orders[epoch]

    def __call__(self, step: int) -> np.ndarray:
        """Returns int64 (B,)."""
        position = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, within = np.divmod(position, self.count)
        return np.concatenate([self._order(int(e))[within[epochs == e]] for e in np.unique(epochs)])


class TrainBatches:
    """Augmented training batches of images in memory; `batches(step)` returns images and labels."""

    def __init__(
        self, images: Tensor, labels: Tensor, normalization: Normalization, *, batch_size: int, seed: int,
        at_once: int | None = None,
    ):  # fmt: skip
        """uint8 (N, 3, H, W), int64 (N, ...) and `normalization`, all on the device of the batches.

        `at_once`: number of steps that are drawn and sent together; None = STEPS_AT_ONCE, on a CPU 1.
        """
        self.images, self.labels, self.normalization = images, labels, normalization
        self.indices = Order(len(images), batch_size, seed)
        self._at_once = at_once or (1 if images.device.type == "cpu" else STEPS_AT_ONCE)
        self._upload = Uploader(images.device)
        self._sent: tuple[range, np.ndarray | None, Tensor] = (range(0), None, torch.empty(0))

    def __call__(self, step: int, positions: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Returns float32 (B, 3, H, W) and int64 (B, ...).

        With `positions`, only these images of the batch, unchanged.
        """
        return self.make(*self.fetch(step, positions))

    def fetch(self, step: int, positions: np.ndarray | None = None) -> tuple[Tensor, ...]:
        """Returns the draws of a step, int64 (4, B), on the device: index, row, column and flip of each image."""
        steps, same, draws = self._sent
        if step not in steps or same is not positions:
            steps = range(step, step + self._at_once)
            (draws,) = self._upload(torch.from_numpy(np.stack([self._drawn(later, positions) for later in steps])))
            self._sent = (steps, positions, draws)
        return (draws[step - steps.start],)

    def make(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the batch of a step's draws; computed on the device alone."""
        index, rows, cols, flip = draws
        return self.normalization.augment(self.images[index], rows, cols, flip.bool()), self.labels[index]

    def _drawn(self, step: int, positions: np.ndarray | None) -> np.ndarray:
        order = self.indices
        drawn = self.normalization.draw(stream(order.seed, "augment", step), order.batch_size)
        return np.stack([order(step), *drawn])[:, slice(None) if positions is None else positions]


class FileBatches:
    """Augmented training batches of image files: random crops, flips, PCA colour jitter; reads ahead."""

    def __init__(self, files: Files, labels: Tensor, normalization: Normalization, *, batch_size: int, seed: int):
        """`labels`, int64 (N, ...), and `normalization` lie on the device of the batches."""
        self.files, self.labels, self.normalization = files, labels, normalization
        self.indices = Order(len(files), batch_size, seed)
        self._upload = Uploader(labels.device)
        self._next: tuple[int, np.ndarray | None] | None = None
        self._coming: Iterator[Tensor] = iter(())

    def __call__(self, step: int, positions: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Returns float32 (B, 3, side, side) and int64 (B, ...); raises DataError, naming a damaged file.

        With `positions`, only these images of the batch, unchanged.
        """
        return self.make(*self.fetch(step, positions))

    def fetch(self, step: int, positions: np.ndarray | None = None) -> tuple[Tensor, ...]:
        """Returns what was read and drawn for a step, on the device: images, shifts of their colours, indices.

        uint8 (B, 3, side, side), float32 (B, 3), int64 (B,). Raises as a call does.
        """
        if self._next is None or self._next[0] != step or self._next[1] is not positions:
            self._coming = ahead(_readings(self.files, self.indices, step, positions))
        self._next = (step + 1, positions)
        index, draws = _drawn(self.indices, step, positions)
        shift = random_crops.colour_shift(draws.colour_factors)
        return self._upload(next(self._coming), shift, torch.from_numpy(index))

    def make(self, images: Tensor, shift: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the batch of what `fetch` returned; computed on the device alone."""
        return random_crops.shift_colours(images, shift, self.normalization), self.labels[index]


def _readings(files: Files, order: Order, step: int, positions: np.ndarray | None) -> Iterable[Reading]:
    for later in itertools.count(step):
        index, draws = _drawn(order, later, positions)
        yield files[index].crops(draws)


def _drawn(order: Order, step: int, positions: np.ndarray | None) -> tuple[np.ndarray, random_crops.Draws]:
    draws = random_crops.draw(stream(order.seed, "augment", step), order.batch_size)
    chosen = slice(None) if positions is None else positions
    return order(step)[chosen], draws.pick(chosen)


def train_batches(
    images: Stack, labels: Tensor, normalization: Normalization, *, batch_size: int, seed: int
) -> TrainBatches | FileBatches:
    """Returns the training batches of labelled images in memory or in files."""
    if isinstance(images, Files):
        return FileBatches(images, labels, normalization, batch_size=batch_size, seed=seed)
    return TrainBatches(images, labels, normalization, batch_size=batch_size, seed=seed)


PIXELS = 2**21  # 41 images of 224x224: a map of an ImageNet network's first stage then takes 130 MB


def chunk_size(images: Stack, most: int) -> int:
    """Returns the batch size for images (N, 3, H, W) in evaluation: `most`, less for large images."""
    return max(1, min(most, PIXELS // (images.shape[2] * images.shape[3])))


def chunks(images: Stack, most: int) -> Iterable[Tensor]:
    """Returns images (N, 3, H, W) in parts of `chunk_size`."""
    return images.split(chunk_size(images, most))
