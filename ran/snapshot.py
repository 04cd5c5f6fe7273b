"""The probes that a finished run stores, so that figures can be drawn without torch.

Figures 3 and 4 as JSON (`probes`), Figure 1 as a few small maps (`masks`). Images, modules and channels are selected by
the rules below, never by eye.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ran.data.augment import Normalization
from ran.data.image_folder.reader import Stack, loaded
from ran.models.attention import AttentionModule
from ran.models.cost import stage_names
from ran.probe import attention_names, receptive_field, soft_masks, stage_responses

SCHEMA = 1
RESPONSE_IMAGES = 1_000
FIELD_IMAGES = 16
MASK_IMAGES = 6


def probes(network: nn.Module, images: Stack, normalization: Normalization) -> dict[str, Any]:
    """Returns the response by stage and the receptive fields of trunk and mask, ready for JSON.

    Over the first 1,000 and the first 16 of the uint8 test images (N, 3, H, W). The fields are of the first attention
    module of each stage, trunk and mask branch, in pixels of the image; a network without modules has none.
    """
    seen = images[:RESPONSE_IMAGES]
    return {
        "schema": SCHEMA,
        "response": {"split": "test", "images": len(seen), "mean_abs": stage_responses(network, seen, normalization)},
        "receptive_fields": [
            _field(network, stage, module, branch, images[:FIELD_IMAGES], normalization)
            for stage, module in _first_modules(network)
            for branch in ("trunk", "mask")
            if branch == "trunk" or _has_mask(network, module)
        ],
    }


def _first_modules(network: nn.Module) -> list[tuple[int, str]]:
    """The first attention module of each stage that has one, with the stage's number, from 1."""
    modules = attention_names(network)
    found = ((i, [m for m in modules if m.startswith(f"{stage}.")]) for i, stage in enumerate(stage_names(network), 1))
    return [(i, inside[0]) for i, inside in found if inside]


def _has_mask(network: nn.Module, module: str) -> bool:
    attention = network.get_submodule(module)
    return isinstance(attention, AttentionModule) and attention.mask is not None


def _field(
    network: nn.Module, stage: int, module: str, branch: str, images: Stack, normalization: Normalization
) -> dict[str, Any]:
    field = receptive_field(network, images, normalization, f"{module}.{branch}")
    gradient = field.gradient.cpu()
    peak = gradient.max().item()
    levels = (gradient * (255 / peak if peak > 0 else 0)).round().to(torch.uint8).numpy()
    return {
        "stage": stage,
        "module": module,
        "branch": branch,
        "images": len(images),
        "centre": list(field.centre),
        "radius": field.radius(),
        "gradient": {"shape": list(levels.shape), "max": peak, "uint8": base64.b64encode(levels.tobytes()).decode()},
    }


def masks(
    network: nn.Module, images: Stack, labels: Tensor, classes: Sequence[str], normalization: Normalization
) -> dict[str, np.ndarray] | None:
    """Returns a few images with the feature before the mask, the mask and the feature after it; None without masks.

    The first test image of each of the first six classes; the first module of the network (early) and the last (late).
    Of each module the channel whose mask varies most over the positions. Keys: images uint8 (N, 3, H, W), labels (N,),
    classes, modules (2,), and for module i before_i, mask_i, after_i float32 (N, h, w) and channel_i.
    """
    modules = [name for name in attention_names(network) if _has_mask(network, name)]
    if not modules:
        return None
    first = [int((labels == k).nonzero()[0]) for k in range(len(classes)) if (labels == k).any()][:MASK_IMAGES]
    chosen = loaded(images[first])
    shown = [modules[0], modules[-1]] if len(modules) > 1 else modules
    seen = soft_masks(network, chosen, normalization, shown)
    arrays = {
        "images": chosen.cpu().numpy(),
        "labels": labels[first].cpu().numpy(),
        "classes": np.array(classes, dtype=np.str_),
        "modules": np.array(shown, dtype=np.str_),
    }
    for i, name in enumerate(shown):
        maps = seen[name]
        channel = int(maps.mask.float().flatten(2).std(2, correction=0).mean(0).argmax())
        for key, values in (("before", maps.before), ("mask", maps.mask), ("after", maps.after)):
            arrays[f"{key}_{i}"] = values[:, channel].float().cpu().numpy()
        arrays[f"channel_{i}"] = np.array(channel)
    return arrays
