"""Normalisation and augmentation of whole batches, on the images' device.

Input is uint8 NCHW, output float32, in channels_last layout if the images were gathered.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Normalization:
    """Preprocessing of images: (image - mean) / scale, in training with a random crop and flip."""

    mean: Tensor
    """float32 (3, H, W), or (3, 1, 1) if it is the same for all pixels; in 0..255"""
    scale: Tensor | float
    """(3, 1, 1), or one number for all channels"""
    pad: int
    """number of zeros added on each side of a training image after the mean is subtracted"""

    def to(self, device: torch.device) -> "Normalization":
        """Returns a copy on a device."""
        scale = self.scale.to(device) if isinstance(self.scale, Tensor) else self.scale
        return replace(self, mean=self.mean.to(device), scale=scale)

    def normalize(self, images: Tensor) -> Tensor:
        """Returns uint8 (B, 3, H, W), from any device, as float32 of the same size on the mean's device."""
        return (images.to(self.mean.device, non_blocking=True).float() - self.mean) / self.scale

    def draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns row and column offsets in 0..2*pad and whether to flip, each of shape (n,)."""
        offsets = rng.integers(0, 2 * self.pad + 1, size=(2, n))
        return offsets[0], offsets[1], rng.integers(0, 2, size=n).astype(bool)

    def augment(self, images: Tensor, rows: Tensor, cols: Tensor, flip: Tensor) -> Tensor:
        """Returns normalised images, zero-padded by `pad`, cropped at (rows, cols) and flipped according to `flip`.

        uint8 (B, 3, H, W), int64 (B,), int64 (B,), bool (B,) -> float32 (B, 3, H, W).
        """
        how = self._copied if images.device.type == "cpu" else self._gathered
        return how(images, rows, cols, flip)

    def _gathered(self, images: Tensor, rows: Tensor, cols: Tensor, flip: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        # The mean is padded with zeros as the images are, so that the border is zero after subtraction.
        border = (self.pad,) * 4
        padded = F.pad(images, border).permute(0, 2, 3, 1)  # (B, H + 2 pad, W + 2 pad, 3)
        padded_mean = F.pad(self.mean.expand(3, height, width), border).permute(1, 2, 0)
        y = rows[:, None] + torch.arange(height, device=images.device)  # (B, H)
        x = torch.arange(width, device=images.device).expand(batch, width)
        x = cols[:, None] + torch.where(flip[:, None], width - 1 - x, x)  # (B, W)
        index = (y[:, :, None], x[:, None, :])  # broadcast to (B, H, W)
        image = torch.arange(batch, device=images.device)[:, None, None]
        cropped = padded[image, *index].float() - padded_mean[index]  # (B, H, W, 3)
        return cropped.permute(0, 3, 1, 2) / self.scale

    def _copied(self, images: Tensor, rows: Tensor, cols: Tensor, flip: Tensor) -> Tensor:
        """Bit-identical to `_gathered`: a CPU copies a window ten times as fast as it gathers its pixels."""
        batch, _, height, width = images.shape
        pad = self.pad
        padded = np.zeros((batch, height + 2 * pad, width + 2 * pad, 3), np.uint8)
        padded[:, pad : pad + height, pad : pad + width] = images.permute(0, 2, 3, 1).numpy()
        mean = np.zeros(padded.shape[1:], np.float32)
        mean[pad : pad + height, pad : pad + width] = self.mean.permute(1, 2, 0).numpy()
        # A pixel's three channels are moved as one element, of 3 and of 12 bytes.
        pixels, means = padded.view("V3")[..., 0], mean.view("V12")[..., 0]
        cropped, subtrahend = (np.empty((batch, height, width), of.dtype) for of in (pixels, means))
        for i, (y, x, mirrored) in enumerate(zip(rows.tolist(), cols.tolist(), flip.tolist(), strict=True)):
            columns = slice(x + width - 1, x - 1 if x else None, -1) if mirrored else slice(x, x + width)
            cropped[i] = pixels[i, y : y + height, columns]
            subtrahend[i] = means[y : y + height, columns]
        shape = (batch, height, width, 3)
        found = torch.from_numpy(cropped.view(np.uint8).reshape(shape)).float()
        found -= torch.from_numpy(subtrahend.view(np.float32).reshape(shape))
        return found.permute(0, 3, 1, 2).div_(self.scale)


def pixel_mean(images: Tensor) -> Tensor:
    """Returns the mean image of uint8 (N, 3, H, W) as float32 (3, H, W), in 0..255."""
    total = sum(chunk.sum(0, dtype=torch.int64) for chunk in images.split(4096))
    return (total.double() / len(images)).float()


def cifar_normalization(images: Tensor, pad: int = 4) -> Normalization:
    """Returns section 4.1's normalization: mean of the training images (N, 3, H, W), padding of 4."""
    # Section 4.1 subtracts the per-pixel mean and says nothing of a scale; the first BatchNorm undoes any.
    return Normalization(pixel_mean(images), scale=255, pad=pad)
