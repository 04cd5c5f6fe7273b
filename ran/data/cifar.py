"""CIFAR-10 and CIFAR-100, read from the official archives' files without executing code from a file.

Files may be recreated: one whose MD5 differs from the official one, as listed in torchvision, causes a warning.
"""

import functools
import hashlib
import io
import logging
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ran.data.source import DataError, Images, Source, as_images

log = logging.getLogger("ran.data")


@dataclass(frozen=True)
class _Cifar:
    """Files of one of the two CIFAR sets, as torchvision stores them; checksums come from torchvision."""

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


def open_cifar(name: str, root: str, *, download: bool) -> Source:
    """Returns "cifar10" or "cifar100" with its digest, not loaded; downloads it to `root` if requested and missing.

    Raises DataError for missing or unreadable files and damaged class names; loading the Source raises it for damaged
    images.
    """
    spec = _CIFAR[name]
    folder = Path(root) / spec.folder
    if download and _absent(folder, spec):
        _download(name, root)
    if absent := _absent(folder, spec):
        raise DataError(f"{name}: no {absent}; {_both_ways(spec)}")

    def load() -> tuple[Images, Images]:
        train = [_read_images(folder / file, spec) for file in spec.train_files]
        test = [_read_images(folder / file, spec) for file in spec.test_files]
        _warn_unofficial(folder, spec)  # after reading, so that a damaged file gives one message
        return as_images(*map(np.concatenate, zip(*train, strict=True))), as_images(
            *map(np.concatenate, zip(*test, strict=True))
        )

    hashes = [(file, file_hash(folder / file, "sha256")) for file in spec.files]
    return Source(
        name=name,
        classes=_read_names(folder / spec.meta_file, spec),
        image_size=32,
        train_images=50_000,
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
    # Imported here because it takes 2 s and the digest does not need it.
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    official = getattr(datasets, spec.torchvision_class)
    try:
        download_and_extract_archive(official.url, root, filename=official.filename, md5=official.tgz_md5)
    except Exception as error:  # network, archive or disk: the user's remedy is the same
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name}: download of {official.url} failed ({reason}); fetch it on a machine with a network, and extract "
            f"it into --data.root, so that {Path(root) / spec.folder} is there"
        ) from error


def file_hash(path: Path, algorithm: str) -> str:
    """Returns the hash of a file in hex, computed once per version. Raises DataError if it is unreadable."""
    try:
        stat = path.stat()
        return _hash_of_version(path, algorithm, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); download the data set again") from error


# Every run of a study needs the digest; 180 MB take 0.3 s. A file with equal size and mtime counts as unchanged.
@functools.lru_cache(maxsize=64)
def _hash_of_version(path: Path, algorithm: str, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _warn_unofficial(folder: Path, spec: _Cifar) -> None:
    from torchvision import datasets

    official = getattr(datasets, spec.torchvision_class)
    md5 = dict([*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])])
    for file in spec.files:
        if file_hash(folder / file, "md5") != md5[file]:
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
    raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not plain data")


class _PlainUnpickler(pickle.Unpickler):
    """Reads text, bytes, numbers, lists, dicts and numpy arrays; refuses anything else without calling it.

    A subclass because the pickle module has no other way to restrict the names in a file.
    """

    def find_class(self, module: str, name: str) -> Any:
        return _admitted(module, name)


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        # Also for official files: an MD5 does not make code safe. latin1 decodes Python 2's strings.
        content = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can provoke nearly any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _damaged(path, reason) from error
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds a {type(content).__name__} in place of a dict")
    return content


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: not a CIFAR file ({reason}); delete it and download the data set again")


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
