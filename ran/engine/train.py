"""The training loop of one run, flat: batch, rate, forward, backward, step, then what happens every n steps.

Resume: weights, momentum, the open log window and the step come from the checkpoint; order, augmentation and learning
rate are functions of the step; so a run that was stopped anywhere ends with the bits of one that was not.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ran.config import RunConfig
from ran.data.datasets import Splits
from ran.data.image_folder.reader import set_workers
from ran.data.loader import train_batches
from ran.distributed import micro_batches
from ran.distributed.group import ALONE, Processes
from ran.engine import checkpoint, resume
from ran.engine.checkpoint import Header
from ran.engine.device import Arithmetic, abilities, check_kernels, keep_freed_memory
from ran.engine.evaluate import Score, Stopped, evaluate, memorisation, predict
from ran.engine.optim import SCHEDULES, sgd
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from ran.probe import stage_responses
from records import names

RESPONSE_IMAGES = 250  # of the curve's split: what Figure 4's probe costs at each evaluation is a tenth of the latter
Log = Callable[[int, dict[str, float]], None]
"""(optimizer steps taken, metrics by name)"""


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


def log_interval(steps: int) -> int:
    """Returns after how many steps the loss is read, logged and tested for finiteness: 50 points, 100 steps at most."""
    return max(1, min(100, steps // 50))


def train(
    config: RunConfig,
    splits: Splits,
    *,
    num_classes: int,
    fingerprint: str,
    device: torch.device,
    folder: Path,
    log: Log,
    flush: Callable[[], object] = lambda: None,
    after_save: Callable[[], object] = lambda: None,
    on_step: Callable[[int], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 60.0,
    keep: int | None = checkpoint.KEEP,
    processes: Processes = ALONE,
) -> Result:
    """Trains one run to its end, its divergence or until `stop()`, continuing from a checkpoint in `folder` if any.

    `config.train.precision` and `.kernels` are resolved. `flush` is called before each checkpoint: what was logged must
    be safe before its steps become permanent, and a point of a step that is taken again is logged again, with the same
    value. `after_save` is called after each. `stop` is asked before each step and before each batch of an evaluation. A
    loss or weight that is not finite ends the run within `log_interval` steps, 100 at most. Raises CheckpointError for
    a checkpoint of another configuration, DataError for a damaged image file and classes of images that are not among
    `num_classes`, ConfigError for kernels that cannot be built and WriteError where no
    checkpoint can be written.

    Several `processes` call it alike; the first one's `folder`, `log`, `flush` and `after_save` are used, any one's
    `stop` stops all, and it raises AbandonedError and LostError besides.
    """
    t, steps = config.train, config.train.steps
    # Another machine than the one that planned the run may lack them.
    check_kernels(t.kernels, abilities(device, kernels=t.kernels == "fused"))
    keep_freed_memory()
    if t.threads is not None:
        torch.set_num_threads(t.threads)
    set_workers(config.data.workers)
    share = micro_batches.share_of(processes, t.batch_size, t.micro_batch or t.batch_size)
    stop = processes.agreed(stop)
    arithmetic = Arithmetic.of(t)
    layout = arithmetic.memory_format

    network = build(config_spec(config.model), num_classes=num_classes)
    initialize(network, config.seed)
    if processes.sync_batchnorm:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network, processes.data)
    network.to(device).to(memory_format=layout).train()
    network.set_grad_checkpointing(t.recompute)
    o = config.optim
    optimizer = sgd(network.parameters(), lr=o.lr, momentum=o.momentum, weight_decay=o.weight_decay)
    schedule = SCHEDULES[o.schedule]

    pixels = splits.pixels.to(device)
    data = {name: getattr(splits, name).to(device) for name in ("train", "val", "test")}
    for images in data.values():
        images.check_classes(num_classes)
    noise = splits.noise
    true_labels = None if noise is None else noise.true_labels.to(device)
    train_images, train_labels = data["train"].images, data["train"].labels
    # With label noise a batch has two labels an image: the one trained on and the true one.
    labels_of = train_labels if true_labels is None else torch.stack((train_labels, true_labels), 1)
    batches = train_batches(train_images, labels_of, pixels, batch_size=t.batch_size, seed=config.seed)

    # The paper's protocol holds nothing out; only then is a curve drawn over the test set.
    curve = "val" if len(splits.val) else "test"

    def score(split: str) -> Score:
        return evaluate(
            network, data[split].images, data[split].labels, pixels, arithmetic, stop=stop, processes=processes
        )

    def response() -> dict[str, float]:
        with arithmetic.on(device):
            stages = stage_responses(network, data[curve].images[:RESPONSE_IMAGES], pixels)
        return {names.RESPONSE.format(i): value for i, value in enumerate(stages, 1)}

    curve_names = {"val": (names.VAL_LOSS, names.VAL_ERR), "test": (names.TEST_LOSS, names.TEST_ERR)}[curve]

    def log_curve(step: int, now: Score) -> None:
        if processes.leads:
            log(step, dict(zip(curve_names, (now.loss, now.err), strict=True)) | _finite(response()))

    log_every = log_interval(steps)
    eval_every = math.ceil(steps / t.evals) if t.evals else steps + 1

    window = {"loss": torch.zeros((), device=device), "wrong": torch.zeros((), device=device)}
    if true_labels is not None:
        window["wrong_clean"] = torch.zeros((), device=device)
    found = resume.load(processes, folder, fingerprint, network, optimizer, window)
    header = found or Header(fingerprint, 0, 0.0)
    start, spent = header.step, header.seconds
    evaluation_due = header.evaluation_due and start % eval_every == 0
    forward, deal = micro_batches.dealt(
        processes, network, torch.compile(network) if t.compile else network, window, share
    )
    began = saved = time.monotonic()

    def save(step: int) -> None:
        if not processes.leads:
            return
        flush()
        header = Header(fingerprint, step, spent + time.monotonic() - began, evaluation_due)
        checkpoint.save(folder, header, network, optimizer, window, keep)
        after_save()

    def result(outcome: str, step: int, metrics: dict[str, float], reason: str = "") -> Result:
        seconds = time.monotonic() - began
        cost = {names.COST_HOURS: (spent + seconds) / 3600}
        return Result(outcome, step, network, metrics | cost, reason)

    if found is None and noise is not None:
        log(0, {names.NOISE_RATE: noise.rate})
    training_seconds = 0.0
    for step in range(start, steps):
        tick = time.monotonic()
        # Before `stop`, in which all processes meet: a damaged file that one of them finds must end it in all.
        images, labels = batches(step, share.positions)
        training_seconds += time.monotonic() - tick
        try:
            if stop():
                raise Stopped
            if evaluation_due:  # after the checkpoint of its step, so that a run killed in it repeats nothing else
                now = score(curve)
                # The next window ends a run that has diverged; trackers keep no infinity, so it is not logged here.
                if math.isfinite(now.loss):
                    log_curve(step, now)
                evaluation_due = False
        except Stopped:
            save(step)
            return result(names.KILLED, step, {}, f"stopped at step {step}/{steps}")
        tick = time.monotonic()
        lr = o.lr * schedule(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        given, true = (labels, labels) if true_labels is None else labels.unbind(1)
        for x, y, y_true in deal(zip(*(part.split(share.size) for part in (images, given, true)), strict=True)):
            with arithmetic.on(device):
                logits = forward(x.contiguous(memory_format=layout)).float()
            loss = F.cross_entropy(logits, y, label_smoothing=o.label_smoothing) * (len(y) / t.batch_size)
            loss.backward()
            window["loss"] += loss.detach()
            predicted = logits.detach().argmax(1)
            window["wrong"] += (predicted != y).sum()
            if true_labels is not None:
                window["wrong_clean"] += (predicted != y_true).sum()
        optimizer.step()
        optimizer.zero_grad()
        training_seconds += time.monotonic() - tick
        done = step + 1
        on_step(done)

        if done % log_every == 0 or done == steps:
            n = done - (step // log_every) * log_every
            loss_mean = window["loss"].item() / n
            # The loss says nothing of running statistics, nor of infinite weights behind a sigmoid.
            for what, value in (("loss", loss_mean), ("weights", _largest(network))):
                if not math.isfinite(value):
                    return result(names.DIVERGED, done, {}, f"{what} not finite by step {done}")
            wrong = 100 * window["wrong"].item() / (n * t.batch_size)
            point = {names.TRAIN_LOSS: loss_mean, names.TRAIN_ERR: wrong, names.LR: lr}
            if true_labels is not None:
                point[names.TRAIN_ERR_CLEAN] = 100 * window["wrong_clean"].item() / (n * t.batch_size)
            log(done, point)
            for total in window.values():
                total.zero_()
        evaluation_due = done % eval_every == 0 and done < steps
        if done == steps or time.monotonic() - saved >= checkpoint_seconds:
            save(done)
            saved = time.monotonic()

    metrics: dict[str, float] = {}
    try:
        if len(splits.val):
            val = score("val")
            metrics |= {names.FINAL_VAL_LOSS: val.loss, names.FINAL_VAL_ERR: val.err}
        test = score("test")
        metrics |= {names.FINAL_TEST_LOSS: test.loss, names.FINAL_TEST_ERR: test.err}
        if test.err5 is not None:
            metrics[names.FINAL_TEST_ERR5] = test.err5
        if true_labels is not None:
            logits = predict(network, train_images, pixels, arithmetic, stop=stop, processes=processes)
            fit = memorisation(logits, train_labels, true_labels)
            metrics |= {names.FINAL_TRAIN_ERR: fit.err, names.FINAL_TRAIN_ERR_CLEAN: fit.err_clean}
            if fit.memorised is not None:
                metrics[names.FINAL_MEMORISED] = fit.memorised
    except Stopped:  # the checkpoint of the last step is there
        return result(names.KILLED, steps, {}, f"stopped in the evaluation after step {steps}/{steps}")
    if not all(math.isfinite(v) for v in metrics.values()):
        return result(names.DIVERGED, steps, {}, f"final losses not finite at step {steps}")
    if t.evals:
        log_curve(steps, val if len(splits.val) else test)
    if training_seconds:
        metrics[names.COST_IMAGES_PER_S] = (steps - start) * t.batch_size / training_seconds
    return result(names.FINISHED, steps, metrics)


def _largest(network: nn.Module) -> float:
    """The largest absolute value of weights and running statistics: finite if each of them is."""
    state = [value for value in network.state_dict().values() if value.is_floating_point()]
    return nn.utils.get_total_norm(state, norm_type=math.inf).item()


def _finite(point: dict[str, float]) -> dict[str, float]:
    """What a tracker can keep: a run that is diverging has no finite response."""
    return {name: value for name, value in point.items() if math.isfinite(value)}
