"""Stages `machine`, `speed` and `profile`: what the machine is, and where the time of a step goes."""

import importlib.util
import resource
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import report
from benchmarks.stages import Found, Work
from ran.config import RunConfig
from ran.engine.device import device_capabilities, no_kernels, synchronize
from ran.engine.train import TrainHooks

WAYS: dict[str, dict[str, Any]] = {
    "float32": {"train__precision": "float32"},
    "bf16": {"train__precision": "bf16"},
    "float32 graph": {"train__precision": "float32", "train__graph": "on"},
    "bf16 graph": {"train__precision": "bf16", "train__graph": "on"},
    "float32 fused": {"train__precision": "float32", "train__kernels": "fused"},
    "bf16 fused": {"train__precision": "bf16", "train__kernels": "fused"},
    "bf16 graph fused": {"train__precision": "bf16", "train__graph": "on", "train__kernels": "fused"},
}
"""ways to train; `fused` means the kernels of this kind of device, on the CPU those for the CPU"""
NETWORKS = ("attention56", "attention92", "attention164")
BEFORE, MEASURED = 10, 30
"""steps before and between the two synchronisations"""


def machine(work: Work) -> Iterator[Found]:
    """GPU, driver, versions, and the precision of float32."""
    capabilities = device_capabilities(work.device, kernels=False)
    found: Found = {
        "machine": report.machine(), "torch": torch.__version__, "bf16": capabilities.bf16, "tf32": capabilities.tf32,
        "triton": importlib.util.find_spec("triton") is not None,
        "mlflow": importlib.util.find_spec("mlflow") is not None,
        "conv_float32": torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "matmul_float32": torch.backends.cuda.matmul.fp32_precision,
    }  # fmt: skip
    if work.full:
        query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
        found |= {
            "gpu": torch.cuda.get_device_name(work.device), "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), "memory": capabilities.memory,
            "driver": subprocess.run(query, capture_output=True, text=True).stdout.strip(),
        }  # fmt: skip
    yield found


def speed(work: Work) -> Iterator[Found]:
    """Steps per second of the training loop and its peak memory, by network and way; why one was skipped."""
    rows: list[Found] = []
    lacking = no_kernels(work.device)
    cases = [(name, *way) for way in WAYS.items() for name in (NETWORKS if work.full else NETWORKS[:1])]
    if work.full:
        cases.append((NETWORKS[0], "bf16 compiled", {"train__precision": "bf16", "train__compile": True}))
    for name, way, settings in cases:
        config = work.config(name, **settings)
        row: Found = {"network": config.model.name, "way": way}
        try:
            skipped = lacking and config.train.kernels == "fused"
            row |= {"skipped": lacking} if skipped else steps_per_second(work, config)
        except Exception as error:  # the others may work
            row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        rows.append(row)
        yield {"rows": rows}


def steps_per_second(work: Work, config: RunConfig) -> Found:
    """Returns steps and images per second, and the peak memory in GiB."""
    before, measured = (BEFORE, MEASURED) if work.full else (4, 2)
    times: dict[int, float] = {}

    def on_step(step: int) -> None:
        if step in (before, before + measured):
            synchronize(work.device)
            times[step] = time.perf_counter()

    if work.full:
        torch.cuda.reset_peak_memory_stats()
    work.train(config, TrainHooks(on_step=on_step, stop=lambda: before + measured in times))
    rate = measured / (times[before + measured] - times[before])
    peak = torch.cuda.max_memory_allocated() if work.full else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"steps_per_s": rate, "images_per_s": rate * config.train.batch_size, "peak_gib": peak / 2**30}


def profiled(work: Work) -> Iterator[Found]:
    """Launches, busy time and the longest operations of one step of Attention-92."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if work.full else [])]
    observed = profile(activities=kinds)
    begin, taken = BEFORE if work.full else 2, [0.0, 0.0]

    def on_step(step: int) -> None:
        if step == begin:
            synchronize(work.device)
            observed.start()
            taken[0] = time.perf_counter()
        elif step == begin + 1:
            taken[1] = time.perf_counter()
            synchronize(work.device)
            observed.stop()

    work.train(work.config("attention92"), TrainHooks(on_step=on_step, stop=lambda: taken[1] > 0))
    averages = observed.key_averages()
    kernels = [event for event in observed.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    key = "self_device_time_total" if work.full else "self_cpu_time_total"
    longest = sorted(averages, key=lambda event: -getattr(event, key))[:20]
    (work.kept / "profile.txt").write_text(averages.table(sort_by=key, row_limit=40))
    yield {
        "network": work.config("attention92").model.name,
        "operations": sum(event.count for event in averages), "kernels": len(kernels),
        "busy_ms": sum(event.device_time_total for event in kernels) / 1e3, "host_ms": 1e3 * (taken[1] - taken[0]),
        "longest": [{"name": e.key, "count": e.count, "ms": getattr(e, key) / 1e3} for e in longest],
    }  # fmt: skip
