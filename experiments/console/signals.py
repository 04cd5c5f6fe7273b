"""Ctrl-C, SIGTERM and SIGHUP: the first asks the runs to stop at their next step, the second stops immediately."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

STOPPING = "stopping after a checkpoint; a second Ctrl-C or SIGTERM stops at once"


class StopRequest:
    """A callable that returns whether to stop; `exit_status` is 130 after Ctrl-C, 143 after SIGTERM, else None.

    It is 129 after SIGHUP, which a terminal sends when it is closed.
    """

    def __init__(self) -> None:
        self.exit_status: int | None = None

    def __call__(self) -> bool:
        return self.exit_status is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.exit_status is not None:
            raise KeyboardInterrupt
        self.exit_status = 128 + number
        # Where it has interrupted a write to stderr, Python raises RuntimeError: the run must not fail of that.
        with contextlib.suppress(RuntimeError, OSError):
            print(f"\n{STOPPING}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Installs the signal handlers during the block; yields the request."""
    request = StopRequest()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, request._handle) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def pause(seconds: float, stop: Callable[[], bool]) -> None:
    """Sleeps for `seconds`, or until `stop()`: a signal with a handler does not end `time.sleep`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop():
        time.sleep(0.1)
