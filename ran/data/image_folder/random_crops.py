"""Random augmentation of image files (section 4.2): crop, flip and PCA colour jitter."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ran.data.augment import Normalization

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""a crop's share of the image and its width / height: [33]'s, Szegedy et al., 2015"""
TRIES = 10
"""number of crops drawn; the first that fits into the image is used, as in torchvision"""
COLOUR_STD = 0.1
"""standard deviation of the principal components' factors: [20]'s, Krizhevsky et al., 2012"""
# Deviation: section 4.2 does not give the principal components of its colours; ImageNet's usual ones, of RGB in [0, 1].
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels"""


@dataclass(frozen=True)
class Draws:
    """Random numbers for n images, independent of the images."""

    areas: np.ndarray  # (n, TRIES), within AREA
    ratios: np.ndarray  # (n, TRIES), within RATIO
    places: np.ndarray  # (n, 2), in [0, 1): relative position of left and top among all possible ones
    flips: np.ndarray  # bool (n,)
    colour_factors: np.ndarray  # (n, 3), factors of the principal components

    def pick(self, chosen: slice | np.ndarray) -> "Draws":
        """Returns the draws of some of the images."""
        return Draws(**{name: drawn[chosen] for name, drawn in vars(self).items()})

    def box(self, i: int, width: int, height: int) -> Box:
        """Returns the crop of image i, of this size, in whole pixels."""
        for area, ratio in zip(self.areas[i].tolist(), self.ratios[i].tolist(), strict=True):
            w, h = _sides(area * width * height, ratio)
            if 0 < w <= width and 0 < h <= height:
                x, y = self.places[i].tolist()
                left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
                return left, top, left + w, top + h
        # No crop fits a very long image: use its centre, as much as the ratios allow.
        w = min(width, max(1, round(height * RATIO[1])))
        h = min(height, max(1, round(width / RATIO[0])))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


def draw(rng: np.random.Generator, n: int) -> Draws:
    """Returns the draws for n images: areas uniform, ratios uniform in their logarithm, colour factors normal."""
    return Draws(
        areas=rng.uniform(*AREA, (n, TRIES)),
        ratios=np.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1]), (n, TRIES))),
        places=rng.random((n, 2)),
        flips=rng.integers(0, 2, n).astype(bool),
        colour_factors=rng.normal(0, COLOUR_STD, (n, 3)),
    )


def pca_colour_jitter(images: Tensor, colour_factors: np.ndarray, normalization: Normalization) -> Tensor:
    """Returns uint8 (B, 3, H, W) normalised, each image's colour moved along the principal components.

    [EIGENVECTORS] (colour_factors * EIGENVALUES), of factors (B, 3), is added to the RGB in [0, 1] of all its pixels.
    Returns float32 on the device of `normalization`, channels innermost in memory.
    """
    device = normalization.mean.device
    return shift_colours(images.to(device), colour_shift(colour_factors).to(device), normalization)


def colour_shift(colour_factors: np.ndarray) -> Tensor:
    """Returns what factors (B, 3) of the principal components add to each image's RGB in 0..255, float32 (B, 3)."""
    return torch.from_numpy(255 * (colour_factors * EIGENVALUES) @ EIGENVECTORS.T).float()


def shift_colours(images: Tensor, shift: Tensor, normalization: Normalization) -> Tensor:
    """Returns uint8 (B, 3, H, W) plus a shift (B, 3), normalised; all on one device. As `pca_colour_jitter`."""
    batch, _, height, width = images.shape
    # Whole rows of 3W numbers: three numbers per pixel would take five times as long.
    mean = (normalization.mean.flatten() - shift).repeat(1, width)[:, None]  # (B, 1, 3W)
    scale = torch.as_tensor(normalization.scale, device=images.device).expand(3, 1, 1).flatten().repeat(width)
    rows = images.permute(0, 2, 3, 1).flatten(2).float()  # (B, H, 3W)
    return rows.sub_(mean).div_(scale).view(batch, height, width, 3).permute(0, 3, 1, 2)


def _sides(area: float, ratio: float) -> tuple[int, int]:
    return round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
