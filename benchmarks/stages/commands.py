"""Stages `tests`, `commands` and `cells`: the tests for a GPU, the program itself, and runs worth keeping."""

import contextlib
import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from benchmarks.report import ROOT
from benchmarks.stages import Found, Work

LAUNCH = (str(ROOT / "run_ablation.py"), "--yes")


def tests(work: Work) -> Iterator[Found]:
    """pytest's summary of tests/gpu; its output is kept as tests.txt."""
    chosen = ["-m", "gpu and not slow", "tests/gpu", "-rs", "--durations", "10", "-p", "no:cacheprovider"]
    if not work.full:
        chosen += ["-k", "ieee or a_graph_computes or test_evaluation"]
    environment = {**os.environ, "RAN_TEST_DEVICE": work.device.type, "PYTHONPATH": str(ROOT)}
    path = work.kept / "tests.txt"
    with path.open("w") as output:
        status = run(["-m", "pytest", *chosen], ROOT, work.seconds - 2, output=output, environment=environment)
    lines = path.read_text().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield {"status": status, "summary": lines[-1] if lines else "", "failed": failed}


def commands(work: Work) -> Iterator[Found]:
    """Status and seconds of each command that a user would type, where MLflow is installed."""
    if importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("tyro") is None:
        yield {"skipped": "no mlflow or tyro"}
        return
    device, folder = ("--device", str(work.device)), work.scratch
    rows: list[Found] = []

    def tried(*command: str) -> Iterator[Found]:
        began = time.monotonic()
        status = run(command, folder, work.seconds)
        words = " ".join(word.replace(str(ROOT), ".").replace(f"{folder}/", "") for word in command)
        rows.append({"command": words, "status": status, "seconds": time.monotonic() - began})
        yield {"rows": rows}

    yield from tried(*LAUNCH, "--study", "smoke", "--keep", "last", *device)
    if work.full:
        one = ("--study", "arl_vs_nal", "--profile", "quick", "--cells", "depth=56", "--seeds", "0")
        yield from tried(*LAUNCH, *one, *device)
    checkpoint = next(iter(sorted(folder.glob("checkpoints/*/step-*.safetensors"))), None)
    if checkpoint is None:
        return
    for where in dict.fromkeys((str(work.device), "cpu")):
        yield from tried("-m", "experiments.evaluate", str(checkpoint), "--no-log", "--device", where)
    Image.new("RGB", (40, 30), "teal").save(folder / "image.png")
    yield from tried("-m", "experiments.predict", str(checkpoint), str(folder / "image.png"), *device)
    yield from tried("-m", "experiments.export", str(checkpoint), "--format", "safetensors")


def cells(work: Work) -> Iterator[Found]:
    """Table 3's cells, as many as fit: the tracking store is kept as cells.db, to be added to the archive."""
    if importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("tyro") is None:
        yield {"skipped": "no mlflow or tyro"}
        return
    small = ("--profile", "smoke", "--cells", "depth=56,learning=arl", "--seeds", "0", "--train.steps", "2")
    large = ("--profile", "short", "--model.width", "1", "--train.precision", "bf16", "--data.root", str(ROOT / "data"))
    if not (ROOT / "data" / "cifar-10-batches-py").is_dir():
        large += ("--data.name", "cluttershapes", "--data.image_size", "32", "--data.val_images", "500")
    began = time.monotonic()
    status = run(
        (*LAUNCH, "--study", "arl_vs_nal", *(large if work.full else small), "--device", str(work.device)),
        work.scratch, max(5.0, work.seconds - 12), gentle=True,
    )  # fmt: skip
    store, kept = work.scratch / "mlflow.db", work.kept / "cells.db"
    if store.exists():
        with contextlib.closing(sqlite3.connect(store)) as source, contextlib.closing(sqlite3.connect(kept)) as target:
            source.backup(target)  # with what is still in the write-ahead log
    yield {"status": status, "seconds": time.monotonic() - began, "kept": kept.exists()}


def run(
    command: Sequence[str], folder: Path, seconds: float, *, output: object = None, gentle: bool = False,
    environment: dict[str, str] | None = None,
) -> int | str:  # fmt: skip
    """Returns the exit status of a Python command, or "stopped" if its time was over; `gentle`: after a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, stdout=output or sys.stderr, stderr=subprocess.STDOUT,
        env=environment or {**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM if gentle else signal.SIGKILL)
        process.wait(20)
        return "stopped"
