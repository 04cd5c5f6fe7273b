"""Checkpoints: safetensors files, so that loading one can never run code, written atomically.

A run's folder contains one file per checkpoint, named by its step, with the SHA-256 of its contents. A truncated or
changed file is skipped, and the previous one is used.
"""

import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ran.tensor_file import DamagedError, damaged, read_metadata, read_tensors, write_tensors
from records.errors import UserError

log = logging.getLogger("ran.engine")

FORMAT = "ran-checkpoint-3"
FORMATS = (FORMAT, "ran-checkpoint-2")
"""formats that can be read"""
KEEP = 2
"""number of checkpoints that are kept: the newest, and the previous one in case the newest is damaged"""


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message is one line and names the file."""


@dataclass(frozen=True)
class Header:
    """Metadata of a checkpoint, readable without loading the weights."""

    fingerprint: str
    step: int
    """optimizer steps taken"""
    seconds: float
    """time spent so far, including earlier attempts"""
    evaluation_due: bool = False
    """whether the evaluation after this step has not been done yet"""
    cpu_seconds: float = 0.0
    """processor time spent so far, including earlier attempts; of the process that wrote it, all threads together"""


def path_of(folder: Path, step: int) -> Path:
    """Returns the path of a step's checkpoint: step-00001200.safetensors, so that names sort in the order of steps."""
    return folder / f"step-{step:08}.safetensors"


def paths(folder: Path) -> list[Path]:
    """Returns a run's checkpoints, the newest first."""
    found = folder.glob("step-*.safetensors")
    return sorted(
        (p for p in found if re.fullmatch(r"step-\d{8,}", p.stem)), key=lambda p: int(p.stem[5:]), reverse=True
    )


def is_checkpoint(metadata: Mapping[str, str]) -> bool:
    """Returns whether a file with this metadata is a checkpoint that can be read."""
    return metadata.get("format") in FORMATS


def read_header(path: Path) -> Header:
    """Returns the header of a checkpoint; its contents are not verified.

    Raises DamagedError for a damaged file, CheckpointError for a file of another format.
    """
    try:
        metadata = read_metadata(path)
        if not is_checkpoint(metadata):
            raise CheckpointError(f"{path} is not a checkpoint of this version; move it away to start from scratch")
        seconds, due = float(metadata["seconds"]), metadata["evaluation_due"] == "True"
        return Header(
            fingerprint=metadata["fingerprint"],
            step=int(metadata["step"]),
            seconds=seconds,
            evaluation_due=due,
            cpu_seconds=float(metadata.get("cpu_seconds", 0)),  # absent in an earlier format
        )
    except CheckpointError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise damaged(path, error) from None


def newest(folder: Path, fingerprint: str, *, verify: bool = False) -> Header | None:
    """Returns the header of a run's newest readable checkpoint, with `verify` of the one that `load` would use.

    None without one. Raises CheckpointError for a checkpoint of another configuration or program version.
    """
    for path in paths(folder):
        with contextlib.suppress(DamagedError):
            header = read_header(path)
            check_owner(path, header, fingerprint)
            if verify:
                read_tensors(path)
            return header
    return None


def save(
    folder: Path,
    header: Header,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    window: Mapping[str, Tensor],
    keep: int | None = KEEP,
) -> None:
    """Writes network, optimizer state and the sums of the current log window, then deletes all but the newest `keep`.

    `keep` None keeps all. Raises WriteError; earlier checkpoints are then unchanged.
    """
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimizer.{key}.{name}"] = value
    tensors |= {f"window.{key}": value for key, value in window.items()}
    write_tensors(path_of(folder, header.step), tensors, {
        "format": FORMAT, "fingerprint": header.fingerprint, "step": str(header.step),
        "seconds": str(header.seconds), "evaluation_due": str(header.evaluation_due),
        "cpu_seconds": str(header.cpu_seconds),
    })  # fmt: skip
    abandoned = list(folder.glob(".*.tmp"))  # of processes that were killed while writing
    for path in [*(paths(folder)[keep:] if keep is not None else ()), *abandoned]:
        with contextlib.suppress(OSError):
            path.unlink()


def load(
    folder: Path,
    fingerprint: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    window: Mapping[str, Tensor],
) -> Header | None:
    """Restores the newest undamaged checkpoint in place and returns its header; None without one.

    Skips damaged checkpoints with a warning. Raises CheckpointError for a checkpoint of another configuration.
    """
    for path in paths(folder):
        try:
            return _load(path, fingerprint, network, optimizer, window)
        except DamagedError as error:
            log.warning("%s: the previous checkpoint is used, or the run starts from scratch", error)
    return None


def _load(
    path: Path,
    fingerprint: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    window: Mapping[str, Tensor],
) -> Header:
    header = read_header(path)
    check_owner(path, header, fingerprint)
    tensors = read_tensors(path, str(next(network.parameters()).device))
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "window": {}}
    try:
        for key, value in tensors.items():
            group, _, name = key.partition(".")
            groups[group][name] = value
        network.load_state_dict(groups["network"])
        for name, parameter in network.named_parameters():
            for key in {key.partition(".")[0] for key in groups["optimizer"]}:
                # In the parameter's memory layout, so that the update uses the same kernel as before.
                value = groups["optimizer"][f"{key}.{name}"]
                optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(value)
        for name, value in window.items():
            value.copy_(groups["window"][name])
    except (KeyError, RuntimeError) as error:
        # The file is undamaged, so another version of the program wrote it, with other networks for this fingerprint.
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} does not fit ({reason}); move it away to start from scratch") from None
    return header


def check_owner(path: Path, header: Header, fingerprint: str) -> None:
    """Raises CheckpointError if the checkpoint belongs to another configuration."""
    if header.fingerprint != fingerprint:
        raise CheckpointError(
            f"{path} is of another configuration (fingerprint {header.fingerprint[:12]}, this run is "
            f"{fingerprint[:12]}); choose another --checkpoints folder or delete it"
        )
