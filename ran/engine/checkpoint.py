"""Checkpoints: one safetensors file, so that loading one can never run code, written whole or not at all."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ran.errors import UserError

FORMAT = "ran-checkpoint-1"
NAME = "last.safetensors"


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message is one line and names the file."""


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself, readable without loading the weights."""

    fingerprint: str
    step: int
    """optimizer steps taken"""
    seconds: float
    """time spent so far, over all resumes"""


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file under a temporary name, syncs it and renames it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, temporary, metadata)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_header(path: Path) -> Header:
    """Returns the header of a checkpoint. Raises CheckpointError if it is damaged or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path} is no checkpoint of this program; move it away to start the run afresh")
        return Header(metadata["fingerprint"], int(metadata["step"]), float(metadata["seconds"]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged ({error}); delete it to start the run afresh") from None


def save(
    path: Path, header: Header, network: nn.Module, optimizer: torch.optim.Optimizer, window: dict[str, Tensor]
) -> None:
    """Writes network, optimizer state and the sums of the current log window."""
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimizer.{key}.{name}"] = value
    tensors |= {f"window.{key}": value for key, value in window.items()}
    metadata = {"format": FORMAT, "fingerprint": header.fingerprint, "step": str(header.step)}
    write_tensors(path, tensors, metadata | {"seconds": str(header.seconds)})


def load(
    path: Path, fingerprint: str, network: nn.Module, optimizer: torch.optim.Optimizer, window: dict[str, Tensor]
) -> Header:
    """Restores what `save` wrote, in place, and returns its header.

    Raises CheckpointError if the file is damaged or was written by another configuration.
    """
    header = read_header(path)
    check_owner(path, header, fingerprint)
    device = next(network.parameters()).device
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "window": {}}
    try:
        for key, value in load_file(path, device=str(device)).items():
            group, _, name = key.partition(".")
            groups[group][name] = value
        network.load_state_dict(groups["network"])
        for name, parameter in network.named_parameters():
            for key in {key.partition(".")[0] for key in groups["optimizer"]}:
                # In the parameter's memory layout, so that the update takes the path it took before.
                value = groups["optimizer"][f"{key}.{name}"]
                optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(value)
        for name, value in window.items():
            value.copy_(groups["window"][name])
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is damaged ({reason}); delete it to start the run afresh") from None
    return header


def check_owner(path: Path, header: Header, fingerprint: str) -> None:
    """Raises CheckpointError if the checkpoint belongs to another configuration."""
    if header.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path} is of another configuration (fingerprint {header.fingerprint[:12]}, this run is "
            f"{fingerprint[:12]}); choose another --checkpoints folder or delete it"
        )
