"""Which images make up the batch of a step: a pure function of (seed, step), so nothing has to be saved."""

import numpy as np
import torch
from torch import Tensor

from ran.data.augment import crop_and_flip, draw_crops
from ran.rng import stream


class TrainBatches:
    """The augmented training batches of one run; `batches(step)` returns images and labels.

    The passes over the data are joined end to end, each in an order of its own, and batch `step` is the window
    [step*B, (step+1)*B) of that sequence: no image is left out where B does not divide their number.
    """

    def __init__(self, images: Tensor, labels: Tensor, mean: Tensor, *, batch_size: int, seed: int):
        """uint8 (N, 3, H, W), int64 (N,) and float32 (3, H, W), all on the device where the batches are wanted."""
        self.images, self.labels, self.mean = images, labels, mean
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

    def pick(self, values: Tensor, step: int) -> Tensor:
        """Returns what belongs to the step's images of `values`, (N, ...), one for each training image."""
        return values[torch.from_numpy(self.indices(step)).to(values.device)]

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Returns float32 (B, 3, H, W) and int64 (B,)."""
        device = self.images.device
        index = torch.from_numpy(self.indices(step)).to(device)
        crops = draw_crops(stream(self.seed, "augment", step), self.batch_size)
        rows, cols, flip = (torch.from_numpy(c).to(device) for c in crops)
        return crop_and_flip(self.images[index], self.mean, rows, cols, flip), self.labels[index]
