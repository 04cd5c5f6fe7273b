"""How long the runs of a plan will take."""

import contextlib
import math
from collections.abc import Callable

import torch

from experiments.plan import Plan, PlannedRun
from ran.data.source import Source
from ran.engine.throughput import seconds_per_image, seconds_to_read
from records.errors import DataError


def estimate_seconds(
    plan: Plan, device: torch.device, measure: Callable[..., float] = seconds_per_image, *, slowdown: float = 1.0
) -> dict[str, float]:
    """Returns the seconds that each run still to do will take, by fingerprint.

    The estimate comes from the throughput of the plan's finished runs if there are any, else from a few steps of its
    smallest network, measured by `measure` on the machine that trains. It is scaled by multiply-adds, because depth
    scales both arithmetic and overhead. Image files take at least as long as decoding them. `slowdown`: how many times
    longer a run takes beside others on its GPU than alone, as it is measured; finished runs had others beside them.
    """
    if not plan.todo:
        return {}
    rates = [
        run.stored.images_per_s * run.cost.macs
        for run in plan.runs
        if run.stored is not None and run.stored.images_per_s
    ]
    rate = sorted(rates)[len(rates) // 2] if rates else _measured_rate(plan, device, measure) / slowdown
    reading = {source: _seconds_to_read(source) for source in {run.source for run in plan.todo}}
    return {run.fingerprint: _images_left(run) * max(run.cost.macs / rate, reading[run.source]) for run in plan.todo}


def _seconds_to_read(source: Source) -> float:
    """Seconds per image; 0 if one of the images tried is damaged, which the run itself will report."""
    with contextlib.suppress(DataError):
        return seconds_to_read(source)
    return 0.0


def _measured_rate(plan: Plan, device: torch.device, measure: Callable[..., float]) -> float:
    """Multiply-adds per second of the plan's smallest network that runs; infinite if none does."""
    for run in sorted(plan.todo, key=lambda run: run.cost.macs):
        with contextlib.suppress(Exception):  # the run itself will fail, and say why
            per_image = measure(
                run.config, num_classes=run.source.num_classes, image_size=run.source.image_size, device=device
            )
            return run.cost.macs / per_image
    return math.inf


def _images_left(run: PlannedRun) -> float:
    """Images still to train on; an evaluated image counts as a third of one, since it has a forward pass only."""
    data, train = run.config.data, run.config.train
    test = run.source.test_images if data.test_images is None else min(data.test_images, run.source.test_images)
    curve = data.val_images or test
    evaluated = test + data.val_images + max(0, train.evals - 1) * curve * (1 - run.step / train.steps)
    return (train.steps - run.step) * train.batch_size + evaluated / 3
