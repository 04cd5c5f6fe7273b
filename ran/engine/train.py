"""The training loop of one run, flat: batch, rate, forward, backward, step, then logging, evaluation and checkpoints.

Resume: weights, momentum, the open log window and the step come from the checkpoint; order, augmentation and learning
rate are functions of the step. So a run that was stopped at any step ends with the same bits as one that was not.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ran.config import RunConfig
from ran.data.datasets import Splits
from ran.distributed import micro_batches
from ran.distributed.group import ALONE, Processes
from ran.engine import checkpoint, resume
from ran.engine.checkpoint import Header
from ran.engine.compiled import compiled
from ran.engine.device import Arithmetic, uses_graph
from ran.engine.evaluate import Stopped
from ran.engine.optim import SCHEDULES, sgd
from ran.engine.scoring import LogWindow, Scoring, not_finite
from ran.engine.setup import load_data, make_network, prepare_process
from ran.engine.step import StaticStep, TrainStep
from ran.engine.throughput import Stopwatch
from ran.rng import stream_seed
from records import names


@dataclass(frozen=True)
class TrainHooks:
    """What the caller of `train` does during a run. Of several processes only the first one's logs and saves count."""

    log: Callable[[int, dict[str, float]], None] = lambda step, values: None
    """receives the optimizer steps taken and metrics by name; a repeated step is logged again, with the same values"""
    flush: Callable[[], object] = lambda: None
    """called before each checkpoint: what was logged must be safe before its steps become permanent"""
    after_save: Callable[[], object] = lambda: None
    """called after each checkpoint"""
    on_step: Callable[[int], None] = lambda step: None
    """receives the number of steps taken, after each step"""
    stop: Callable[[], bool] = lambda: False
    """whether to stop; asked before each step and each batch of an evaluation, and any process's answer stops all"""


@dataclass(frozen=True)
class Checkpointing:
    """Where and how often a run saves its state."""

    folder: Path
    seconds: float = 60.0
    """time between two checkpoints; the first ones come sooner, see `interval`"""
    keep: int | None = checkpoint.KEEP
    """number of checkpoints to keep; None = all"""

    def interval(self, trained: float) -> float:
        """Returns the time from a checkpoint to the next one, after `trained` seconds of this attempt.

        It doubles from a twelfth of `seconds`, so that a process that is killed again and again still makes progress.
        """
        return min(self.seconds, max(self.seconds / 12, trained))


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    outcome: str
    """names.FINISHED, DIVERGED or KILLED"""
    step: int
    """optimizer steps taken; of a divergence, the last step of the log window in which it was noticed"""
    network: nn.Module
    metrics: dict[str, float]
    """final errors and losses (finished only) and cost"""
    reason: str = ""
    """why it diverged or was killed, one line"""
    correct: Tensor | None = None
    """bool (N,), on the CPU: whether each test image is classified right, in the order of the set; finished only"""


def log_interval(steps: int) -> int:
    """Returns after how many steps the loss is read, logged and tested for finiteness: 50 points, 100 steps at most."""
    return max(1, min(100, steps // 50))


def train(
    config: RunConfig, splits: Splits, hooks: TrainHooks, *, num_classes: int, fingerprint: str, device: torch.device,
    checkpoints: Checkpointing, processes: Processes = ALONE,
) -> Result:  # fmt: skip
    """Trains one run until it ends, diverges or is stopped, from its newest checkpoint if it has one.

    The precision of the config must be resolved. Several `processes` call it alike. A loss or weight that is
    not finite ends the run within `log_interval` steps. Raises CheckpointError for a checkpoint of another
    configuration, DataError for a damaged image file or a label not among `num_classes`, ConfigError for kernels that
    cannot be built, WriteError if no checkpoint can be written, and with several processes AbandonedError or LostError.
    """
    t, o, steps = config.train, config.optim, config.train.steps
    prepare_process(config, device)
    share = micro_batches.share_of(processes, t.batch_size, t.micro_batch or t.batch_size)
    stop, arithmetic = processes.synced_stop(hooks.stop), Arithmetic.of(t, device)
    network = make_network(config, num_classes, device, processes)
    rate = torch.tensor(o.lr, device=device)  # a tensor, which a CUDA graph reads anew in each step
    optimizer = sgd(network.parameters(), lr=rate, momentum=o.momentum, weight_decay=o.weight_decay)
    schedule = SCHEDULES[o.schedule]
    data = load_data(config, splits, num_classes, device)
    scoring = Scoring(network=network, data=data, arithmetic=arithmetic, stop=stop, processes=processes)
    window = LogWindow(device, clean=data.true_labels is not None)
    log_every, eval_every = log_interval(steps), math.ceil(steps / t.evals) if t.evals else steps + 1

    found = resume.load(processes, checkpoints.folder, fingerprint, network, optimizer, window.sums)
    header = found or Header(fingerprint=fingerprint, step=0, seconds=0.0)
    evaluation_due = header.evaluation_due and header.step % eval_every == 0
    forward: Any = compiled(network) if t.compile else network
    forward, own_micro_batches = micro_batches.assign_micro_batches(processes, network, forward, window.sums, share)
    train_step = TrainStep(
        config=config, data=data, forward=forward, optimizer=optimizer, window=window, arithmetic=arithmetic,
        size=share.size, assign=own_micro_batches,
    )  # fmt: skip
    take_step = StaticStep(train_step, device) if uses_graph(t) else train_step
    began, cpu_began = time.monotonic(), time.process_time()
    saved = began
    watch = Stopwatch(device)

    def spent() -> tuple[float, float]:
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
        return header.seconds + seconds, header.cpu_seconds + cpu_seconds

    def save(step: int) -> None:
        if processes.leads:
            hooks.flush()
            seconds, cpu_seconds = spent()
            current = Header(
                fingerprint=fingerprint,
                step=step,
                seconds=seconds,
                evaluation_due=evaluation_due,
                cpu_seconds=cpu_seconds,
            )
            checkpoint.save(checkpoints.folder, current, network, optimizer, window.sums, checkpoints.keep)
            hooks.after_save()

    def result(outcome: str, step: int, reason: str = "", metrics: dict[str, float] | None = None) -> Result:
        seconds, cpu_seconds = spent()
        cost = {names.COST_HOURS: seconds / 3600, names.COST_CPU_HOURS: cpu_seconds / 3600}
        return Result(outcome=outcome, step=step, network=network, metrics=(metrics or {}) | cost, reason=reason)

    if found is None and splits.noise is not None:
        hooks.log(0, {names.NOISE_RATE: splits.noise.rate})
    for step in range(header.step, steps):
        # Before `stop`, a collective call: a damaged file found by one process must end the run in all.
        inputs = data.fetch(step, share.positions)
        try:
            if stop():
                raise Stopped
            if evaluation_due:  # after its step's checkpoint, so that a run killed during it repeats only this
                with watch.paused():
                    score = scoring.score(scoring.curve)
                    # A diverged run ends at its next log point; not logged here: trackers cannot store infinity.
                    if math.isfinite(score.loss) and processes.leads:
                        hooks.log(step, scoring.curve_point(score))
                evaluation_due = False
        except Stopped:
            save(step)
            return result(names.KILLED, step, f"stopped at step {step}/{steps}")
        lr = o.lr * schedule(step, steps)
        rate.fill_(lr)
        torch.manual_seed(stream_seed(config.seed, "layers", step, processes.rank))  # for a user's dropout and the like
        take_step(*inputs)  # batch, forward, loss, backward, sums of the window, SGD
        done = step + 1
        hooks.on_step(done)
        if done % log_every == 0 or done == steps:
            with watch.paused():
                point = window.point(done - step // log_every * log_every, t.batch_size, lr)
                if what := not_finite(point[names.TRAIN_LOSS], network):
                    return result(names.DIVERGED, done, f"{what} not finite by step {done}")
                hooks.log(done, point)
                window.reset()
        evaluation_due = done % eval_every == 0 and done < steps
        if done == steps or time.monotonic() - saved >= checkpoints.interval(saved - began):
            with watch.paused():
                save(done)
            saved = time.monotonic()

    try:
        final = scoring.final()
    except Stopped:  # the last step's checkpoint exists
        return result(names.KILLED, steps, f"stopped in the evaluation after step {steps}/{steps}")
    metrics = final.metrics
    if not all(math.isfinite(v) for v in metrics.values()):
        return result(names.DIVERGED, steps, f"final losses not finite at step {steps}")
    if t.evals and processes.leads:
        hooks.log(steps, scoring.curve_point(final.curve))
    if header.step < steps:
        metrics[names.COST_IMAGES_PER_S] = (steps - header.step) * t.batch_size / watch.seconds
    return replace(result(names.FINISHED, steps, metrics=metrics), correct=final.test.correct.cpu())
