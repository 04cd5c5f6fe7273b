"""What the small commands share: a parser that refuses in one line, and how a command ends."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from ran.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """A parser that refuses with one line and exit status 2, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def entry(name: str, main: Callable[[], int]) -> NoReturn:
    """Runs a command and exits: with its status, 2 after one line for what it refuses, or 130 after Ctrl-C."""
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output, as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python's own flush at the end goes
        status = 0
    sys.exit(status)
