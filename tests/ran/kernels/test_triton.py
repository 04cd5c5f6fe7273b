"""The kernels for CUDA without a GPU: interpreted, compiled, and used only where they are asked for."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

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


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Names and results of what would be launched: Triton specialises and compiles each call, and launches nothing."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    made, original = [], JITFunction.run

    def run(kernel, *arguments, warmup, **options):
        made.append((kernel.fn.__name__, original(kernel, *arguments, warmup=True, **options)))

    target = GPUTarget("cuda", 90, 32)
    gpu = SimpleNamespace(
        get_current_device=lambda: 0, get_current_target=lambda: target, get_current_stream=lambda index: 0
    )  # fmt: skip
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(JITFunction, "run", run)
    driver.set_active(gpu)
    yield made
    driver.set_active(None)  # the real one is found when it is needed


@pytest.mark.parametrize(("dtype", "shape"), [
    (torch.bfloat16, (3, 70, 16, 9)),
    pytest.param(torch.float32, (3, 70, 16, 9), marks=pytest.mark.slow),
    pytest.param(torch.bfloat16, (2, 1, 3, 3), marks=pytest.mark.slow),  # numbers that are 1 become constants
], ids=str)  # fmt: skip
def test_every_call_compiles_for_a_gpu_without_atomics(dtype, shape, compiled, monkeypatch):
    """For compute capability 9.0, by Triton's own compiler and assembler."""
    from ran.kernels import channels_last_triton as kernels

    monkeypatch.setattr(kernels, "CHUNKS", 4)  # several tiles each
    x, norm = torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last), nn.BatchNorm2d(shape[1])
    weight, bias = norm.weight.detach(), norm.bias.detach()
    y, statistics = kernels.forward(x, weight, bias, norm)
    kernels.backward(y, None, x, weight, bias, statistics)
    kernels.backward(y, x, x, weight, bias, statistics)
    kernels.infer(x, norm)
    kernels.infer(x[:1, :, :1, :1].contiguous(memory_format=torch.channels_last), norm)
    backward = ["_add_gradients", "_finish_gradients", "_descend"]
    assert [name for name, _ in compiled] == [
        "_add_squares", "_finish", "_activate", *backward, *backward, "_infer", "_infer"
    ]  # fmt: skip
    for name, kernel in compiled:
        assert kernel.asm["cubin"], name
        assert not re.search(r"\b(atom|red)\.", kernel.asm["ptx"]), name


def test_auto_selects_pytorch_on_cuda():
    assert pick_kernels(TrainConfig(), CUDA) == "eager"
    assert Arithmetic.of(TrainConfig(), CUDA).kernels == "eager"
    assert pick_kernels(TrainConfig(kernels="fused"), CUDA) == "fused"


def test_kernels_are_used_on_cuda_only_if_selected():
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
