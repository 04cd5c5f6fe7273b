"""Resume of a run from its newest checkpoint, in each of the processes that train it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ran.distributed.group import Processes
from ran.engine import checkpoint
from ran.engine.checkpoint import Header


def load(
    processes: Processes,
    folder: Path,
    fingerprint: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    window: Mapping[str, Tensor],
) -> Header | None:
    """Restores the newest whole checkpoint in every process and returns its header; None without one.

    Only the first process reads it, so the processes need no shared folder, and any number of processes may have
    written it. Raises as `checkpoint.load` and `Processes.sync_stop` do.
    """
    found = checkpoint.load(folder, fingerprint, network, optimizer, window) if processes.leads else None
    if processes.alone:
        return found
    processes.sync_stop()
    slots = {key for state in optimizer.state.values() for key, value in state.items() if value is not None}
    found, slots = processes.share((found, slots))
    tensors = [*network.state_dict().values(), *window.values()]
    for parameter in network.parameters():
        for slot in sorted(slots):
            tensors.append(optimizer.state[parameter].setdefault(slot, torch.empty_like(parameter)))
    processes.broadcast_tensors(tensors)
    return found
