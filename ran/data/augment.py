"""Preprocessing and augmentation of whole batches, on the device where the images lie.

uint8 NCHW in, float32 out, with the channels innermost in memory (channels_last) because the gather makes them so.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

PAD = 4  # paper, section 4.1


def pixel_mean(images: Tensor) -> Tensor:
    """Returns the mean image of uint8 (N, 3, H, W) as float32 (3, H, W), in 0..255."""
    total = sum(chunk.sum(0, dtype=torch.int64) for chunk in images.split(4096))
    return (total.double() / len(images)).float()


def normalize(images: Tensor, mean: Tensor) -> Tensor:
    """Returns (images - mean) / 255 as float32; uint8 (B, 3, H, W), mean (3, H, W)."""
    # Section 4.1 subtracts the per-pixel mean and says nothing of a scale; the first BatchNorm undoes any.
    return (images.float() - mean) / 255


def draw_crops(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns row and column offsets in 0..2*PAD and whether to flip, each of shape (n,)."""
    offsets = rng.integers(0, 2 * PAD + 1, size=(2, n))
    return offsets[0], offsets[1], rng.integers(0, 2, size=n).astype(bool)


def crop_and_flip(images: Tensor, mean: Tensor, rows: Tensor, cols: Tensor, flip: Tensor) -> Tensor:
    """Returns normalised images, zero-padded by PAD, cropped to their size at (rows, cols) and flipped where told.

    uint8 (B, 3, H, W), mean (3, H, W), int64 (B,), int64 (B,), bool (B,) -> float32 (B, 3, H, W).
    """
    _, _, height, width = images.shape
    # The mean is padded with zeros as the images are, so that the border is zero after subtraction.
    padded = F.pad(images, (PAD,) * 4).permute(0, 2, 3, 1)  # (B, H+8, W+8, 3)
    padded_mean = F.pad(mean, (PAD,) * 4).permute(1, 2, 0)  # (H+8, W+8, 3)
    y = rows[:, None] + torch.arange(height, device=images.device)  # (B, H)
    x = torch.arange(width, device=images.device).expand(len(images), width)
    x = cols[:, None] + torch.where(flip[:, None], width - 1 - x, x)  # (B, W)
    index = (y[:, :, None], x[:, None, :])  # broadcast to (B, H, W)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    cropped = padded[batch, *index].float() - padded_mean[index]  # (B, H, W, 3)
    return (cropped / 255).permute(0, 3, 1, 2)
