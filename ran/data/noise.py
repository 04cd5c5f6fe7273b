"""Wrong training labels: random (section 4.1, eq. 7) or human (CIFAR-10N). Test labels never change."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ran.data.source import DataError
from ran.rng import stream
from records.arrays import read_npz
from records.reading import check_regular

# Name of a set of human labels -> its key in CIFAR-10N's files (arXiv 2110.12088).
HUMAN_LABELS = {
    "aggre": "aggre_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "worse": "worse_label",
}
MOST_BYTES = 64 * 2**20
"""of a file of human labels, unpacked; the official ones take three million"""
PACKED, OFFICIAL = "cifar10n.npz", "CIFAR-10_human.pt"


def flip_labels(labels: np.ndarray, rate: float, *, num_classes: int, seed: int) -> np.ndarray:
    """Returns int64 (N,) labels of which each is wrong with probability `rate`, uniform over the other classes.

    The confusion matrix Q of eq. 7 has 1 - rate on the diagonal and rate / (num_classes - 1) elsewhere: a wrong label
    is never the true class. The stream depends only on the seed, so all cells of a seed share their labels, and a label
    that is wrong at one rate has the same wrong value at every higher rate.
    """
    rng = stream(seed, "label_noise")
    chance = rng.random(len(labels))
    shift = rng.integers(1, num_classes, len(labels))
    return np.where(chance < rate, (labels + shift) % num_classes, labels)


def human_labels(root: str, name: str, clean: np.ndarray) -> np.ndarray:
    """Returns the human labels, int64 (50000,), of CIFAR-10's training images.

    Read from <root>/cifar10n.npz (keys clean_label, aggre_label, ...) or <root>/CIFAR-10_human.pt, the official file,
    without executing code from it. The file must contain the true labels `clean`. Raises DataError.
    """
    path = human_file(root, name)
    content = _read(path)
    arrays = {key: np.asarray(content.get(key, ())) for key in ("clean_label", HUMAN_LABELS[name])}
    for key, array in arrays.items():
        if array.shape != clean.shape or array.dtype.kind not in "iu":
            raise DataError(f"{path}: {key!r} is not {len(clean)} integer labels; download CIFAR-10N again")
    if not np.array_equal(arrays["clean_label"], clean):
        raise DataError(f"{path}: its clean labels are not those of this CIFAR-10; both must be in the official order")
    labels = arrays[HUMAN_LABELS[name]].astype(np.int64)
    if labels.min() < 0 or labels.max() > 9:
        raise DataError(f"{path}: {HUMAN_LABELS[name]!r} holds labels outside 0..9; download CIFAR-10N again")
    return labels


def human_file(root: str, name: str) -> Path:
    """Returns the file with the human labels. Raises DataError for an unknown name or a missing file."""
    if name not in HUMAN_LABELS:
        raise DataError(f"data.noise_labels: valid are {', '.join(HUMAN_LABELS)}; got {name!r}")
    for path in (Path(root) / PACKED, Path(root) / OFFICIAL):
        if path.is_file():
            return path
    raise DataError(
        f"no {Path(root) / PACKED}: put CIFAR-10N's labels there, or the official {OFFICIAL}, "
        "from github.com/UCSC-REAL/cifar-10-100n"
    )


def digest(labels: np.ndarray) -> str:
    """Returns 32 hex digits of int64 labels."""
    return hashlib.sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()[:32]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return read_npz(path, MOST_BYTES) if path.suffix == ".npz" else _read_official(path)
    except Exception as error:  # a damaged file can provoke nearly any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not CIFAR-10N's labels ({reason[:200]}); download it again") from None


def _unpacked(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def _read_official(path: Path) -> Mapping[str, Any]:
    """Reads the authors' file, a dict of numpy arrays written by torch.save, and allows no other types."""
    import torch

    check_regular(path)
    if path.stat().st_size > MOST_BYTES or (zipfile.is_zipfile(path) and _unpacked(path) > MOST_BYTES):
        raise ValueError("it is larger than CIFAR-10N can be")
    core = np._core.multiarray  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in ("i1", "u1", "i2", "i4", "i8")]
    admitted = [core._reconstruct, (core._reconstruct, "numpy.core.multiarray._reconstruct"), np.ndarray, np.dtype]
    with torch.serialization.safe_globals([*admitted, *kinds]):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    return content
