"""Where a run computes, and in which arithmetic."""

import contextlib

import torch

from ran.config import ConfigError


def pick_device(name: str = "auto") -> torch.device:
    """Returns the device of a name: auto (CUDA if there is one, else the CPU), cpu, cuda or cuda:N.

    Raises ConfigError for a name that torch does not know or a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device: valid are auto, cpu, cuda, cuda:N; got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device: valid are auto, cpu, cuda, cuda:N; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"--device {name}: this machine has {count} CUDA devices; try --device cpu")
    return device


def has_bf16(device: torch.device) -> bool:
    """Returns whether bfloat16 is native to the device, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # No public query exists. Without one of these instruction sets bf16 is emulated and slower than float32.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, query, lambda: False)() for query in queries)


def resolve_precision(precision: str, *, bf16: bool) -> str:
    """Returns "bf16" or "float32"; "auto" takes bf16 where the device has it (`bf16`)."""
    # Deviation: the paper trained in float32; bf16 autocast is the default where it is native, float32 a flag away.
    if precision == "auto":
        return "bf16" if bf16 else "float32"
    return precision


def arithmetic(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Returns the context in which the network runs: autocast for bf16, nothing for float32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def memory_format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def make_deterministic() -> None:
    """Makes CUDA choose algorithms that give the same bits each time (CPU kernels do so at equal threads)."""
    import os

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
