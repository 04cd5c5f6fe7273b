"""Probes of a network: soft masks, response by stage (Figure 4), receptive fields (Figure 3).

All use forward hooks in eval mode, and restore modes, hooks and gradients. Network, images and `normalization` must lie
on one device.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ran.data.augment import Normalization
from ran.data.image_folder.reader import Stack
from ran.data.loader import chunks
from ran.models.attention import AttentionModule
from ran.models.cost import stage_names
from records.errors import UserError

BATCH = 250  # images per batch without gradients: one map of a CIFAR network's stage 1 then takes 66 MB
GRADIENT_BATCH = 16  # images per batch with gradients, for which every map of the network is kept


@dataclass(frozen=True)
class SoftMask:
    """Input and intermediate features of an attention module, all (B, C, H, W)."""

    input: Tensor
    """input of trunk and mask"""
    before: Tensor
    """the trunk's output T"""
    mask: Tensor
    """M"""
    after: Tensor
    """T combined with M, input of the last p units"""


@dataclass(frozen=True)
class ReceptiveField:
    """Mean absolute gradient of one unit of a feature map."""

    gradient: Tensor
    """(H, W), over the input's positions"""
    centre: tuple[int, int]
    """the unit's own position (row, column) in the input"""

    def radius(self, share: float = 0.9) -> float:
        """Returns the distance from the centre within which `share` (at most 1) of the gradient lies.

        In positions of the input.
        """
        height, width = self.gradient.shape
        rows = torch.arange(height, dtype=torch.float64)[:, None] - self.centre[0]
        columns = torch.arange(width, dtype=torch.float64) - self.centre[1]
        distance, order = (rows**2 + columns**2).sqrt().flatten().sort()
        reached = self.gradient.cpu().double().flatten()[order].cumsum(0)
        first = int((reached < share * reached[-1]).sum())
        return distance[first].item()


def attention_names(network: nn.Module) -> list[str]:
    """Returns the dotted names of a network's attention modules, in order; none for a plain network."""
    return [name for name, module in network.named_modules() if isinstance(module, AttentionModule)]


def soft_masks(
    network: nn.Module, images: Tensor, normalization: Normalization, modules: Sequence[str] | None = None
) -> dict[str, SoftMask]:
    """Returns the soft masks of the named attention modules (None = all) for uint8 images (B, 3, H, W).

    Omits modules without a mask branch. Raises UserError for a name that is not an attention module.
    """
    valid = attention_names(network)
    chosen = valid if modules is None else list(modules)
    for name in chosen:
        if name not in valid:
            raise UserError(f"{name!r} is not an attention module. Valid: {', '.join(valid) or 'none'}.")
    seen: dict[str, dict[str, Tensor]] = {name: {} for name in chosen}

    def attach(name: str) -> list[RemovableHandle]:
        module, found = network.get_submodule(name), seen[name]

        def trunk(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            found["input"], found["before"] = _copy(args[0]), _copy(out)

        def mask(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            found["mask"] = _copy(out)

        def post(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            found["after"] = _copy(args[0])

        handles = [
            module.get_submodule("trunk").register_forward_hook(trunk),
            module.get_submodule("post").register_forward_pre_hook(post),
        ]
        if isinstance(getattr(module, "mask", None), nn.Module):
            handles.append(module.get_submodule("mask").register_forward_hook(mask))
        return handles

    with _observed(network, [handle for name in chosen for handle in attach(name)]), torch.no_grad():
        network(normalization.normalize(images))
    return {
        name: SoftMask(**{**found, "mask": found["mask"].expand_as(found["before"])})
        for name, found in seen.items()
        if "mask" in found
    }


def stage_responses(
    network: nn.Module, images: Stack, normalization: Normalization, *, batch: int = BATCH
) -> list[float]:
    """Returns the mean absolute value of each stage's output over uint8 images (N, 3, H, W), summed in float64.

    Divide by the first for Figure 4 (`relative`). The output is the last unit's raw sum, before BatchNorm and ReLU of
    the next stage.
    """
    # Deviation: Figure 4 does not say what a response is; mean absolute value of a stage's last output (raw sum) over
    # test images, in eval mode, divided by stage 1's.
    if not len(images):
        raise UserError("a response needs at least one image")
    stages = [network.get_submodule(name) for name in stage_names(network)]
    sums = [torch.zeros((), dtype=torch.float64) for _ in stages]
    counts = [0] * len(stages)

    def attach(i: int, stage: nn.Module) -> RemovableHandle:
        def add(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            sums[i] += out.abs().sum(dtype=_widest(out.device)).cpu()
            counts[i] += out.numel()

        return stage.register_forward_hook(add)

    with _observed(network, [attach(i, stage) for i, stage in enumerate(stages)]), torch.no_grad():
        for chunk in chunks(images, batch):
            network(normalization.normalize(chunk))
    return [total.item() / count for total, count in zip(sums, counts, strict=True)]


def relative(responses: Sequence[float]) -> list[float]:
    """Returns responses divided by the first, Figure 4's "Relative Mean Response"; NaN where that is 0."""
    return [r / responses[0] if responses[0] else math.nan for r in responses]


def receptive_field(
    network: nn.Module,
    images: Stack,
    normalization: Normalization,
    output: str,
    input: str | None = None,
    *,
    batch: int = GRADIENT_BATCH,
) -> ReceptiveField:
    """Returns the effective receptive field of the central unit of a module's output, over uint8 images (N, 3, H, W).

    `output` is the dotted name of any module with a feature map as output, for Figure 3 an attention module's branch
    such as "stages.0.attention.0.mask"; `input` that of the module whose input the gradient is taken for, None for the
    image. The gradient is of the sum over the unit's channels (Luo et al., 2016); its absolute value is averaged over
    images and the input's channels. Raises UserError for an unknown name, an output that does not depend on the input,
    and an output without positions.
    """
    # Deviation: Figure 3 does not say how a receptive field is measured; mean absolute gradient of the branch's
    # central unit, after Luo et al. (2016).
    modules = dict(network.named_modules())
    for name in (output, *([] if input is None else [input])):
        if name not in modules:
            raise UserError(f"the network has no module {name!r}; network.named_modules() lists them")
    if not len(images):
        raise UserError("a receptive field needs at least one image")
    start: Tensor | None = None
    end: Tensor | None = None

    def begin(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal start
        start = args[0].detach().clone().requires_grad_()
        # Another copy: a ReLU may work in place, which is not allowed on a leaf.
        return (start.clone(), *args[1:])

    def stop(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal end
        end = out.clone()

    first = network if input is None else modules[input]
    handles = [first.register_forward_pre_hook(begin), modules[output].register_forward_hook(stop)]
    device = normalization.mean.device
    total = torch.zeros((), dtype=_widest(device), device=device)
    with _observed(network, handles), torch.enable_grad():
        for chunk in chunks(images, batch):
            network(normalization.normalize(chunk))
            if end is None or start is None or end.ndim != 4:
                raise UserError(f"module {output!r} has no feature map (B, C, H, W) as output")
            unit = end[:, :, end.shape[2] // 2, end.shape[3] // 2].sum()
            gradient = torch.autograd.grad(unit, start, allow_unused=True)[0] if unit.requires_grad else None
            if gradient is None:
                raise UserError(f"the input of {input!r} does not reach {output!r}")
            total = total + gradient.abs().mean(1).sum(0, dtype=_widest(device))
            centre = (_centre(start.shape[2], end.shape[2]), _centre(start.shape[3], end.shape[3]))
    return ReceptiveField(total / len(images), centre)


def _centre(size: int, units: int) -> int:
    """The position among `size` of the central one of `units`: with padded strides unit i lies at i * stride."""
    return size // 2 if units == 1 else units // 2 * size // units


def _widest(device: torch.device) -> torch.dtype:
    """Returns the number format to sum in: float64 if the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _copy(x: Tensor) -> Tensor:
    # A later operation may work in place.
    return x.detach().clone()


@contextmanager
def _observed(network: nn.Module, handles: Sequence[RemovableHandle]) -> Iterator[None]:
    """Sets eval mode; at the end restores each module's mode and removes the hooks, also after an exception."""
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
