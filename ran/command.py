"""What the small commands share: a parser that refuses in one line."""

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """A parser that refuses with one line and exit status 2, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")
