"""What a run says of the machine and the way that computed it."""

import platform
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.tracking import provenance
from ran.config import RunConfig, override
from ran.distributed.group import Processes
from ran.kernels import build

CPU = torch.device("cpu")
VERSION = torch.__version__.partition("+")[0]


def config(**changes):
    return override(RunConfig(), {f"train.{key}": value for key, value in {"kernels": "eager", **changes}.items()})


def test_the_way_of_a_run_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(provenance, "processor", lambda: "AMD EPYC")
    assert provenance.how(config(), CPU) == f"cpu AVX2, 8 threads, eager, channels_last, torch {VERSION}, AMD EPYC"
    assert provenance.how(config(threads=1, kernels="fused"), CPU) == (
        f"cpu AVX2, 1 thread, fused, channels_last, torch {VERSION}, AMD EPYC"
    )
    assert provenance.how(config(channels_last=False, compile=True), CPU) == (
        f"cpu AVX2, 8 threads, eager, contiguous, compiled, torch {VERSION}, AMD EPYC"
    )
    for name, part in (("One, Two; Three", ", One Two Three"), (None, "")):  # a way's parts are between commas
        monkeypatch.setattr(provenance, "processor", lambda name=name: name)
        assert provenance.how(config(), CPU).endswith(f"torch {VERSION}{part}")


def test_a_graph_and_an_untried_device_are_named(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    found = provenance.how(config(graph="on"), torch.device("mps"))
    assert found == f"mps {platform.machine()}, 8 threads, eager, channels_last, graph, torch {VERSION}"


def test_the_way_of_several_processes_on_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    monkeypatch.setattr("ran.distributed.group.current", lambda: Processes(rank=0, world=4))
    assert provenance.how(config(threads=8), torch.device("cuda")) == (
        f"cuda NVIDIA H200, 4 processes of 8 threads, eager, channels_last, deterministic, torch {VERSION}"
    )


def test_the_machine_is_this_one():
    provenance.machine.cache_clear()
    found = provenance.machine(CPU, kernels=True)
    assert (found["host"], found["python"]) == (platform.node(), platform.python_version())
    assert (found["numpy"], found["torch"]) == (np.__version__, torch.__version__)
    assert found["instruction_set"] == torch.backends.cpu.get_cpu_capability()
    assert found["processor"]
    assert found["gpu"] is None
    assert found["torch_compiler"] in torch.__config__.show()
    assert torch.backends.mkldnn.is_available() == (found["onednn"] is not None)
    assert (found["kernels_compiler"] is None) == bool(build.why_not())


def test_kernels_are_not_built_for_a_run_without_them(monkeypatch):
    def build_now():
        raise AssertionError("a run of PyTorch's own operations needs no compiler")

    monkeypatch.setattr(build, "compiler_version", build_now)
    provenance.machine.cache_clear()
    assert provenance.machine(CPU, kernels=False)["kernels_compiler"] is None


def test_triton_compiles_the_kernels_for_cuda(monkeypatch):
    def nothing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr("importlib.metadata.version", nothing)  # PyTorch's nightly has it as pytorch-triton
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.8.0"))
    monkeypatch.setattr(provenance, "_gpu", lambda device: {})
    provenance.machine.cache_clear()
    assert provenance.machine(torch.device("cuda"), kernels=True)["kernels_compiler"] == "triton 3.8.0"
    assert provenance.machine(torch.device("cuda"), kernels=False)["kernels_compiler"] is None


CPUINFO = """processor\t: 0
model name\t: AMD EPYC 7763 64-Core Processor
model\t\t: 1

processor\t: 1
model name\t: AMD EPYC 7763 64-Core Processor
"""
ARM = """processor\t: 0
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


@pytest.mark.parametrize(("text", "expected"), [(CPUINFO, "AMD EPYC 7763 64-Core Processor"), (ARM, "ARM 0x41 0xd40")])
def test_the_processor_by_what_linux_says(text, expected, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(provenance.Path, "read_text", lambda self: text)
    assert provenance.processor() == expected


def test_the_processor_of_macos(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(provenance, "_output", lambda *command: " ".join(command))
    assert provenance.processor() == "sysctl -n machdep.cpu.brand_string"


def test_a_gpu_with_its_driver(monkeypatch):
    class Properties:
        name, major, minor, total_memory = "NVIDIA H200", 9, 0, 150_000_000_000

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(provenance, "_output", lambda *command: "580.65.06\n580.65.06")
    provenance.machine.cache_clear()
    found = provenance.machine(torch.device("cuda"), kernels=False)["gpu"]
    provenance.machine.cache_clear()
    assert found == {
        "name": "NVIDIA H200", "compute_capability": "9.0", "memory_bytes": 150_000_000_000, "driver": "580.65.06",
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
    }  # fmt: skip
