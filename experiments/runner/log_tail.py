"""The last log lines of a run, which tell why it failed."""

import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Mapping

LINES = 200


class Tail(logging.Handler):
    """Keeps the last warnings, messages and metrics of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.lines: deque[str] = deque(maxlen=LINES)

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # a library's message whose arguments do not fit it
            self.lines.append(self.format(record))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.lines.append(f"step {step}: " + ", ".join(f"{key} {value:.6g}" for key, value in values.items()))

    def __str__(self) -> str:
        return "\n".join(self.lines)


@contextlib.contextmanager
def listening() -> Iterator[Tail]:
    """Yields the tail of what is logged during the block, warnings included."""
    tail = Tail()
    root = logging.getLogger()
    # A logger without handlers prints its warnings on stderr; with our handler it would not.
    added = [tail] if root.handlers or logging.lastResort is None else [tail, logging.lastResort]
    for handler in added:
        root.addHandler(handler)
    try:
        yield tail
    finally:
        for handler in added:
            root.removeHandler(handler)
