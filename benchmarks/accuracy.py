"""Time to accuracy: Attention-56 on CIFAR-10 for some minutes of training steps, under our recipe and those of others.

    python -m benchmarks.accuracy --minutes 30 --recipes fast paper --seeds 0 --data-root data

Same network (ours, attention residual learning, full width), same augmentation, layout, precision and kernels; a recipe
is batch size, learning rate and its schedule, weight decay and label smoothing. The number of steps is what fits into
the minutes at the speed measured just before, and every schedule is stretched to it, as the others' are to their
epochs. Accuracy is that on 5,000 validation images, seen 20 times; evaluation is not on the clock.

fast          ours: one cycle to a high rate, chosen by validation error (python run_ablation.py --search recipe)
paper         section 4.1
tengshaofeng  /10 at 0.3, 0.6 and 0.9 of the steps, weight decay 1e-4
weiaicunzai   warm-up over 1/200 of the steps, /5 at 0.3, 0.6 and 0.8, weight decay 5e-4, batches of 128

Recipes with Adam (koichiro11, qubvel) are left out: the engine trains with SGD.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from ran import names
from ran.config import RunConfig, fingerprint, override
from ran.data.datasets import load_splits, open_source
from ran.engine.device import abilities, pick_device, resolve
from ran.engine.optim import SCHEDULES
from ran.engine.throughput import seconds_per_image
from ran.engine.train import train

LEVELS = (70, 80, 85, 90)
EVALUATIONS = 20
COLUMNS = [
    "recipe", "seed", "machine", "images", "minutes", "validation %", "test %", *(f"to {n} %" for n in LEVELS), "",
]  # fmt: skip
BASE = {
    "data.name": "cifar10", "data.val_images": 5_000, "train.kernels": "auto", "train.evals": EVALUATIONS,
}  # fmt: skip


@SCHEDULES.register("tengshaofeng")
def tengshaofeng(step: int, steps: int) -> float:
    """/10 at 0.3, 0.6 and 0.9 of the steps."""
    return 0.1 ** sum(10 * step >= part * steps for part in (3, 6, 9))


@SCHEDULES.register("weiaicunzai")
def weiaicunzai(step: int, steps: int) -> float:
    """Linear over the first 1/200 of the steps, then 1, /5 at 0.3, 0.6 and 0.8."""
    warm = steps / 200
    return (step + 1) / warm if step + 1 < warm else 0.2 ** sum(10 * step >= part * steps for part in (3, 6, 8))


RECIPES: dict[str, dict[str, Any]] = {
    "fast": {"optim.schedule": "one_cycle", "optim.lr": 0.2, "optim.weight_decay": 5e-4, "train.batch_size": 64},
    "paper": {"optim.schedule": "step", "optim.lr": 0.1, "optim.weight_decay": 1e-4, "train.batch_size": 64},
    "tengshaofeng": {"optim.schedule": "tengshaofeng", "optim.lr": 0.1, "optim.weight_decay": 1e-4},
    "weiaicunzai": {
        "optim.schedule": "weiaicunzai", "optim.lr": 0.1, "optim.weight_decay": 5e-4, "train.batch_size": 128,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Course:
    """One run: its minutes of training steps, and validation error by step."""

    steps: int
    batch: int
    minutes: float
    errors: dict[int, float]
    test_err: float | None
    outcome: str

    def minutes_to(self, accuracy: float) -> float | None:
        """Minutes until the accuracy in % was first seen; None if it was not."""
        reached = [step for step, err in sorted(self.errors.items()) if 100 - err >= accuracy]
        return self.minutes * reached[0] / self.steps if reached else None


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON after each run, beside what the file has of other runs; returns 0."""
    parser = report.arguments("benchmarks.accuracy", __doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", default="cifar10", help="cifar10, or cluttershapes to try it")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(argv)
    device = pick_device(options.device)
    rows: list[list[Any]] = []
    if options.out is not None and options.out.exists():  # all of them are hours: they need not be one command
        rows = json.loads(options.out.read_text())["rows"]
    for seed in options.seeds:
        for recipe in options.recipes:
            fixed = {
                "data.name": options.data,
                "data.root": options.data_root,
                "model.width": options.width,
                "seed": seed,
            }
            course = run(override(RunConfig(), {**BASE, **RECIPES[recipe], **fixed}), options.minutes, device)
            last = course.errors[max(course.errors)] if course.errors else None
            key = [recipe, seed, f"{report.processor()}, {torch.get_num_threads()} threads"]
            rows = [row for row in rows if row[:3] != key]
            rows.append([
                *key, course.steps * course.batch, course.minutes, last and 100 - last,
                course.test_err and 100 - course.test_err, *(course.minutes_to(level) for level in LEVELS),
                "" if course.outcome == names.FINISHED else course.outcome,
            ])  # fmt: skip
            report.publish(
                "benchmarks.accuracy", argv, options.out, report.torch_machine(device.type),
                f"Accuracy of Attention-56 (width {options.width:g}) on {options.data} after {options.minutes:g} "
                "minutes of training steps, and minutes until validation accuracy was seen to reach a level",
                COLUMNS,
                rows,
                ["A dash: not within the time."],
            )  # fmt: skip
    return 0


def run(config: RunConfig, minutes: float, device: torch.device) -> Course:
    """Returns the course of a run whose steps take about so long."""
    config = resolve(config, abilities(device))
    source = open_source(config.data)
    splits = load_splits(config.data, config.seed)
    seconds = seconds_per_image(
        config, num_classes=source.num_classes, image_size=source.image_size, device=device, steps=10
    ) * config.train.batch_size  # fmt: skip
    steps = max(EVALUATIONS, round(60 * minutes / seconds))
    config = override(config, {"train.steps": steps})
    errors: dict[int, float] = {}

    def log(step: int, point: dict[str, float]) -> None:
        if names.VAL_ERR in point:
            errors[step] = point[names.VAL_ERR]
            print(f"step {step}/{steps}: validation accuracy {100 - errors[step]:.2f} %", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        result = train(
            config, splits, num_classes=source.num_classes, fingerprint=fingerprint(config, source.digest),
            device=device, folder=Path(folder), log=log, checkpoint_seconds=float("inf"),
        )  # fmt: skip
    rate = result.metrics.get(names.COST_IMAGES_PER_S)
    taken = steps * config.train.batch_size / rate / 60 if rate else minutes * result.step / steps
    return Course(
        steps, config.train.batch_size, taken, errors, result.metrics.get(names.FINAL_TEST_ERR), result.outcome
    )  # fmt: skip


if __name__ == "__main__":
    report.entry(main)
