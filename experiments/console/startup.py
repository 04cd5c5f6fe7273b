"""Shortens the start and the end of a command."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Suspends Python's search for unused objects in the block; also a decorator.

    Imports of torch and MLflow create a million objects, all of which stay in use. Searching them again and again while
    their number grows takes a fifth of the time of the imports.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
