"""Data sets by name, their digests and their splits.

A registered function takes a DataConfig and returns a Source: what is known without loading anything. `load_splits`
turns it into training, validation and test images. A new data set is one such function.
"""

import functools
import hashlib
import io
import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ran.config import DataConfig
from ran.data import cluttershapes
from ran.errors import UserError
from ran.registry import Registry
from ran.rng import stream

log = logging.getLogger("ran.data")


class DataError(UserError):
    """A data set that is absent, damaged or too small; the message is one line and says what to do."""


@dataclass(frozen=True)
class Images:
    """Labelled images in memory."""

    images: torch.Tensor  # uint8 (N, 3, H, W), contiguous
    labels: torch.Tensor  # int64 (N,)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Source:
    """What is known of a data set before it is loaded. Two sources of one digest are equal."""

    name: str
    classes: tuple[str, ...]
    image_size: int  # side in pixels
    test_images: int  # of the official test set
    digest: str  # at most 36 characters, MLflow's limit
    load: Callable[[], tuple[Images, Images]] = field(compare=False)  # official training set, official test set

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Splits:
    """What a run trains on, is chosen on and is tested on."""

    train: Images
    val: Images  # empty where the config holds none out
    test: Images


DATASETS: Registry[Callable[[DataConfig], Source]] = Registry("data set")


def open_source(config: DataConfig) -> Source:
    """Returns the data set `config.name` with its digest, not loaded; downloads it where asked for and absent.

    Raises UnknownNameError for a name that is not registered, DataError for files that are absent or unreadable.
    """
    return DATASETS[config.name](config)


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


def load_splits(config: DataConfig) -> Splits:
    """Returns the splits of `config`, kept in the process because the runs of a study share them.

    Raises as `open_source` does, and DataError for damaged files and for sizes that the data set does not have.
    """
    return _split(open_source(config), config.train_images, config.val_images, config.test_images)


# Two: a study's data set and the one before it. CIFAR takes 180 MB.
@functools.lru_cache(maxsize=2)
def _split(source: Source, train_images: int | None, val_images: int, test_images: int | None) -> Splits:
    official, test = source.load()
    train, val = split_indices(source.name, len(official), train_images=train_images, val_images=val_images)
    if test_images is not None and test_images > len(test):
        raise DataError(f"{source.name}: data.test_images={test_images}, there are {len(test)}; ask for fewer")
    return Splits(_pick(official, train), _pick(official, val), _pick(test, np.arange(len(test))[:test_images]))


def _pick(images: Images, positions: np.ndarray) -> Images:
    index = torch.from_numpy(positions)
    return Images(images.images[index], images.labels[index])


def _as_images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    return Images(torch.from_numpy(pixels).contiguous(), torch.from_numpy(labels))


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
        return _as_images(*train), _as_images(*test)

    return Source(
        name="cluttershapes",
        classes=cluttershapes.CLASSES,
        image_size=cluttershapes.IMAGE_SIZE,
        test_images=cluttershapes.TEST_IMAGES,
        digest=cluttershapes.digest(difficulty),
        load=load,
    )


@dataclass(frozen=True)
class _Cifar:
    """Where torchvision keeps one of the two CIFAR sets. Its checksums are read from torchvision itself."""

    torchvision_class: str
    folder: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    meta_file: str
    labels_key: str
    names_key: str
    num_classes: int

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train_files, *self.test_files, self.meta_file)


_CIFAR = {
    "cifar10": _Cifar(
        torchvision_class="CIFAR10",
        folder="cifar-10-batches-py",
        train_files=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test_files=("test_batch",),
        meta_file="batches.meta",
        labels_key="labels",
        names_key="label_names",
        num_classes=10,
    ),
    "cifar100": _Cifar(
        torchvision_class="CIFAR100",
        folder="cifar-100-python",
        train_files=("train",),
        test_files=("test",),
        meta_file="meta",
        labels_key="fine_labels",
        names_key="fine_label_names",
        num_classes=100,
    ),
}


@DATASETS.register("cifar10")
def _cifar10(config: DataConfig) -> Source:
    return _cifar("cifar10", config)


@DATASETS.register("cifar100")
def _cifar100(config: DataConfig) -> Source:
    return _cifar("cifar100", config)


def _cifar(name: str, config: DataConfig) -> Source:
    spec = _CIFAR[name]
    folder = Path(config.root) / spec.folder
    if config.download and _absent(folder, spec):
        _download(name, config.root)
    if absent := _absent(folder, spec):
        raise DataError(f"{name}: no {absent}; {_both_ways(spec)}")

    def load() -> tuple[Images, Images]:
        train = [_read_images(folder / file, spec) for file in spec.train_files]
        test = [_read_images(folder / file, spec) for file in spec.test_files]
        _warn_unofficial(folder, spec)  # after reading: a damaged file gets one line
        return _as_images(*map(np.concatenate, zip(*train, strict=True))), _as_images(
            *map(np.concatenate, zip(*test, strict=True))
        )

    hashes = [(file, _file_hash(folder / file, "sha256")) for file in spec.files]
    return Source(
        name=name,
        classes=_read_names(folder / spec.meta_file, spec),
        image_size=32,
        test_images=10_000,
        digest=hashlib.sha256(repr(hashes).encode()).hexdigest()[:32],
        load=load,
    )


def _absent(folder: Path, spec: _Cifar) -> Path | None:
    return next((folder / file for file in spec.files if not (folder / file).is_file()), None)


def _both_ways(spec: _Cifar) -> str:
    return f"put the official archive's folder {spec.folder} under --data.root, or pass --data.download"


def _download(name: str, root: str) -> None:
    spec = _CIFAR[name]
    # Imported where it is needed: it takes 2 s, and a digest does without.
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    official = getattr(datasets, spec.torchvision_class)
    try:
        download_and_extract_archive(official.url, root, filename=official.filename, md5=official.tgz_md5)
    except Exception as error:  # whatever network, archive or disk raise: the user's remedy is the same
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: download of {official.url} failed ({reason}); {_both_ways(spec)}") from error


def _file_hash(path: Path, algorithm: str) -> str:
    try:
        stat = path.stat()
        return _hash_of_version(path, algorithm, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend it or fetch the data set anew") from error


# Every run of a study asks for the digest; 180 MB take 0.3 s. Size and time of change stand for the content.
@functools.lru_cache(maxsize=64)
def _hash_of_version(path: Path, algorithm: str, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _warn_unofficial(folder: Path, spec: _Cifar) -> None:
    from torchvision import datasets

    official = getattr(datasets, spec.torchvision_class)
    md5 = dict([*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])])
    for file in spec.files:
        if _file_hash(folder / file, "md5") != md5[file]:
            log.warning(
                "%s: its MD5 is not the official one; read as plain data, under a digest of its own", folder / file
            )


# numpy's C functions, or functions made anew for each file: a pickle can set attributes on what it is given.
def _admitted(module: str, name: str) -> Callable[..., Any]:
    match module.replace("numpy.core", "numpy._core"), name:
        case "numpy._core.multiarray", "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        case "numpy._core.numeric", "_frombuffer":  # arrays of protocol 5
            return lambda buffer, dtype, shape, order: np.frombuffer(buffer, dtype).reshape(shape, order=order)
        case "numpy", "ndarray":
            return np.ndarray
        case "numpy", "dtype":
            return np.dtype
        case "_codecs", "encode":  # bytes of protocol 2
            return lambda text, encoding: text.encode("latin1")
    raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no plain data")


class _PlainUnpickler(pickle.Unpickler):
    """Reads text, bytes, numbers, lists, dicts and numpy arrays; refuses everything else before it is called.

    A subclass because the pickle module has no other way to restrict what a file may name.
    """

    def find_class(self, module: str, name: str) -> Any:
        return _admitted(module, name)


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        # Official files too: an MD5 is no reason to run what a file says. latin1 is how Python 2's strings are read.
        content = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can provoke nearly any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _damaged(path, reason) from error
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds a {type(content).__name__} in place of a dict")
    return content


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: not a CIFAR file ({reason}); delete it and fetch the data set anew")


def _read_names(path: Path, spec: _Cifar) -> tuple[str, ...]:
    names = _unpickle(path).get(spec.names_key)
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise _damaged(path, f"{spec.names_key!r} is no list of names")
    if len(set(names)) != spec.num_classes or len(names) != spec.num_classes:
        raise _damaged(path, f"{len(set(names))} class names in place of {spec.num_classes}")
    return tuple(names)


def _read_images(path: Path, spec: _Cifar) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels, uint8 (N, 3, 32, 32), and labels, int64 (N,), of one batch file."""
    content = _unpickle(path)
    for key in ("data", spec.labels_key):
        if key not in content:
            raise _damaged(path, f"{key!r} is missing")
    pixels, labels = content["data"], content[spec.labels_key]
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise _damaged(path, "'data' is no uint8 array of 3072 bytes an image")
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise _damaged(path, f"{spec.labels_key!r} is no list of ints")
    if len(labels) != len(pixels) or not labels:
        raise _damaged(path, f"{len(pixels)} images and {len(labels)} labels")
    if min(labels) < 0 or max(labels) >= spec.num_classes:
        raise _damaged(path, f"labels {min(labels)} to {max(labels)} in place of 0 to {spec.num_classes - 1}")
    return pixels.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)
