"""Pictures of attention: an image, the mask of each attention module, and their product."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ran.probe import attention_names, soft_masks
from ran.trained import Trained
from records.files import writing

COLUMNS = 4  # attention modules per row
SIDE = 1.9  # side of a panel in inches
BARS = 5  # number of classes shown
DARKEST = 0.1  # factor of the image where the mask has its minimum


def mean_masks(trained: Trained, images: Tensor) -> dict[str, Tensor]:
    """Returns the mask of each attention module, averaged over channels, for uint8 images (N, 3, H, W): (N, H, W).

    It is upsampled bilinearly to the size of the images, as in the network. Empty for networks without masks.
    """
    found = soft_masks(trained.network, images.to(trained.device), trained.interface.normalization)
    return {
        name: F.interpolate(maps.mask.float().mean(1, keepdim=True), images.shape[2:], mode="bilinear")[:, 0].cpu()
        for name, maps in found.items()
    }


def draw(
    image: Tensor, masks: dict[str, Tensor], titles: dict[str, str], classes: Sequence[tuple[str, float]], path: Path
) -> None:
    """Writes the picture of one uint8 image (3, H, W) with masks (H, W) by module, as PNG. Raises WriteError.

    `titles`: by module; `classes`: the most probable classes with their probabilities.
    """
    blocks = math.ceil(len(masks) / COLUMNS)
    across = 1 + min(len(masks), COLUMNS)
    figure = Figure((SIDE * across + 0.3, (2 * SIDE + 0.55) * blocks), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 * blocks, across, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    shown = image.permute(1, 2, 0).numpy()
    _picture(panels[0, 0], shown, "input")
    _bars(panels[1, 0], classes)
    for i, (name, mask) in enumerate(masks.items()):
        row, column = 2 * (i // COLUMNS), 1 + i % COLUMNS
        low, high = mask.min().item(), mask.max().item()
        panels[row, column].imshow(mask.numpy(), cmap="viridis", interpolation="nearest")
        panels[row, column].set_title(f"{titles[name]}\nmask {low:.2f} to {high:.2f}", fontsize=7)
        relative = (mask - low) / max(high - low, torch.finfo(mask.dtype).eps)
        product = shown * (DARKEST + (1 - DARKEST) * relative.numpy())[..., None]
        _picture(panels[row + 1, column], product.round().astype(np.uint8), "")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def module_titles(network: torch.nn.Module) -> dict[str, str]:
    """Returns titles such as "stage 1, module 2" by the name of each attention module."""
    titles = {}
    for name in attention_names(network):
        numbers = [int(part) + 1 for part in name.split(".") if part.isdecimal()]
        titles[name] = f"stage {numbers[0]}, module {numbers[-1]}" if len(numbers) == 2 else name
    return titles


def _picture(panel: Axes, image: np.ndarray, title: str) -> None:
    panel.imshow(image, interpolation="nearest")
    if title:
        panel.set_title(title, fontsize=7)


def _bars(panel: Axes, classes: Sequence[tuple[str, float]]) -> None:
    panel.set_axis_on()
    panel.set_box_aspect(1)
    panel.set_frame_on(False)
    panel.set(xlim=(0, 1), ylim=(0.6 - BARS, 0.6), xticks=[], yticks=[])
    for i, (name, probability) in enumerate(classes[:BARS]):
        panel.barh(-i, 1, height=0.85, color="#f0f0f0")
        panel.barh(-i, probability, height=0.85, color="#9ecae1")
        panel.text(0.02, -i, f"{name}  {100 * probability:.1f} %", va="center", fontsize=7)
