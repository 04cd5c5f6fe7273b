"""Reading NumPy's files that somebody else may have made: what a header claims is compared with what is there."""

import io
import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from records.reading import UnreadableError, open_regular


def read_npy(path: str | Path) -> np.ndarray:
    """Returns the array of a .npy file without objects. Raises UnreadableError, OSError."""
    with open_regular(path) as file:
        return _array(file, os.fstat(file.fileno()).st_size)


def read_npz(source: str | Path | bytes, most: int) -> dict[str, np.ndarray]:
    """Returns the arrays of a .npz file, or of its content, that take at most `most` bytes in all, without objects.

    The sizes are those that the file states of itself, and no more is unpacked. Raises UnreadableError, OSError.
    """
    opened = io.BytesIO(source) if isinstance(source, bytes) else open_regular(source)
    try:
        with opened, zipfile.ZipFile(opened) as archive:
            members = archive.infolist()
            if (size := sum(member.file_size for member in members)) > most:
                raise UnreadableError(f"its arrays take {size:,} bytes, more than the {most:,} that are read")
            found = {}
            for member in members:
                with archive.open(member) as file:
                    found[member.filename.removesuffix(".npy")] = _array(file, member.file_size)
            return found
    except UnreadableError:
        raise
    except Exception as error:  # zipfile raises nearly any exception for a damaged archive
        reason = str(error).splitlines() or [type(error).__name__]
        raise UnreadableError(f"it is no .npz file ({reason[0]})") from None


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """Returns the array of an opened .npy file of `size` bytes."""
    form = np.lib.format
    try:
        version = form.read_magic(file)
        read_header = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}.get(version)
        if read_header is None:
            raise UnreadableError(f"a .npy file of version {version}")
        shape, in_columns, dtype = read_header(file)
    except (ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        reason = str(error).splitlines() or [type(error).__name__]
        raise UnreadableError(f"it is no readable NumPy array ({reason[0]})") from None
    if dtype.hasobject:
        raise UnreadableError("it holds objects, which are not read")
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise UnreadableError(f"its header claims {dtype} {shape}, but {max(0, size - file.tell()):,} bytes follow")
    content = bytearray(file.read(math.prod(shape) * dtype.itemsize))
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise UnreadableError("it ends too early")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")
