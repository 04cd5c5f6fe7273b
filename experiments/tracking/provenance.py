"""Provenance of a run: user, commit and uncommitted changes, without secrets; machine, versions, and way of computing.

PyTorch is imported only where it is asked, because commands that only read the store do without it.
"""

import functools
import getpass
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.tracking import working_tree
from records import names
from records.git import is_tracked, run_git

if TYPE_CHECKING:
    import torch

    from ran.config import RunConfig

ROOT = Path(__file__).parents[2]
OWN = Path("experiments", "tracking", "provenance.py")
"""this file below ROOT"""


@dataclass(frozen=True)
class Provenance:
    """What git and the system say of a process's code."""

    tags: Mapping[str, str]
    """user and commit as MLflow's own tags, and whether the working tree has changes"""
    diff: bytes
    """uncommitted changes of tracked files as a patch, b"" if there are none"""


_adopted: Provenance | None = None


def adopt(of_launch: Provenance) -> None:
    """Makes the provenance of the launch that of this process, its worker."""
    global _adopted
    _adopted = of_launch


# Once per process: it runs the code that it has loaded, even if the files change later.
@functools.cache
def own() -> Provenance:
    """Returns the provenance of this process's own code; see working_tree.py about the patch.

    There is no commit if git does not track this program: it may be installed inside another repository.
    """
    return Provenance(_tags(), working_tree.patch(ROOT) if is_tracked(ROOT / OWN) else b"")


def tags() -> dict[str, str]:
    """Returns the tags of the code, the launch's in a worker."""
    return dict((_adopted or own()).tags)


def diff() -> bytes:
    """Returns the uncommitted changes of the code, the launch's in a worker."""
    return (_adopted or own()).diff


def _tags() -> dict[str, str]:
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_USER

    found = {MLFLOW_SOURCE_NAME: "run_ablation.py"}
    try:
        found[MLFLOW_USER] = getpass.getuser()
    except (KeyError, OSError):  # a container without a user entry
        found[MLFLOW_USER] = "unknown"
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no", "--", ".")
    if commit:
        found[MLFLOW_GIT_COMMIT] = commit
    found[names.GIT_DIRTY] = "unknown" if status is None else str(bool(status)).lower()
    return found


def is_committed(path: Path) -> bool:
    """Returns whether a file is in the commit of its repository as it is now."""
    where = path.resolve()
    return is_tracked(where) and run_git(where.parent, "diff", "HEAD", "--quiet", "--", where.name) is not None


def how(config: "RunConfig", device: "torch.device") -> str:
    """Returns the way in which this process computes a run: what its bits may depend on besides its fingerprint.

    Two examples: "cpu AVX2, 1 thread, fused, channels_last, torch 2.14.1, AMD EPYC", "cuda NVIDIA H200, 2 processes of
    8 threads, eager, channels_last, compiled, deterministic, torch 2.14.1". The processor is named because libraries
    choose their routines by its maker and caches too: processors of one instruction set round differently.
    """
    import torch

    from ran.distributed.group import current
    from ran.engine.device import pick_kernels, uses_graph

    train, world = config.train, current().world
    kind = {
        "cpu": torch.backends.cpu.get_cpu_capability,
        "cuda": lambda: torch.cuda.get_device_name(device),
    }.get(device.type, platform.machine)()
    count = train.threads or torch.get_num_threads()
    threads = f"{count} thread{'' if count == 1 else 's'}"
    parts = [
        f"{device.type} {kind}",
        threads if world == 1 else f"{world} processes of {threads}",
        pick_kernels(train, device),
        "channels_last" if train.channels_last else "contiguous",
        *(["compiled"] if train.compile else []),
        *(["graph"] if uses_graph(train) else []),
        *(["deterministic"] if torch.are_deterministic_algorithms_enabled() else []),
        f"torch {torch.__version__.partition('+')[0]}",
        *([names.part_of_way(name)] if device.type == "cpu" and (name := processor()) else []),
    ]
    return ", ".join(parts)


@functools.cache
def machine(device: "torch.device", *, kernels: bool) -> dict[str, Any]:
    """Returns the hardware and software of this process as a JSON object; what cannot be found out is None.

    `kernels`: whether our own kernels are used, which may build them; else `kernels_compiler` is None. On CUDA it is
    Triton. `gpu` is None on the CPU.
    """
    import numpy as np
    import torch

    config = torch.__config__.show()
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": processor(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "onednn": _first_group(r"(?:MKL-DNN|oneDNN) v(\S+)", config),
        "mkl": _first_group(r"Math Kernel Library Version (\S+)", config),
        "torch_compiler": _first_group(r"^\s*- ((?:GCC|clang|MSVC|Apple)\b.*)$", config),
        "kernels_compiler": _kernels_compiler(device) if kernels else None,
        "gpu": _gpu(device) if device.type == "cuda" else None,
    }


def _kernels_compiler(device: "torch.device") -> str | None:
    """Returns what compiles our own kernels for a device, with its version."""
    from ran.kernels import build

    if device.type == "cuda":
        import triton  # its packages have several names, e.g. pytorch-triton

        return f"triton {triton.__version__}"
    return build.compiler_version() or None


def processor() -> str | None:
    """Returns the model of the processor, e.g. "AMD EPYC 7763 64-Core Processor"."""
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    # Processors of ARM have numbers instead of a name.
    arm = [_first_group(rf"^CPU {key}\s*: (.+)$", text) for key in ("implementer", "part")]
    known = _first_group(r"^model name\s*: (.+)$", text) or " ".join(["ARM", *filter(None, arm)] if any(arm) else [])
    return known or platform.processor() or platform.machine() or None


def _gpu(device: "torch.device") -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(device)
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "name": found.name,
        "compute_capability": f"{found.major}.{found.minor}",
        "memory_bytes": found.total_memory,
        "driver": driver.splitlines()[0] if driver else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def _first_group(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else None


def _git(*arguments: str) -> str | None:
    """The output of git in the project's folder; None without git, or if git does not track this program."""
    found = run_git(ROOT, *arguments) if is_tracked(ROOT / OWN) else None
    return None if found is None else found.decode(errors="replace").strip()


def _output(*command: str) -> str | None:
    """The output of a command; None if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()
