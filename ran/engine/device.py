"""The device that a run computes on, and the arithmetic that it uses there."""

import contextlib
import ctypes
import functools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ran.config import ConfigError, RunConfig, TrainConfig
from ran.kernels import build, ops

UNTRIED = ("mps", "xpu")
"""devices that are accepted by name, on which nothing here has ever run"""
OF_BF16 = (8, 0)
"""the least compute capability of a GPU with bfloat16"""
OF_TRITON = (8, 0)
"""the least compute capability of a GPU that Triton supports"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceCapabilities:
    """Properties of a device that decide the arithmetic of a run, and how many share a GPU."""

    bf16: bool = False
    """whether bfloat16 is native, and so faster than float32"""
    tf32: bool = False
    """whether there is TensorFloat-32, which has float32's range and bfloat16's precision"""
    memory: int | None = None
    """bytes of a GPU's memory; None of a CPU"""
    no_kernels: str = "not looked for"
    """why our own kernels cannot be used; "" if they can"""


def pick_device(name: str = "auto") -> torch.device:
    """Returns the device of a name: auto (CUDA if there is one, else the CPU), cpu, cuda, cuda:N, mps or xpu.

    Warns of a device that nothing here was tried on. Raises ConfigError for a name that is none of these and for a
    device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _not_a_device(name) from None
    if device.type not in ("cpu", "cuda", *UNTRIED):
        raise _not_a_device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"--device {name}: this machine has {count} CUDA devices; try --device cpu")
    if device.type in UNTRIED:
        if not _is_accelerator(device):
            raise ConfigError(f"--device {name}: this machine has no {device.type} device; try --device cpu")
        _say_untried(device.type)
    return device


def _not_a_device(name: str) -> ConfigError:
    return ConfigError(f"--device: valid are auto, cpu, cuda, cuda:N, {', '.join(UNTRIED)}; got {name!r}")


def _is_accelerator(device: torch.device) -> bool:
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return here is not None and here.type == device.type and (device.index or 0) < torch.accelerator.device_count()


@functools.cache
def _say_untried(kind: str) -> None:
    logger.warning("--device %s: accepted, but nothing was ever tried on one; bits are promised on cpu and cuda", kind)


def synchronize(device: torch.device) -> None:
    """Waits until a device has done what it was given; a CPU always has."""
    if device.type in ("cuda", *UNTRIED):
        torch.accelerator.synchronize(device)


def has_bf16(device: torch.device) -> bool:
    """Returns whether bfloat16 is native to the device, so that it is faster than float32."""
    if device.type == "cuda":
        # Of this device: torch.cuda.is_bf16_supported asks the current one.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= OF_BF16
    if device.type != "cpu":
        return False
    # No public query exists. Without one of these instruction sets bf16 is emulated and slower than float32.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, query, lambda: False)() for query in queries)


def device_capabilities(device: torch.device, *, kernels: bool = True) -> DeviceCapabilities:
    """Returns the capabilities of a device of this machine. `kernels`: check for our kernels, which may build them."""
    found = DeviceCapabilities(bf16=has_bf16(device))
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        found = replace(found, tf32=torch.cuda.get_device_capability(device) >= (8, 0), memory=memory)
    return replace(found, no_kernels=no_kernels(device)) if kernels else found


def no_kernels(device: torch.device) -> str:
    """Returns why our own kernels cannot be used on a device of this machine, "" if they can. May build them."""
    if device.type == "cpu":
        return build.why_not()
    if device.type != "cuda":
        return "they are for the CPU and for CUDA"
    capability = torch.cuda.get_device_capability(device)
    if capability < OF_TRITON:
        needed, found = (".".join(map(str, numbers)) for numbers in (OF_TRITON, capability))
        return f"Triton needs a GPU of compute capability {needed}, this one has {found}"
    return ops.why_no_triton()


def pick_kernels(train: TrainConfig, device: torch.device) -> str:
    """Returns the kernels that a run asks for: of "auto" ours on a CPU where they can be used, else PyTorch's.

    On CUDA "auto" is PyTorch's, because ours were never measured there.
    """
    if train.kernels != "auto":
        return train.kernels
    fits = train.channels_last and not train.compile and device.type == "cpu"
    return "fused" if fits and not no_kernels(device) else "eager"


def uses_graph(train: TrainConfig) -> bool:
    """Returns whether a run takes its steps as one CUDA graph, or on a CPU in the same way without a graph.

    "auto" is off until a run on CUDA has shown that a graph computes the bits of eager steps.
    """
    return train.graph == "on"


def resolve(config: RunConfig, capabilities: DeviceCapabilities) -> RunConfig:
    """Returns the config with the precision "auto" resolved: bf16 where it is native, else float32.

    Raises ConfigError if the config asks for a precision or for kernels that the device lacks.
    """
    t = config.train
    # Deviation: the paper trained in float32; profile paper takes bf16 autocast where it is native, unless
    # `--train.precision float32` is given.
    precision = ("bf16" if capabilities.bf16 else "float32") if t.precision == "auto" else t.precision
    if precision == "tf32" and not capabilities.tf32:
        raise ConfigError("train.precision=tf32: the device has none; valid here are auto, bf16, float32")
    if t.kernels == "fused":
        _check_kernels(capabilities.no_kernels)
    return replace(config, train=replace(t, precision=precision))


def _check_kernels(reason: str) -> None:
    if reason:
        raise ConfigError(f"train.kernels=fused: {reason}; auto uses them only if they work")


@dataclass(frozen=True)
class Arithmetic:
    """Number format, kernels and memory layout of a network's forward and backward passes."""

    precision: str = "float32"
    """float32 (IEEE), tf32, or bf16 (autocast)"""
    kernels: str = "eager"
    """eager (PyTorch's operations) or fused (our own)"""
    channels_last: bool = True
    """whether the layout in memory is NHWC"""

    @classmethod
    def of(cls, train: TrainConfig, device: torch.device) -> "Arithmetic":
        """Returns the arithmetic of a run on a device of this machine; its precision must be resolved.

        Raises ConfigError for kernels that cannot be used here.
        """
        if train.kernels == "fused":
            _check_kernels(no_kernels(device))
        return cls(
            precision=train.precision, kernels=pick_kernels(train, device), channels_last=train.channels_last
        )  # fmt: skip

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @contextlib.contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """Runs the network's operations in the block in this precision, with these kernels.

        On CUDA the meaning of float32 and the choice of algorithms stay set after the block, for the backward pass.
        """
        bf16 = self.precision == "bf16"
        if device.type == "cuda":
            _set_cuda(tf32=self.precision == "tf32")
        autocast = torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()
        with autocast, ops.using(self.kernels == "fused"):
            yield


def keep_freed_memory() -> None:
    """Makes glibc reuse freed memory in this process; does nothing with other C libraries.

    By default glibc returns large tensors to the operating system, which clears each page before it is used again. With
    this setting the process keeps its memory until it ends.
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or not glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD: its largest value
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def _set_cuda(*, tf32: bool) -> None:
    """Makes float32 IEEE or TF32 on CUDA, and the same operations give the same bits each time."""
    # torch's own default for convolutions is tf32. The compiler and libraries read the older settings too, which raise
    # unless they agree with the newer, so both are set, for products and for both kinds of operations of cuDNN.
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    float32 = "tf32" if tf32 else "ieee"
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = float32  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False  # it chooses algorithms by their time
    # Of a fixed size, read at the first matrix product: cuBLAS chooses its algorithms by the size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def make_deterministic() -> None:
    """Makes torch refuse operations whose bits can differ from call to call on CUDA, such as those of a user's mask.

    Networks of this project have none (docs/reliability.md), so they compute the same bits with and without it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else torch refuses matrix products
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a check for programs that read such memory
