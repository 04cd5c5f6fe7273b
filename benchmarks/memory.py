"""Peak memory of a training step, with and without activation checkpointing.

    python -m benchmarks.memory --network attention56 attention452 --batch 64

Each is measured in its own process: on the CPU the peak resident size minus that before the network was built, on CUDA
the peak of PyTorch's allocations. Two steps, because the first one creates the optimizer's state.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from benchmarks import report
from ran.engine.device import Arithmetic, device_capabilities, keep_freed_memory, pick_device
from ran.engine.optim import sgd
from ran.models.zoo import NETWORKS, create_model
from records.command import entry


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.memory", __doc__)
    parser.add_argument("--network", nargs="+", default=["attention56", "attention452"])
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--one", choices=("kept", "recomputed"), help="measure this here and print it as JSON")
    options = parser.parse_args(argv)
    if options.one:
        peak, seconds = measure(
            options.network[0], options.image_size, options.batch, options.device, options.one == "recomputed"
        )  # fmt: skip
        print(json.dumps({"peak": peak, "seconds": seconds}))
        return 0
    pick_device(options.device)
    rows = []
    for name in options.network:
        NETWORKS[name]  # raises for an unknown name
        found = {}
        for way in ("kept", "recomputed"):
            command = [
                *(
                    sys.executable,
                    "-m",
                    "benchmarks.memory",
                    "--network",
                    name,
                    "--one",
                    way,
                    "--device",
                    options.device,
                ),
                *("--image-size", str(options.image_size), "--batch", str(options.batch)),
            ]
            said = subprocess.run(command, cwd=report.ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[way] = json.loads(said.splitlines()[-1])
        kept, again = found["kept"], found["recomputed"]
        rows.append([
            name, kept["peak"] / 2**30, again["peak"] / 2**30, again["peak"] / kept["peak"], kept["seconds"],
            again["seconds"],
        ])  # fmt: skip
    report.publish(
        "benchmarks.memory", argv, options.out, report.torch_machine(options.device),
        f"Largest memory of a training step, {options.batch} images of {options.image_size}x{options.image_size}",
        ["network", "GiB, all kept", "GiB, recomputed", "recomputed / kept", "s a step, kept", "s a step, recomputed"],
        rows,
    )  # fmt: skip
    return 0


def measure(name: str, size: int, batch: int, device: str, recomputed: bool) -> tuple[int, float]:
    """Returns the peak in bytes and the seconds of the second step."""
    keep_freed_memory()
    kernels = "eager" if device_capabilities(torch.device(device)).no_kernels else "fused"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    network = create_model(name, num_classes=10).to(device).to(memory_format=torch.channels_last).train()
    network.set_grad_checkpointing(recomputed)
    optimizer = sgd(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=device)
    began = 0.0
    for _ in range(2):
        began = time.perf_counter()
        with Arithmetic(kernels=kernels).on(torch.device(device)):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    if device == "cuda":
        return torch.cuda.max_memory_allocated(), seconds
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, seconds


if __name__ == "__main__":
    entry("memory", main)
