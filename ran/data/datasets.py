"""Data sets by name, and their splits.

A registered function takes a DataConfig and returns a Source: what is known without loading anything. `load_splits`
turns it into training, validation and test images. A new data set is one such function.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ran.config import DataConfig
from ran.data import cifar, cluttershapes, noise
from ran.data.augment import Normalization
from ran.data.image_folder import dataset
from ran.data.source import Images, Source, as_images
from ran.registry import Registry
from ran.rng import stream
from records.errors import DataError


@dataclass(frozen=True)
class LabelNoise:
    """What is known of wrong training labels."""

    true_labels: torch.Tensor  # int64 (N,), of the training images
    rate: float  # % of the training labels that are wrong
    digest: str  # of all the noisy labels, in the data set's order


@dataclass(frozen=True)
class Splits:
    """What a run trains on, is chosen on and is tested on."""

    train: Images
    val: Images  # empty where the config holds none out; its labels are as noisy as the training labels
    test: Images  # its labels are the true ones
    normalization: Normalization
    noise: LabelNoise | None = None


DATASETS: Registry[Callable[[DataConfig], Source]] = Registry("data set")


def open_source(config: DataConfig) -> Source:
    """Returns the data set `config.name` with its digest, not loaded; downloads it where asked for and absent.

    The digest covers the human labels that a config asks for. Raises UnknownNameError for a name that is not
    registered, DataError for files that are absent or unreadable and for settings that the data set does not have.
    """
    source = DATASETS[config.name](config)
    if source.test_size is None:
        if (config.image_size, config.test_size) != (None, None):
            one = f"{config.name} has one size of image"
            raise DataError(f"data.image_size and data.test_size are of image folders; {one}")
        if (config.damaged, config.exclude) != ("refuse", None):
            raise DataError(f"data.damaged and data.exclude are of image folders, not of {config.name}")
    if config.noise > 0 and source.num_classes < 2:
        raise DataError(f"data.noise={config.noise}: {config.name} has one class, so no label can be wrong")
    if config.noise_labels is None:
        return source
    if config.name != "cifar10":
        raise DataError(f"data.noise_labels={config.noise_labels} are of cifar10's images, not of {config.name}'s")
    file_hash = cifar.file_hash(noise.human_file(config.root, config.noise_labels), "sha256")
    return dataclasses.replace(source, digest=hashlib.sha256(f"{source.digest} {file_hash}".encode()).hexdigest()[:32])


def split_indices(name: str, count: int, *, train_images: int | None, val_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of training and validation images in the official training set of `count` images.

    The same for every run seed: the validation images do not depend on `train_images`, and a smaller training set is
    the beginning of a larger one. Raises DataError where `count` does not suffice.
    """
    need = _needed(name, count, train_images, val_images)
    order = stream(0, "split", name).permutation(count)
    end = None if train_images is None else need
    return order[val_images:end], order[:val_images]


def _needed(name: str, count: int, train_images: int | None, val_images: int) -> int:
    need = val_images + (1 if train_images is None else train_images)
    if need > count:
        wanted = f"data.train_images={train_images} and data.val_images={val_images}"
        raise DataError(f"{name}: {wanted} need {need} training images, there are {count}; ask for fewer")
    return need


def load_splits(config: DataConfig, seed: int | None = None) -> Splits:
    """Returns the splits of `config`, the images kept in the process because the runs of a study share them.

    `seed`, the run's, decides which training labels are wrong where `config.noise` asks for some, and must then be
    given; all else is the same for every seed. Raises as `open_source` does, and DataError for damaged files and for
    sizes that the data set does not have.
    """
    source = open_source(config)
    clean = _split(source, config.train_images, config.val_images, config.test_images)
    if config.noise == 0 and config.noise_labels is None:
        return clean.splits
    true = clean.official_labels
    if config.noise_labels is None:
        if seed is None:
            raise ValueError("label noise is drawn for a seed: load_splits(config, seed)")
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
    """Splits with the true labels, and where in the official training set their images stand."""

    splits: Splits
    official_labels: np.ndarray
    train: np.ndarray
    val: np.ndarray


# Two: a study's data set and the one before it. CIFAR takes 180 MB, an image folder what its images are called.
@functools.lru_cache(maxsize=2)
def _split(source: Source, train_images: int | None, val_images: int, test_images: int | None) -> _Clean:
    official, test = source.load()
    train, val = split_indices(source.name, len(official), train_images=train_images, val_images=val_images)
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
    # A short run draws the first images only, so that it need not wait for all of them; that prefix is then the
    # "official" training set that is split. Its validation images differ from those of the whole set.
    # More than there are is refused before any is drawn and kept.
    need = _needed("cluttershapes", cluttershapes.TRAIN_IMAGES, config.train_images, config.val_images)
    if config.train_images is None:
        need = cluttershapes.TRAIN_IMAGES

    def load() -> tuple[Images, Images]:
        train, test = cluttershapes.load(
            Path(config.root), difficulty, train_images=need, test_images=config.test_images
        )
        return as_images(*train), as_images(*test)

    return Source(
        name="cluttershapes",
        classes=cluttershapes.CLASSES,
        image_size=cluttershapes.IMAGE_SIZE,
        train_images=cluttershapes.TRAIN_IMAGES,
        test_images=cluttershapes.TEST_IMAGES,
        digest=cluttershapes.digest(difficulty),
        load=load,
    )


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
