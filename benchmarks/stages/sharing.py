"""Stage `sharing`: several processes that train on one GPU at once, also under NVIDIA's Multi-Process Service."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import torch

from benchmarks.stages import Found, Work
from ran.engine.device import synchronize
from ran.engine.train import TrainHooks

COUNTS = (1, 2, 4, 8)
SECONDS = 6.0
BEFORE = 10


def sharing(work: Work) -> Iterator[Found]:
    """Steps per second of 1, 2, 4 and 8 processes of Attention-92 together."""
    rows: list[Found] = []
    control = shutil.which("nvidia-cuda-mps-control") if work.full else None
    for service in (False, *([True] if control else [])):
        with mps(work) if service else contextlib.nullcontext({}) as environment:
            for count in COUNTS if work.full else COUNTS[1:2]:
                rates = together(work, count, environment)
                rows.append({"processes": count, "mps": service, "steps_per_s": sum(rates), "each": rates})
                yield {"rows": rows, "mps": "tried" if control else "not here"}


@contextlib.contextmanager
def mps(work: Work) -> Iterator[dict[str, str]]:
    """Runs the service of this user in the block; yields the environment of its clients."""
    folders = {key: str(work.scratch / key) for key in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")}
    for folder in folders.values():
        os.mkdir(folder)
    environment = {**os.environ, **folders}
    subprocess.run(["nvidia-cuda-mps-control", "-d"], env=environment, check=True, timeout=10)
    try:
        yield folders
    finally:
        subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", env=environment, text=True, timeout=10)


def together(work: Work, count: int, environment: dict[str, str]) -> list[float]:
    """Returns the steps per second of each of `count` processes that begin to measure at the same moment."""
    command = [sys.executable, "-m", "benchmarks.stages", "one_of_several", "--device", str(work.device)]
    command += ["--seconds", str(SECONDS if work.full else 0.5), "--kept", str(work.kept)]
    members = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        for _ in range(count)
    ]
    try:
        for member in members:
            assert member.stdout is not None
            if member.stdout.readline() != "ready\n":
                raise RuntimeError("a process did not come to its first steps")
        for member in members:
            assert member.stdin is not None
            member.stdin.write("go\n")
            member.stdin.flush()
        return [float(member.communicate(timeout=SECONDS + 30)[0].split()[-1]) for member in members]
    finally:
        for member in members:
            member.kill()


def one_of_several(work: Work) -> None:
    """Says "ready" after a few steps, waits for a line, trains for `work.seconds`, and prints its steps per second."""
    began, taken, rate = [0.0], [0], [0.0]
    before = BEFORE if work.full else 2

    def on_step(step: int) -> None:
        if step == before:
            synchronize(work.device)
            print("ready", flush=True)
            sys.stdin.readline()
            began[0] = time.perf_counter()
        elif step > before and time.perf_counter() - began[0] >= work.seconds:
            synchronize(work.device)
            taken[0] = step - before
            rate[0] = taken[0] / (time.perf_counter() - began[0])

    torch.set_num_threads(1)
    work.train(work.config("attention92"), TrainHooks(on_step=on_step, stop=lambda: rate[0] > 0))
    print(rate[0], flush=True)
