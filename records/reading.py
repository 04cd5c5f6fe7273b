"""Reading files that somebody else may have made: their size is known before they are read, and errors are one kind.

Only regular files are opened: a named pipe would wait for ever, and a device has no end.
"""

import json
import os
import stat
from pathlib import Path
from typing import IO, Any

MOST_JSON = 64 * 2**20
"""bytes of a JSON file; the largest of ours, of a study of ten thousand runs, has a tenth"""
DEEPEST = 50
"""levels of lists and objects in a JSON text; ours have seven"""


class UnreadableError(ValueError):
    """A file or text that is not what it should be; the message is one line, without the path."""


def read_bytes(path: str | Path, most: int = MOST_JSON) -> bytes:
    """Returns the content of a regular file of at most `most` bytes. Raises UnreadableError, OSError."""
    with open_regular(path, most) as file:
        return file.read(most)


def open_regular(path: str | Path, most: int | None = None) -> IO[bytes]:
    """Returns a file opened to be read, if it is a regular one of at most `most` bytes (None = of any size).

    Raises UnreadableError, OSError.
    """
    check_regular(path)  # before it is opened: to open a pipe is to wait
    file = open(path, "rb")  # noqa: SIM115  the caller closes it
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or (most is not None and found.st_size > most):
        file.close()
        raise UnreadableError(f"it has {found.st_size:,} bytes, more than the {most or 0:,} that are read")
    return file


def check_regular(path: str | Path) -> None:
    """Raises UnreadableError unless the path, or what it links to, is a regular file; OSError if there is none."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise UnreadableError("it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")


def parse_json(content: str | bytes) -> Any:
    """Returns the content of a JSON text in UTF-8. Raises UnreadableError, also for one that is nested too deeply."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        found = json.loads(text)
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError, JSONDecodeError, a number of thousands of digits
        raise UnreadableError(f"it is no JSON ({str(error).splitlines()[0]})") from None
    if _depth(found) > DEEPEST:
        raise UnreadableError("it is nested too deeply")
    return found


def parse_object(content: str | bytes) -> dict[str, Any]:
    """Returns the object of a JSON text. Raises UnreadableError, also for other values than an object."""
    found = parse_json(content)
    if not isinstance(found, dict):
        raise UnreadableError(f"it holds no JSON object, but {_kind(found)}")
    return found


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _depth(content: Any) -> int:
    level, depth = [content], 0
    while level and depth <= DEEPEST:
        depth += 1
        inside = [c.values() if isinstance(c, dict) else c for c in level if isinstance(c, (dict, list))]
        level = [value for values in inside for value in values]
    return depth
