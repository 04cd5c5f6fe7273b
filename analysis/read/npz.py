"""Reading arrays that runs leave as .npz files."""

from typing import TYPE_CHECKING

from records.reading import UnreadableError

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 256 * 2**20
"""bytes of all arrays of a file; the masks of a run take two million"""


def read_correct(content: bytes) -> "np.ndarray | None":
    """Returns whether each test image was classified right, (N,) bools, of a test_correct.npz; None if damaged."""
    import numpy as np

    arrays = read_arrays(content)
    try:
        bits, count = (arrays or {})["correct"], int((arrays or {})["count"])
    except (KeyError, TypeError, ValueError):
        return None
    if bits.dtype != np.uint8 or bits.ndim != 1 or not 0 < count <= 8 * len(bits) < count + 8:
        return None
    return np.unpackbits(bits, count=count).astype(bool)


def read_arrays(content: bytes) -> "dict[str, np.ndarray] | None":
    """Returns the arrays of an .npz file by name, None if it is damaged or too large."""
    from records.arrays import read_npz

    try:
        return read_npz(content, MOST_BYTES)
    except UnreadableError:
        return None
