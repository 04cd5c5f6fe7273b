"""Which ways of running the same training give the same bits on this machine's CPU.

    python tests/experiments/determinism.py

Attention-56 at quarter width, 30 steps of 32 images of 32x32, by the training loop itself; each way in processes of its
own but for the first. Prints a table of which final weights agree bit by bit with those of the first run.
"""

import hashlib
import multiprocessing
import platform
import sys
import tempfile
from pathlib import Path

import torch

from ran.config import RunConfig, override
from ran.data.datasets import load_splits, open_source
from ran.engine.device import make_deterministic
from ran.engine.train import Checkpointing, TrainHooks, train

BASE = {
    "data.name": "cluttershapes", "data.train_images": 500, "data.val_images": 0, "data.test_images": 50,
    "model.width": 0.25, "train.steps": 30, "train.batch_size": 32, "train.evals": 0, "optim.schedule": "one_cycle",
}  # fmt: skip


def digest(precision: str, threads: int = 1, deterministic: bool = False, stop_at: int | None = None) -> str:
    """Trains and returns the SHA-256 of the final weights and statistics."""
    torch.set_num_threads(threads)
    if deterministic:
        make_deterministic()
    config = override(RunConfig(), {**BASE, "train.precision": precision, "train.threads": threads})
    source, splits = open_source(config.data), load_splits(config.data, config.seed)
    taken = [0]
    with tempfile.TemporaryDirectory() as folder:
        for stops in ([stop_at] if stop_at is not None else []) + [None]:
            result = train(
                config, splits,
                TrainHooks(
                    on_step=lambda step: taken.__setitem__(0, step), stop=lambda stops=stops: taken[0] == stops
                ),
                num_classes=source.num_classes, fingerprint="f" * 64, device=torch.device("cpu"),
                checkpoints=Checkpointing(Path(folder)),
            )  # fmt: skip
    content = hashlib.sha256()
    for key, value in sorted(result.network.state_dict().items()):
        content.update(key.encode() + value.contiguous().numpy().tobytes())
    return content.hexdigest()


# What differs from the first run, which has one thread; None = nothing, and it is the same process.
WAYS = {
    "the same process again": None,
    "another process": {},
    "another process, --deterministic": {"deterministic": True},
    "stopped at step 13 and continued": {"stop_at": 13},
    "2 threads": {"threads": 2},
    "2 threads, against 2 threads": {"threads": 2},
}
PRECISIONS = ("float32", "bf16")


def main() -> int:
    found: dict[str, list[str]] = {way: [] for way in WAYS}
    firsts = []
    for precision in PRECISIONS:
        firsts.append(digest(precision))
        for way, options in WAYS.items():
            if options is None:
                found[way].append(digest(precision))
            else:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    found[way].append(pool.apply(digest, (precision,), options))
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"{'against one run with 1 thread':<36}" + "".join(f"{precision:>9}" for precision in PRECISIONS))
    for way, digests in found.items():
        others = found["2 threads"] if "against" in way else firsts
        print(
            f"{way:<36}" + "".join(f"{'same' if a == b else 'other':>9}" for a, b in zip(digests, others, strict=True))
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
