"""The kernels for CUDA without a GPU: interpreted, compiled, and used only where they are asked for."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ran.config import ConfigError, RunConfig, TrainConfig
from ran.engine.device import Arithmetic, DeviceCapabilities, no_kernels, pick_kernels, resolve
from ran.kernels import ops

triton = pytest.importorskip("triton")

CUDA = torch.device("cuda")
ROOT = Path(__file__).parents[3]


def interpreted(marker):
    """Runs the cases in a process of their own; fails if one fails or there is none."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", marker]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("triton_cases.py"))],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]


def test_the_interpreter_computes_what_pytorch_does():
    interpreted("not slow")


@pytest.mark.slow
def test_the_interpreter_computes_large_maps_and_a_network():
    interpreted("slow")


F32, TILE, STAGE_TWO = "*fp32", {"ROWS": 32, "COLUMNS": 64}, {"DEPTH": 32, "COLUMNS": 16}
SIZES = ("i32", "i32")
STATISTICS = {"affine": (F32, F32), "statistics": F32, "sizes": SIZES}
NORM = {"EPS": 1e-5}
KERNELS = {
    "_add_squares": ({"x": "T", "sums": F32, "sizes": SIZES, "tiles": "i32"}, TILE),
    "_finish": (
        {"x": "T", "sums": F32, "running": (F32, F32), "statistics": F32, "sizes": (*SIZES, "i32")},
        STAGE_TWO | NORM | {"MOMENTUM": 0.1},
    ),
    "_activate": ({"x": "T", "y": "T"} | STATISTICS, TILE),
    "_infer": ({"x": "T", "y": "T", "tables": (F32,) * 4, "sizes": SIZES}, TILE | NORM),
    "_add_gradients": ({"maps": ("T", "T"), "sums": F32, "tiles": "i32"} | STATISTICS, TILE),
    "_finish_gradients": ({"sums": F32, "statistics": F32, "gradients": (F32, F32), "sizes": SIZES}, STAGE_TWO),
    "_descend": ({"maps": ("T",) * 4, "gradients": (F32, F32)} | STATISTICS, TILE | {"PASSED": True}),
}  # fmt: skip


@pytest.mark.parametrize("element", [pytest.param("*fp32", marks=pytest.mark.slow), "*bf16"])
def test_every_kernel_compiles_for_a_gpu_and_has_no_atomics(element, tmp_path, monkeypatch):
    """For compute capability 9.0, by Triton's own compiler and assembler. Nothing is launched."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ran.kernels import channels_last_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for name, (types, constants) in KERNELS.items():
        kernel = getattr(channels_last_triton, name)
        names = kernel.arg_names
        assert set(names) == {*types, *constants}, name

        def typed(value):
            return tuple(map(typed, value)) if isinstance(value, tuple) else element if value == "T" else value

        source = ASTSource(
            kernel, {key: typed(types.get(key, "constexpr")) for key in names},
            {(names.index(key),): value for key, value in constants.items()}, {},
        )  # fmt: skip
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        assert made.asm["cubin"], name
        assert not re.search(r"\b(atom|red)\.", made.asm["ptx"]), name


def test_auto_is_pytorchs_on_cuda():
    assert pick_kernels(TrainConfig(), CUDA) == "eager"
    assert Arithmetic.of(TrainConfig(), CUDA).kernels == "eager"
    assert pick_kernels(TrainConfig(kernels="fused"), CUDA) == "fused"


def test_on_cuda_only_what_is_asked_for_is_selected():
    x = SimpleNamespace(device=CUDA)
    assert not ops._selected(x), "a network of create_model"
    for fused in (True, False):
        with ops.using(fused):
            assert ops._selected(x) == fused
    with ops.using(True):
        assert not ops._selected(SimpleNamespace(device=torch.device("meta")))


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    ops.why_no_triton.cache_clear()
    yield
    ops.why_no_triton.cache_clear()


def test_a_gpu_with_triton_has_the_kernels(a_gpu):
    assert no_kernels(CUDA) == ""
    assert Arithmetic.of(TrainConfig(kernels="fused"), CUDA).kernels == "fused"


def test_a_gpu_that_is_too_old(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ConfigError, match=r"fused: Triton needs a GPU of compute capability 8.0, this one has 7.5"):
        Arithmetic.of(TrainConfig(kernels="fused"), CUDA)


def test_without_triton(a_gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "ran.kernels.channels_last_triton", raising=False)
    monkeypatch.delattr("ran.kernels.channels_last_triton", raising=False)
    reason = no_kernels(CUDA)
    assert reason.startswith("on CUDA they need triton: pip install triton")
    config = RunConfig(train=TrainConfig(kernels="fused", precision="float32"))
    with pytest.raises(ConfigError, match="on CUDA they need triton"):
        resolve(config, DeviceCapabilities(no_kernels=reason))
    with pytest.raises(ImportError, match="pip install triton"):
        ops._triton()


def test_switched_off(a_gpu, monkeypatch):
    monkeypatch.setenv("RAN_KERNELS", "0")
    assert no_kernels(CUDA) == "RAN_KERNELS=0"
    assert not ops._undisturbed(SimpleNamespace(device=CUDA))
