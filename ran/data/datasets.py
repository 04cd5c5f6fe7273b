"""Data sets by name, and their splits.

A registered function takes a DataConfig and returns a Source, without loading images. `load_splits` makes training,
validation and test images of it. To add a data set, register such a function.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from ran.config import DataConfig
from ran.data import cifar, cluttershapes, noise
from ran.data.augment import Normalization, cifar_normalization
from ran.data.image_folder import dataset
from ran.data.source import Images, Source
from ran.registry import Registry
from ran.rng import stream
from records.errors import DataError


@dataclass(frozen=True)
class LabelNoise:
    """True labels and error rate of noisy training labels."""

    true_labels: torch.Tensor  # int64 (N,), of the training images
    rate: float  # % of the training labels that are wrong
    digest: str  # of all the noisy labels, in the data set's order


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images of a run."""

    train: Images
    val: Images  # empty if the config holds none out; its labels are as noisy as the training labels
    test: Images  # with true labels
    normalization: Normalization
    noise: LabelNoise | None = None


DATASETS: Registry[Callable[[DataConfig], Source]] = Registry("data set")


def open_source(config: DataConfig) -> Source:
    """Returns the data set `config.name` with its digest, not loaded; downloads it if requested and missing.

    The digest covers the config's human labels, if any. Raises UnknownNameError for a name that is not registered,
    DataError for missing or unreadable files and for settings that the data set does not support.
    """
    source = DATASETS[config.name](config)
    if source.test_size is None:
        if config.test_size is not None or config.image_size not in (None, source.image_size):
            raise DataError(
                f"data.image_size and data.test_size: {config.name} has images of {source.image_size} pixels"
            )
        if (config.damaged, config.exclude) != ("refuse", None):
            raise DataError(f"data.damaged and data.exclude are of image folders, not of {config.name}")
    if source.num_classes < 2:
        where = f" ({source.folder})" if source.folder is not None else ""
        raise DataError(
            f"{config.name}{where} has one class, {', '.join(source.classes)}: a network needs at least two"
        )
    if config.noise_labels is None:
        return source
    if config.name != "cifar10":
        raise DataError(f"data.noise_labels={config.noise_labels} are of cifar10's images, not of {config.name}'s")
    file_hash = cifar.file_hash(noise.human_file(config.root, config.noise_labels), "sha256")
    return dataclasses.replace(source, digest=hashlib.sha256(f"{source.digest} {file_hash}".encode()).hexdigest()[:32])


def split_indices(
    name: str, count: int, *, train_images: int | None, val_images: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of training and validation images in the official training set of `count` images.

    `train_images` of those that are not held out are drawn for the seed, a smaller number as a prefix of a larger one.
    The validation images are the same for all seeds and sizes. Raises DataError if `count` is too small.
    """
    check_enough(name, count, train_images=train_images, val_images=val_images)
    order = stream(0, "split", name).permutation(count)
    train, val = order[val_images:], order[:val_images]
    if train_images is not None:
        train = train[stream(seed, "subset", name).permutation(len(train))[:train_images]]
    return train, val


def check_enough(name: str, count: int, *, train_images: int | None, val_images: int) -> None:
    """Raises DataError if `count` images are fewer than are wanted."""
    need = val_images + (1 if train_images is None else train_images)
    if need > count:
        wanted = f"data.train_images={train_images} and data.val_images={val_images}"
        raise DataError(f"{name}: {wanted} need {need} training images, there are {count}; ask for fewer")


def load_splits(config: DataConfig, seed: int) -> Splits:
    """Returns the splits of a run. Images stay cached in the process, because the runs of a study share them.

    The run's `seed` decides which images are trained on, where `config` asks for a part of them, and which of their
    labels are wrong. Raises as `open_source` does, and DataError for damaged files and for more images than there are.
    """
    source = open_source(config)
    # All seeds share what does not depend on them.
    subset = None if config.train_images is None else seed
    clean = _split(source, config.train_images, config.val_images, config.test_images, subset)
    if config.noise == 0 and config.noise_labels is None:
        return clean.splits
    true = clean.official_labels
    if config.noise_labels is None:
        noisy = noise.flip_labels(true, config.noise, num_classes=source.num_classes, seed=seed)
    else:
        noisy = noise.human_labels(config.root, config.noise_labels, true)
    splits, labels = clean.splits, torch.from_numpy(noisy)
    return Splits(
        train=Images(splits.train.images, labels[clean.train]),
        val=Images(splits.val.images, labels[clean.val]),
        test=splits.test,
        normalization=splits.normalization,
        noise=LabelNoise(
            true_labels=splits.train.labels,
            rate=100 * (labels[clean.train] != splits.train.labels).double().mean().item(),
            digest=noise.digest(noisy),
        ),
    )


@dataclass(frozen=True)
class _Clean:
    """Splits with the true labels, and their positions in the official training set."""

    splits: Splits
    official_labels: np.ndarray
    train: np.ndarray
    val: np.ndarray


# Two: the current study's data set and the previous one. CIFAR takes 180 MB, an image folder only its file names.
@functools.lru_cache(maxsize=2)
def _split(
    source: Source, train_images: int | None, val_images: int, test_images: int | None, seed: int | None
) -> _Clean:
    official, test = source.load()
    train, val = split_indices(
        source.name, len(official), train_images=train_images, val_images=val_images, seed=seed or 0
    )
    if test_images is not None and test_images > len(test):
        raise DataError(f"{source.name}: data.test_images={test_images}, there are {len(test)}; ask for fewer")
    images, held_out = official.pick(train), official.pick(val)
    normalization = source.normalization(images.images)
    splits = Splits(
        train=images, val=held_out, test=test.pick(np.arange(len(test))[:test_images]), normalization=normalization
    )
    return _Clean(splits=splits, official_labels=official.labels.numpy(), train=train, val=val)


@DATASETS.register("cluttershapes")
def _cluttershapes(config: DataConfig) -> Source:
    difficulty = cluttershapes.DIFFICULTY if config.difficulty is None else config.difficulty
    side = cluttershapes.SIDE if config.image_size is None else config.image_size
    if side not in cluttershapes.SIDES:
        sides = ", ".join(map(str, cluttershapes.SIDES))
        raise DataError(f"data.image_size: cluttershapes is drawn with sides of {sides}, not {side}")
    train, test = (cluttershapes.Pictures(split, Path(config.root), difficulty, side) for split in ("train", "test"))
    # Too many are refused before any is drawn.
    check_enough("cluttershapes", len(train), train_images=config.train_images, val_images=config.val_images)
    return Source(
        name="cluttershapes",
        classes=cluttershapes.CLASSES,
        image_size=side,
        train_images=len(train),
        test_images=len(test),
        digest=cluttershapes.digest(difficulty, side),
        load=lambda: (_drawn(train), _drawn(test)),
        normalization=functools.partial(cifar_normalization, pad=side // 8),
    )


def _drawn(pictures: cluttershapes.Pictures) -> Images:
    # Only indexed before they are in memory, which Pictures can as a tensor does.
    return Images(cast(torch.Tensor, pictures), torch.from_numpy(pictures.labels))


@DATASETS.register("cifar10")
def _cifar10(config: DataConfig) -> Source:
    return cifar.open_cifar("cifar10", config.root, download=config.download)


@DATASETS.register("cifar100")
def _cifar100(config: DataConfig) -> Source:
    return cifar.open_cifar("cifar100", config.root, download=config.download)


@DATASETS.register(dataset.NAME)
def _imagenet(config: DataConfig) -> Source:
    return dataset.open_imagefolder(
        config.root,
        image_size=config.image_size,
        test_size=config.test_size,
        damaged=config.damaged,
        exclude=config.exclude,
    )
