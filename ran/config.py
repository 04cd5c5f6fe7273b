"""What decides the result of one run, as frozen dataclasses.

The defaults are the paper's CIFAR protocol (section 4.1). The line under a field is its documentation and its --help.
Fields marked `_outside` are logged but not part of the fingerprint: they decide where or how a run computes, not what,
or they select files, which the data set's digest covers.
"""

import dataclasses
import types
import typing
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ran.registry import UnknownNameError
from records.errors import UserError
from records.text import short

MOST_UNITS = 100
"""upper limit of p, t and r: far above any useful value, and such a network is still built in seconds"""


def _outside(default: Any) -> Any:
    return field(default=default, metadata={"identity": False})


def _added(default: Any) -> Any:
    """A field that was added later: its default is not part of the identity, so that older runs keep theirs."""
    return field(default=default, metadata={"added": True})


WIDEST = 64.0
"""upper limit of width: sixty-four times the paper's channels"""
LARGEST_IMAGE = 4096
"""upper limit of image_size and test_size, in pixels"""
LONGEST_TEXT = 4096
"""upper limit of a text value, in characters: that of a path"""


class ConfigError(UserError):
    """A config that cannot be run; the message names the field and the valid values."""


@dataclass(frozen=True)
class ModelConfig:
    name: str = "attention56"
    """name of the network (ran.list_models() lists them)"""
    width: float = 1.0
    """factor on stem, stage and bottleneck widths; 1 = the paper's"""
    learning: str = "arl"
    """how mask M and trunk T combine: arl (1+M)*T (eq. 3) or nal M*T (eq. 1)"""
    mask_activation: str = "mixed"
    """activation of the mask: mixed, channel or spatial (eq. 4 to 6, Table 1)"""
    mask_structure: str = "encoder_decoder"
    """body of the mask branch (section 3.2, Table 4)"""
    p: int | None = None
    """number of units before and after the trunk and mask branches; None = the network's own (1, section 3.3)"""
    t: int | None = None
    """number of units in the trunk branch; None = the network's own (2)"""
    r: int | None = None
    """number of units between two poolings of the mask branch; None = the network's own (1)"""


@dataclass(frozen=True)
class DataConfig:
    name: str = "cifar10"
    """name of the data set: cifar10, cifar100, imagenet (an image folder) or the built-in cluttershapes"""
    root: str = _outside("data")
    """folder that contains the data sets"""
    download: bool = _outside(False)
    """whether to download the data set into root if it is missing"""
    train_images: int | None = None
    """number of training images to use; None = all that are not held out for validation"""
    val_images: int = 0
    """number of training images held out for validation, the same for all seeds; 0 = none, as in the paper"""
    test_images: int | None = None
    """number of test images to use, from the first; None = all"""
    difficulty: float | None = None
    """cluttershapes only: clutter from 0 (none) to 1; None = the data set's own"""
    noise: float = _added(0.0)
    """fraction of training labels replaced by wrong ones, drawn once per seed (section 4.1: 0.1, 0.3, 0.5, 0.7)"""
    noise_labels: str | None = _added(None)
    """cifar10 only: human labels to train on (CIFAR-10N): aggre, random1, random2, random3, worse; None = true ones"""
    image_size: int | None = _added(None)
    """side of a training image: image folders crop it (None = 224, section 4.2), cluttershapes draws it (None = 16)"""
    test_size: int | None = _added(None)
    """image folders only: side of the square test crop; None = the training crop's (Table 7: 224, 299 or 320)"""
    damaged: str = _outside("refuse")
    """image folders only: refuse = a damaged file ends the run; skip = read all first, leave damaged ones out"""
    exclude: str | None = _outside(None)
    """image folders only: text file that lists test images to leave out, as ImageNet's blacklist in section 4.2"""
    workers: int | None = _outside(None)
    """image folders only: number of threads (on CUDA processes) that decode images; None = one per core"""


@dataclass(frozen=True)
class OptimConfig:
    lr: float = 0.1
    """peak learning rate of SGD with Nesterov momentum (paper: 0.1)"""
    momentum: float = 0.9
    """Nesterov momentum (paper: 0.9)"""
    weight_decay: float = 1e-4
    """L2 penalty on all parameters, including BatchNorm's (paper: 1e-4)"""
    schedule: str = "step"
    """learning-rate schedule: step (paper: /10 at 2/5 and 3/5), step_imagenet, one_cycle, cosine, constant"""
    label_smoothing: float = 0.0
    """label smoothing of the training loss (paper: none)"""


@dataclass(frozen=True)
class TrainConfig:
    steps: int = 160_000
    """number of optimizer steps (paper: 160k)"""
    batch_size: int = 64
    """images per optimizer step (paper: 64)"""
    micro_batch: int | None = None
    """images per backward pass, over which BatchNorm normalizes; None = batch_size"""
    precision: str = "auto"
    """float32 (IEEE), tf32 (CUDA's), bf16 (autocast), or auto = bf16 where it is native, else float32"""
    channels_last: bool = _outside(True)
    """whether to use the NHWC memory layout; faster on CPUs and on tensor cores"""
    compile: bool = _outside(False)
    """whether to torch.compile the network; measured slower than eager on CPUs"""
    kernels: str = _outside("auto")
    """eager (PyTorch's operations), fused (our own; channels_last), or auto = fused on a CPU that can, else eager"""
    graph: str = _outside("auto")
    """on = each step as one CUDA graph (fewer launches, the same kernels), off, or auto = off until it is measured"""
    recompute: bool = _outside(False)
    """activation checkpointing: less memory, up to a third more time, bit-identical results"""
    threads: int | None = _outside(None)
    """number of CPU threads; None = torch's default. Results are bit-identical only for an equal number"""
    evals: int = _outside(20)
    """number of evaluations for the curves, spread evenly over the steps"""


@dataclass(frozen=True)
class RunConfig:
    """One run: everything that its result depends on, and where to compute it."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    seed: int = 0
    """random seed of this run, for initial weights, order and augmentation"""


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any, Any]]:
    """Yields (dotted name, field, type, value) of every field that is not a group."""
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", f, hints[f.name], value


def flatten(config: RunConfig) -> dict[str, Any]:
    """Returns {"model.name": "attention56", ...}, with all fields in order."""
    return {key: value for key, _, _, value in _leaves(config)}


def identity(config: RunConfig) -> dict[str, Any]:
    """Returns the flattened fields that decide the result; equal configs give equal values of equal types."""
    return {
        # 1 and 1.0, 0.0 and -0.0 are equal and must serialize alike.
        key: float(value) + 0.0 if value is not None and _is_float(hint) else value
        for key, f, hint, value in _leaves(config)
        if f.metadata.get("identity", True) and not (f.metadata.get("added") and value == f.default)
    }


def _is_float(hint: Any) -> bool:
    """Returns whether a field of this type holds a float."""
    return float in (hint, *typing.get_args(hint))


def _admits(hint: Any, value: Any) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_admits(h, value) for h in typing.get_args(hint))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def override(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Returns `config` with dotted fields replaced, e.g. {"optim.lr": 0.05}.

    Raises UnknownNameError for a field that does not exist and ConfigError for a value of the wrong type.
    """
    hints = {key: hint for key, _, hint, _ in _leaves(config)}
    groups: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        if key not in hints:
            raise UnknownNameError("config field", key, list(hints))
        if not _admits(hints[key], value):
            expected = getattr(hints[key], "__name__", str(hints[key]))
            raise ConfigError(f"{key} takes {expected}, got {short(value)}")
        try:
            typed = float(value) if value is not None and _is_float(hints[key]) else value
        except OverflowError:
            raise ConfigError(f"{key} takes a float, got an integer too large for one") from None
        group, _, name = key.rpartition(".")
        groups.setdefault(group, {})[name] = typed
    top = groups.pop("", {})
    for group, changes in groups.items():
        top[group] = dataclasses.replace(getattr(config, group), **changes)
    return dataclasses.replace(config, **top)


def unflatten(values: Mapping[str, Any]) -> RunConfig:
    """Returns the RunConfig of a flattened one (config.json), not checked. Raises as `override` does."""
    return override(RunConfig(), values)


def difference(config: RunConfig, base: RunConfig) -> dict[str, Any]:
    """Returns the identity fields of `config` that differ from `base`'s, flattened."""
    reference, values = flatten(base), flatten(config)
    keys = identity(base).keys() | identity(config).keys()
    return {key: value for key, value in values.items() if key in keys and value != reference[key]}


def check(config: RunConfig) -> None:
    """Raises ConfigError for numbers that cannot be run, naming the field."""
    m, d, o, t = config.model, config.data, config.optim, config.train
    counts = {"p": m.p, "t": m.t, "r": m.r}
    sides = {"image_size": d.image_size, "test_size": d.test_size}
    problems = [
        (0 < m.width <= WIDEST, f"model.width must be above 0 and at most {WIDEST:g}, got {m.width}"),
        *((n is None or 1 <= n <= MOST_UNITS, f"model.{k} must lie in 1..{MOST_UNITS}, got {n}")
          for k, n in counts.items()),
        (d.train_images is None or d.train_images >= 1, f"data.train_images must be at least 1, got {d.train_images}"),
        (d.val_images >= 0, f"data.val_images must not be negative, got {d.val_images}"),
        (d.test_images is None or d.test_images >= 1, f"data.test_images must be at least 1, got {d.test_images}"),
        (d.difficulty is None or 0 <= d.difficulty <= 1, f"data.difficulty must lie in 0..1, got {d.difficulty}"),
        (0 <= d.noise < 1, f"data.noise must lie in [0, 1), got {d.noise}"),
        (d.noise == 0 or d.noise_labels is None, "data.noise and data.noise_labels exclude each other: choose one"),
        *((n is None or 8 <= n <= LARGEST_IMAGE, f"data.{k} must lie in 8..{LARGEST_IMAGE}, got {n}")
          for k, n in sides.items()),
        (d.damaged in ("refuse", "skip"), f"data.damaged: valid are refuse, skip; got {d.damaged!r}"),
        (d.workers is None or 1 <= d.workers <= 1024, f"data.workers must lie in 1..1024, got {d.workers}"),
        (0 < o.lr < float("inf"), f"optim.lr must be above 0 and finite, got {o.lr}"),
        (0 <= o.momentum < 1, f"optim.momentum must lie in [0, 1), got {o.momentum}"),
        (0 <= o.weight_decay < float("inf"), f"optim.weight_decay must not be negative, got {o.weight_decay}"),
        (0 <= o.label_smoothing < 1, f"optim.label_smoothing must lie in [0, 1), got {o.label_smoothing}"),
        (t.steps >= 1, f"train.steps must be at least 1, got {t.steps}"),
        (t.batch_size >= 2, f"train.batch_size must be at least 2 (BatchNorm), got {t.batch_size}"),
        (t.micro_batch is None or (t.micro_batch >= 2 and t.batch_size % t.micro_batch == 0),
         f"train.micro_batch must divide train.batch_size={t.batch_size} and be at least 2, got {t.micro_batch}"),
        (t.precision in ("auto", "bf16", "float32", "tf32"),
         f"train.precision: valid are auto, bf16, float32, tf32; got {t.precision!r}"),
        (t.kernels in ("auto", "fused", "eager"), f"train.kernels: valid are auto, fused, eager; got {t.kernels!r}"),
        (t.kernels != "fused" or (t.channels_last and not t.compile),
         "train.kernels=fused needs train.channels_last and no train.compile"),
        (t.graph in ("auto", "on", "off"), f"train.graph: valid are auto, on, off; got {t.graph!r}"),
        (not t.compile or t.graph != "on", "train.compile and train.graph=on exclude each other: choose one"),
        (not t.compile or not t.recompute, "train.compile and train.recompute exclude each other: choose one"),
        (t.threads is None or 1 <= t.threads <= 1024, f"train.threads must lie in 1..1024, got {t.threads}"),
        (t.evals >= 0, f"train.evals must not be negative, got {t.evals}"),
        *((len(text) <= LONGEST_TEXT and not any(unicodedata.category(c) == "Cc" for c in text),
           f"{key} takes at most {LONGEST_TEXT:,} characters, none of which controls a terminal")
          for key, text in flatten(config).items() if isinstance(text, str)),
        (0 <= config.seed < 2**63, f"seed must lie in 0..2**63-1, got {config.seed}"),
    ]  # fmt: skip
    for holds, message in problems:
        if not holds:
            raise ConfigError(message)
