"""Pictures of attention: an image, the mask of each attention module, and their product."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from ran.models.interpolate import interpolate
from ran.probe import attention_names, soft_masks
from ran.trained import Trained
from records.files import writing

COLUMNS = 4  # attention modules per row
SIDE = 1.9  # side of a panel in inches
COLOURS = "viridis"
BARS = 5  # number of classes shown
NAME, CLASS = 30, 22  # characters that fit: of the image's name above it, of a class in its bar
ROWS = (
    "mask: the channel\nthat varies most",
    "image \N{MULTIPLICATION SIGN} that channel",
    "mean over channels,\nstretched to its range",
)


@dataclass(frozen=True, eq=False)
class ShownMask:
    """What a picture shows of the mask of one module: maps (H, W) of the image's size."""

    channel: int
    """from 0; of all channels its mask has the largest standard deviation over the image"""
    varied: Tensor
    """mask of that channel"""
    mean: Tensor
    """mean of the masks of all channels, which may cancel"""


def shown_masks(trained: Trained, images: Tensor) -> list[dict[str, ShownMask]]:
    """Returns for each of the uint8 images (N, 3, H, W) the masks by attention module.

    They are upsampled bilinearly to the size of the images, as in the network. Empty for networks without masks.
    """
    with trained.arithmetic.on(trained.device):
        found = soft_masks(trained.network, images.to(trained.device), trained.interface.normalization)
    shown: list[dict[str, ShownMask]] = [{} for _ in images]
    for name, maps in found.items():
        masks = maps.mask.float()  # (N, C, h, w)
        channels = masks.std((2, 3), correction=0).argmax(1)
        varied = masks[torch.arange(len(masks)), channels]
        both = interpolate(torch.stack([varied, masks.mean(1)], 1), images.shape[2:]).cpu()
        for one, channel, (most, mean) in zip(shown, channels.tolist(), both, strict=True):
            one[name] = ShownMask(channel=channel, varied=most, mean=mean)
    return shown


def product(image: Tensor, mask: Tensor) -> np.ndarray:
    """Returns image x mask of a uint8 image (3, H, W) and a mask (H, W): uint8 (H, W, 3), black if not positive."""
    return (image * mask).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def scale(masks: Collection[Tensor]) -> tuple[float, float]:
    """Returns the ends of the colour scale that masks share: 0 and 1, in whole steps further if a mask is outside."""
    low, high = min(mask.min().item() for mask in masks), max(mask.max().item() for mask in masks)
    return min(0.0, math.floor(low)), max(1.0, math.ceil(high))


def picture(
    name: str, image: Tensor, masks: dict[str, ShownMask], titles: dict[str, str], classes: Sequence[tuple[str, float]]
) -> Figure:
    """Returns the picture of a uint8 image (3, H, W) with its masks by module.

    Each module is a column: the mask of one channel in the colours of one scale, the product of image and that mask,
    and the mean over all channels in the colours of its own range. `titles`: by module; `classes`: the most probable
    classes with their probabilities.
    """
    blocks, rows = math.ceil(len(masks) / COLUMNS), len(ROWS)
    across = 1 + min(len(masks), COLUMNS)
    figure = Figure((SIDE * across + 0.8, (rows * SIDE + 0.7) * blocks), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows * blocks, across, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    _show(panels[0, 0], image.permute(1, 2, 0).numpy(), title=name if len(name) <= NAME else f"…{name[1 - NAME :]}")
    _bars(panels[1, 0], classes)
    low, high = scale([mask.varied for mask in masks.values()])
    for i, (module, mask) in enumerate(masks.items()):
        column = panels[rows * (i // COLUMNS) :, 1 + i % COLUMNS]
        _show(column[0], mask.varied.numpy(), (low, high), title=f"{titles[module]}, channel {mask.channel}")
        _show(column[1], product(image, mask.varied))
        own = mask.mean.min().item(), mask.mean.max().item()
        _show(column[2], mask.mean.numpy(), own, title=f"{own[0]:.2f} to {own[1]:.2f}")
    for block in range(blocks):
        shown = panels[rows * block : rows * (block + 1), 1:]
        for panel, label in zip(shown[:, 0], ROWS, strict=True):
            panel.set_axis_on()
            panel.set(frame_on=False, xticks=[], yticks=[])
            panel.set_ylabel(label, fontsize=7)
        figure.colorbar(shown[0, 0].images[0], ax=list(shown[0]), aspect=15, pad=0.01).ax.tick_params(labelsize=6)
        own_range = ScalarMappable(Normalize(0, 1), COLOURS)
        figure.colorbar(own_range, ax=list(shown[2]), aspect=15, pad=0.01).set_ticks(
            [0, 1], labels=["lowest", "highest"], fontsize=6
        )
    return figure


def draw(figure: Figure, path: Path) -> None:
    """Writes a picture as PNG, and its folder. Raises WriteError."""
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


def _show(panel: Axes, pixels: np.ndarray, ends: tuple[float, float] | None = None, *, title: str = "") -> None:
    """Shows RGB pixels (H, W, 3), or a map (H, W) in colours between `ends`."""
    low, high = (None, None) if ends is None else ends
    panel.imshow(pixels, cmap=COLOURS, vmin=low, vmax=high, interpolation="nearest")
    panel.set_title(title, fontsize=7, parse_math=False)


def _bars(panel: Axes, classes: Sequence[tuple[str, float]]) -> None:
    panel.set_axis_on()
    panel.set_box_aspect(1)
    panel.set_frame_on(False)
    panel.set(xlim=(0, 1), ylim=(0.6 - BARS, 0.6), xticks=[], yticks=[])
    for i, (name, probability) in enumerate(classes[:BARS]):
        shown = name if len(name) <= CLASS else f"{name[: CLASS - 1]}…"
        panel.barh(-i, 1, height=0.85, color="#f0f0f0")
        panel.barh(-i, probability, height=0.85, color="#9ecae1")
        panel.text(0.02, -i, f"{shown}  {100 * probability:.1f} %", va="center", fontsize=7, parse_math=False)
