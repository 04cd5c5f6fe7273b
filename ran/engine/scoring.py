"""Measurements of a run: sums over the steps since the last log point, curves, and final metrics."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ran.distributed.group import Processes
from ran.engine.device import Arithmetic
from ran.engine.evaluate import Score, evaluate, memorisation, predict
from ran.engine.setup import TrainingData
from ran.probe import stage_responses
from records import names

RESPONSE_IMAGES = 250  # of the curve's split: Figure 4's probe then takes a tenth of the evaluation's time


class LogWindow:
    """Loss and errors summed on the device, so that nothing is fetched in a step."""

    def __init__(self, device: torch.device, *, clean: bool):
        """`clean`: count errors against the true labels too."""
        keys = ("loss", "wrong", *(("wrong_clean",) if clean else ()))
        self.sums = {key: torch.zeros((), device=device) for key in keys}

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, true_labels: Tensor) -> None:
        """Adds a micro-batch; `loss` is its share of the batch's mean."""
        self.sums["loss"] += loss.detach()
        predicted = logits.detach().argmax(1)
        self.sums["wrong"] += (predicted != labels).sum()
        if "wrong_clean" in self.sums:
            self.sums["wrong_clean"] += (predicted != true_labels).sum()

    def point(self, steps: int, batch_size: int, lr: float) -> dict[str, float]:
        """Returns mean loss and training errors in % over the window's steps, and the learning rate."""
        found = {key: total.item() for key, total in self.sums.items()}
        images = steps * batch_size
        point = {names.TRAIN_LOSS: found["loss"] / steps, names.TRAIN_ERR: 100 * found["wrong"] / images, names.LR: lr}
        if "wrong_clean" in found:
            point[names.TRAIN_ERR_CLEAN] = 100 * found["wrong_clean"] / images
        return point

    def reset(self) -> None:
        """Begins the next window."""
        for total in self.sums.values():
            total.zero_()


def not_finite(loss: float, network: nn.Module) -> str | None:
    """Returns what of "loss" and "weights" is not finite; None if both are."""
    # A finite loss is possible with infinite running statistics, or with infinite weights before a sigmoid.
    state = [value for value in network.state_dict().values() if value.is_floating_point()]
    largest = nn.utils.get_total_norm(state, norm_type=math.inf).item()
    return next((what for what, value in (("loss", loss), ("weights", largest)) if not math.isfinite(value)), None)


@dataclass(frozen=True, eq=False)
class FinalScores:
    """The evaluation after the last step."""

    metrics: dict[str, float]
    """final metrics by name"""
    curve: Score
    """on the split of the curves"""
    test: Score


@dataclass(frozen=True, eq=False)
class Scoring:
    """Evaluation of a network during and after training; each method raises Stopped when `stop` asks for it."""

    network: nn.Module
    data: TrainingData
    arithmetic: Arithmetic
    stop: Callable[[], bool]
    processes: Processes

    @property
    def curve(self) -> str:
        """The split of the curves. The paper's protocol holds nothing out; only then is it the test set."""
        return "val" if len(self.data.splits["val"]) else "test"

    def score(self, split: str) -> Score:
        """Returns loss and errors on a split."""
        images = self.data.splits[split]
        return evaluate(
            self.network, images.images, images.labels, self.data.normalization, self.arithmetic, stop=self.stop,
            processes=self.processes,
        )  # fmt: skip

    def curve_point(self, now: Score) -> dict[str, float]:
        """Returns the curves' metrics: loss and error, and the mean response of each stage."""
        keys = {"val": (names.VAL_LOSS, names.VAL_ERR), "test": (names.TEST_LOSS, names.TEST_ERR)}[self.curve]
        images = self.data.splits[self.curve].images[:RESPONSE_IMAGES]
        with self.arithmetic.on(self.data.normalization.mean.device):
            stages = stage_responses(self.network, images, self.data.normalization)
        # Trackers keep no infinity, and a run that is diverging has no finite response.
        response = {names.RESPONSE.format(i): value for i, value in enumerate(stages, 1) if math.isfinite(value)}
        return dict(zip(keys, (now.loss, now.err), strict=True)) | response

    def final(self) -> FinalScores:
        """Returns the scores of the trained network; each split is evaluated once."""
        metrics: dict[str, float] = {}
        val = self.score("val") if self.curve == "val" else None
        if val is not None:
            metrics |= {names.FINAL_VAL_LOSS: val.loss, names.FINAL_VAL_ERR: val.err}
        test = self.score("test")
        metrics |= {names.FINAL_TEST_LOSS: test.loss, names.FINAL_TEST_ERR: test.err}
        if test.err5 is not None:
            metrics[names.FINAL_TEST_ERR5] = test.err5
        if self.data.true_labels is not None:
            train = self.data.splits["train"]
            logits = predict(
                self.network,
                train.images,
                self.data.normalization,
                self.arithmetic,
                stop=self.stop,
                processes=self.processes,
            )
            fit = memorisation(logits, train.labels, self.data.true_labels)
            metrics |= {names.FINAL_TRAIN_ERR: fit.err, names.FINAL_TRAIN_ERR_CLEAN: fit.err_clean}
            if fit.memorised is not None:
                metrics[names.FINAL_MEMORISED] = fit.memorised
        return FinalScores(metrics=metrics, curve=test if val is None else val, test=test)
