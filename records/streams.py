"""stdin, stdout and stderr that end no command: of any encoding, closed, or with a reader that leaves early."""

import codecs
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PLAIN = {
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{RIGHTWARDS ARROW}": "->",
    **dict.fromkeys("\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-"),
    "\N{BOX DRAWINGS LIGHT VERTICAL}": "|",
}
"""what stands for a character that an encoding such as ASCII lacks; others become "?" """


def prepare_streams() -> None:
    """Opens what is closed, as an empty input or an output to nowhere, and makes the outputs of this process patient.

    A character that the encoding lacks is written as one that it has. What a reader, such as head, no longer takes is
    dropped, so that the command still writes its files. Other errors, such as a full disk, are raised as before.
    """
    codecs.register_error("plain", _plain)
    for descriptor, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_WRONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:  # closed, as cron and systemd may do; else the next file, such as the store, has this number
            os.open(os.devnull, mode)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False))
    sys.stdout, sys.stderr = _patient(sys.stdout), _patient(sys.stderr)


def has_reader(stream: TextIO) -> bool:
    """Returns False if the reader of an output is known to have left; then what is written to it is dropped."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return not (isinstance(raw, _Pipe) and raw.reader_left)


class _Pipe(io.FileIO):
    """An output that drops what its reader no longer takes."""

    def __init__(self, descriptor: int):
        super().__init__(descriptor, "w", closefd=False)
        self.reader_left = False
        self._gone = (errno.EPIPE, errno.EIO) if self.isatty() else (errno.EPIPE,)  # EIO: a terminal that was closed

    def write(self, content: "ReadableBuffer", /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in self._gone:
                raise
            self.reader_left = True
            return len(memoryview(content))


def _patient(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        pipe = _Pipe(stream.fileno())
    except io.UnsupportedOperation:  # no file, as in a test or a notebook
        return stream
    stream.flush()
    unbuffered = stream.write_through  # PYTHONUNBUFFERED
    return io.TextIOWrapper(
        pipe if unbuffered else io.BufferedWriter(pipe), stream.encoding, "plain",
        line_buffering=stream.line_buffering, write_through=unbuffered,
    )  # fmt: skip


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end
