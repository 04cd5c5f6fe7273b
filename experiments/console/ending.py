"""Shortens the end of a command."""

import atexit
import contextlib
import gc
import os
import sys
import threading
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """Ends the process with this exit status, as sys.exit does, but without freeing all objects one by one.

    That takes half a second after an import of torch. If other threads must end first, or output cannot be written,
    this is sys.exit.
    """
    gc.freeze()  # sys.exit would search all objects for cycles
    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    sys.exit(status)
