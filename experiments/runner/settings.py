"""How the runs of a launch are trained and recorded: made once from the launch, handed on whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.placement import Placement
from experiments.runner.remote_checkpoints import RemoteCheckpoints

CHECKPOINT_SECONDS = 60.0
"""time between two checkpoints of a run, unless --checkpoint-seconds says otherwise"""


def checkpoint_seconds(requested: float | None) -> float:
    """Returns the time between two checkpoints: the requested one, else the default."""
    return CHECKPOINT_SECONDS if requested is None else requested


@dataclass(frozen=True)
class RunSettings:
    """Settings that all runs of a launch share. Workers get them whole."""

    tags: Mapping[str, str]
    """tags of every run: study, profile and overrides"""
    tracking_uri: str
    checkpoints: Path
    """folder in which runs train"""
    remote: RemoteCheckpoints | None
    """copy of the folder at a URI, if --checkpoints is one"""
    device: torch.device
    placement: Placement
    keep: str
    """what to keep after a run finishes, besides the final weights (--keep)"""
    retry_failed: bool
    checkpoint_seconds: float
    deterministic: bool
    modules: tuple[str, ...]
    """modules and files that a worker imports first: those of --import, and a user's own study or search"""
    command: str
    """command line of the launch as it was typed, without passwords"""
    planned_seeds: tuple[int, ...]
    """seeds that the study or search itself plans, whatever --seeds says"""

    @property
    def leaves_artifacts(self) -> bool:
        """Whether a run leaves more in the store than points, parameters and tags."""
        return self.keep != "none"

    def push_checkpoints(self, folder: Path) -> None:
        """Copies the folder of a run to the checkpoints' URI, if there is one."""
        if self.remote is not None:
            self.remote.push(folder.name)
