"""Reading arrays that runs leave as .npz files."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def read_arrays(content: bytes) -> "dict[str, np.ndarray] | None":
    """Returns the arrays of an .npz file by name, None if it is damaged."""
    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception:  # zip, header and compressed stream raise errors of their own
        return None
