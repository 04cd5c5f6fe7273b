"""The batch of each step: a pure function of (seed, step), so no state has to be saved."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ran.data.augment import Normalization
from ran.data.image_folder import random_crops
from ran.data.image_folder.reader import Files, Reading, Stack, ahead
from ran.rng import stream


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

    def __init__(self, images: Tensor, labels: Tensor, normalization: Normalization, *, batch_size: int, seed: int):
        """uint8 (N, 3, H, W), int64 (N, ...) and `normalization`, all on the device of the batches."""
        self.images, self.labels, self.normalization = images, labels, normalization
        self.indices = Order(len(images), batch_size, seed)

    def __call__(self, step: int, positions: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Returns float32 (B, 3, H, W) and int64 (B, ...).

        With `positions`, only these images of the batch, unchanged.
        """
        device = self.images.device
        order = self.indices
        drawn = self.normalization.draw(stream(order.seed, "augment", step), order.batch_size)
        chosen = slice(None) if positions is None else positions
        index, rows, cols, flip = (torch.from_numpy(d[chosen]).to(device) for d in (order(step), *drawn))
        return self.normalization.augment(self.images[index], rows, cols, flip), self.labels[index]


class FileBatches:
    """Augmented training batches of image files: random crops, flips, PCA colour jitter; reads ahead."""

    def __init__(self, files: Files, labels: Tensor, normalization: Normalization, *, batch_size: int, seed: int):
        """`labels`, int64 (N, ...), and `normalization` lie on the device of the batches."""
        self.files, self.labels, self.normalization = files, labels, normalization
        self.indices = Order(len(files), batch_size, seed)
        self._next: tuple[int, np.ndarray | None] | None = None
        self._coming: Iterator[Tensor] = iter(())

    def __call__(self, step: int, positions: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Returns float32 (B, 3, side, side) and int64 (B, ...); raises DataError, naming a damaged file.

        With `positions`, only these images of the batch, unchanged.
        """
        if self._next is None or self._next[0] != step or self._next[1] is not positions:
            self._coming = ahead(_readings(self.files, self.indices, step, positions))
        self._next = (step + 1, positions)
        index, draws = _drawn(self.indices, step, positions)
        images = next(self._coming)
        labels = self.labels[torch.from_numpy(index).to(self.labels.device)]
        return random_crops.pca_colour_jitter(images, draws.colour_factors, self.normalization), labels


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
