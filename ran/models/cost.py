"""What a network costs: parameters and multiply-adds (the paper's "FLOPs")."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ran.models.network import NetworkSpec, build


@dataclass(frozen=True)
class Cost:
    params: int
    """trainable parameters"""
    macs: int
    """multiply-adds of convolutions and classifier for one image, forward"""


def cost(spec: NetworkSpec, *, num_classes: int, image_size: int) -> Cost:
    """Returns parameters and MACs of a network for square RGB images; nothing is computed (meta device)."""
    with torch.device("meta"):
        network = build(spec, num_classes=num_classes).eval()
        image = torch.empty(1, 3, image_size, image_size)
    # The counter counts a multiply-add as two operations, of convolutions and matrix products only.
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(image)
    return Cost(params=sum(p.numel() for p in network.parameters()), macs=counter.get_total_flops() // 2)
