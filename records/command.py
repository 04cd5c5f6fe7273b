"""What the small commands share: a parser that refuses in one line, and how a command ends."""

import argparse
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from records.account import prepare_account
from records.errors import UserError
from records.secrets import mask_stderr
from records.streams import prepare_streams


class OneLineParser(argparse.ArgumentParser):
    """A parser that refuses with one line and exit status 2, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        name = self.prog.rpartition(".")[2]  # as `entry` has it, e.g. of "python -m experiments.evaluate"
        self.exit(2, f"{name}: {message}\n")


def prepare_process() -> None:
    """Makes streams and user what every part of a command relies on, whatever started it."""
    prepare_streams()
    prepare_account()
    mask_stderr()


def entry(name: str, main: Callable[[], int]) -> NoReturn:
    """Runs a command and exits: with its status, 2 after one line for what it refuses, or 130 after Ctrl-C."""
    prepare_process()
    before = None
    with contextlib.suppress(ValueError):  # not in the main thread
        # An exit by an exception removes temporary folders.
        before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        status = 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            raise
        _drop_output()
        print(f"{name}: the output cannot be written ({error.strerror})", file=sys.stderr)
        status = 2
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    sys.exit(status)


def _drop_output() -> None:
    """Lets Python's own flush at the end write to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
