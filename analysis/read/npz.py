"""Reading arrays that runs leave as .npz files."""

from typing import TYPE_CHECKING

from records.reading import UnreadableError

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 256 * 2**20
"""bytes of all arrays of a file; the masks of a run take two million"""


def read_arrays(content: bytes) -> "dict[str, np.ndarray] | None":
    """Returns the arrays of an .npz file by name, None if it is damaged or too large."""
    from records.arrays import read_npz

    try:
        return read_npz(content, MOST_BYTES)
    except UnreadableError:
        return None
