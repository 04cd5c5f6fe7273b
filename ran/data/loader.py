"""Which images make up the batch of a step: a pure function of (seed, step), so nothing has to be saved."""

import numpy as np
import torch
from torch import Tensor

from ran.data.augment import Pixels
from ran.rng import stream


class TrainBatches:
    """The augmented training batches of one run; `batches(step)` returns images and labels.

    The passes over the data are joined end to end, each in an order of its own, and batch `step` is the window
    [step*B, (step+1)*B) of that sequence: no image is left out where B does not divide their number.
    """

    def __init__(self, images: Tensor, labels: Tensor, pixels: Pixels, *, batch_size: int, seed: int):
        """uint8 (N, 3, H, W), int64 (N, ...) and `pixels`, all on the device where the batches are wanted."""
        self.images, self.labels, self.pixels = images, labels, pixels
        self.batch_size, self.seed = batch_size, seed
        self._orders: dict[int, np.ndarray] = {}

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A batch reaches back one epoch at most, unless it is larger than the data set.
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = stream(self.seed, "order", epoch).permutation(len(self.images))
        return self._orders[epoch]

    def indices(self, step: int) -> np.ndarray:
        """Returns the positions of the step's images in the training set, (B,)."""
        position = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, within = np.divmod(position, len(self.images))
        return np.concatenate([self._order(int(e))[within[epochs == e]] for e in np.unique(epochs)])

    def __call__(self, step: int, positions: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Returns float32 (B, 3, H, W), of the crop's size, and int64 (B, ...).

        With `positions` only those of the batch, as they are in the whole.
        """
        device = self.images.device
        indices = self.indices(step)
        drawn = self.pixels.draw(stream(self.seed, "augment", step), self.batch_size)
        chosen = slice(None) if positions is None else positions
        index, rows, cols, flip = (torch.from_numpy(d[chosen]).to(device) for d in (indices, *drawn))
        return self.pixels.augment(self.images[index], rows, cols, flip), self.labels[index]


PIXELS = 2**21  # 41 images of 224x224: a map of an ImageNet network's first stage then takes 130 MB


def chunks(images: Tensor, most: int) -> tuple[Tensor, ...]:
    """Returns images (N, 3, H, W) in parts of `most`, of fewer where they are so large that memory could be short."""
    return images.split(max(1, min(most, PIXELS // (images.shape[2] * images.shape[3]))))
