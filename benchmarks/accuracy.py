"""Time to accuracy: Attention-56 on CIFAR-10 for some minutes of training steps, under our recipe and those of others.

    python -m benchmarks.accuracy --minutes 30 --recipes fast paper --seeds 0 --data-root data

All recipes share the network (ours, attention residual learning, full width), augmentation, layout, precision and
kernels; they differ in batch size, learning rate and schedule, weight decay and label smoothing. The number of steps is
what fits into the minutes at the speed measured just before; every schedule is scaled to it. The 2,000 validation
images are evaluated 20 times; evaluation does not count as training time.

All recipes together take hours. With --images-per-s, the speed measured before on the idle machine, runs may share the
machine with others, because results depend only on the number of steps. With --folder a stopped run resumes.

fast          ours: one cycle to 0.4, chosen by validation error (python run_ablation.py --study recipes)
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
from ran.config import RunConfig, override
from ran.data.datasets import load_splits, open_source
from ran.engine.device import device_capabilities, pick_device, resolve
from ran.engine.optim import SCHEDULES
from ran.engine.throughput import seconds_per_image
from ran.engine.train import Checkpointing, TrainHooks, train
from ran.fingerprints import fingerprint
from records import names
from records.command import entry

LEVELS = (70, 80, 85, 90)
EVALUATIONS = 20
COLUMNS = [
    "recipe", "seed", "images/s", "images", "minutes", "validation %", "test %", *(f"to {n} %" for n in LEVELS), "",
]  # fmt: skip
BASE = {
    "data.name": "cifar10", "data.val_images": 2_000, "train.kernels": "auto", "train.evals": EVALUATIONS,
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
    "fast": {"optim.schedule": "one_cycle", "optim.lr": 0.4, "optim.weight_decay": 5e-4, "train.batch_size": 64},
    "paper": {"optim.schedule": "step", "optim.lr": 0.1, "optim.weight_decay": 1e-4, "train.batch_size": 64},
    "tengshaofeng": {"optim.schedule": "tengshaofeng", "optim.lr": 0.1, "optim.weight_decay": 1e-4},
    "weiaicunzai": {
        "optim.schedule": "weiaicunzai", "optim.lr": 0.1, "optim.weight_decay": 5e-4, "train.batch_size": 128,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Course:
    """One run: number of training images seen, their rate, and validation error by images seen."""

    images: int
    images_per_s: float
    errors: dict[int, float]
    test_err: float | None
    outcome: str

    @property
    def minutes(self) -> float:
        return self.images / self.images_per_s / 60

    def minutes_to(self, accuracy: float) -> float | None:
        """Returns the minutes until the accuracy in % was first measured; None if never."""
        reached = [images for images, err in sorted(self.errors.items()) if 100 - err >= accuracy]
        return reached[0] / self.images_per_s / 60 if reached else None

    def row(self) -> list[Any]:
        """Returns its table columns, from images/s on."""
        last = self.errors[max(self.errors)] if self.errors else None
        return [
            self.images_per_s, self.images, self.minutes, last and 100 - last, self.test_err and 100 - self.test_err,
            *(self.minutes_to(level) for level in LEVELS), "" if self.outcome == names.FINISHED else self.outcome,
        ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON after each run, together with earlier rows of the file; returns 0."""
    parser = report.arguments("benchmarks.accuracy", __doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="training time of each run (default: %(default)s)")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--data", default="cifar10", help="data set: cifar10, or cluttershapes for a trial (default: cifar10)"
    )
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bf16"), default="auto", help="precision (default: auto)"
    )
    parser.add_argument("--images-per-s", type=float, help="training speed measured before (default: measure now)")
    parser.add_argument("--folder", type=Path, help="folder for checkpoints, to resume from (default: none)")
    options = parser.parse_args(argv)
    device = pick_device(options.device)
    for seed in options.seeds:
        for recipe in options.recipes:
            config = override(RunConfig(), {
                **BASE, **RECIPES[recipe], "data.name": options.data, "data.root": options.data_root,
                "model.width": options.width, "train.precision": options.precision, "seed": seed,
            })  # fmt: skip
            with tempfile.TemporaryDirectory(prefix="accuracy-") as passing:
                folder = options.folder / f"{recipe}-{seed}" if options.folder else Path(passing)
                course = run(config, options.minutes, options.images_per_s, device, folder)
            rows: list[list[Any]] = []
            if (
                options.out is not None and options.out.exists()
            ):  # read now, because another command may have written to it
                rows = [row for row in json.loads(options.out.read_text())["rows"] if row[:2] != [recipe, seed]]
            rows.append([recipe, seed, *course.row()])
            report.publish(
                "benchmarks.accuracy", argv, options.out, report.torch_machine(device.type),
                f"Accuracy of Attention-56 (width {options.width:g}) on {options.data} after {options.minutes:g} "
                "minutes of training steps, and minutes until validation accuracy was seen to reach a level",
                COLUMNS,
                sorted(rows, key=lambda row: (list(RECIPES).index(row[0]), row[1])),
                ["A dash: not within the time."],
            )  # fmt: skip
    return 0


def run(config: RunConfig, minutes: float, images_per_s: float | None, device: torch.device, folder: Path) -> Course:
    """Trains for about `minutes` at a given speed, or one measured now, and returns the run's course."""
    config = resolve(config, device_capabilities(device))
    batch = config.train.batch_size
    source = open_source(config.data)
    splits = load_splits(config.data, config.seed)
    speed = images_per_s or 1 / seconds_per_image(
        config, num_classes=source.num_classes, image_size=source.image_size, device=device, steps=10
    )  # fmt: skip
    steps = max(EVALUATIONS, round(60 * minutes * speed / batch))
    config = override(config, {"train.steps": steps})
    # Not part of a checkpoint. A step that is taken again logs its point again.
    curve = folder / "errors.json"
    errors = {int(k): v for k, v in json.loads(curve.read_text()).items()} if curve.exists() else {}

    def log(step: int, point: dict[str, float]) -> None:
        if names.VAL_ERR in point:
            errors[step * batch] = point[names.VAL_ERR]
            curve.write_text(json.dumps(errors))
            accuracy = 100 - point[names.VAL_ERR]
            print(f"step {step}/{steps}: validation accuracy {accuracy:.2f} %", file=sys.stderr, flush=True)

    folder.mkdir(parents=True, exist_ok=True)
    result = train(
        config, splits, TrainHooks(log=log), num_classes=source.num_classes,
        fingerprint=fingerprint(config, source.digest), device=device, checkpoints=Checkpointing(folder),
    )  # fmt: skip
    speed = images_per_s or result.metrics.get(names.COST_IMAGES_PER_S, speed)
    return Course(
        images=result.step * batch, images_per_s=speed, errors=errors,
        test_err=result.metrics.get(names.FINAL_TEST_ERR), outcome=result.outcome,
    )  # fmt: skip


if __name__ == "__main__":
    entry("accuracy", main)
