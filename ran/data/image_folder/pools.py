"""Threads and processes that decode images.

Threads suffice beside a network on the CPU: Pillow decodes without Python's lock, and its results need no copy. Where a
GPU trains, the training thread needs that lock for thousands of launches a step, and processes have locks of their own.
"""

import functools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

_workers: int | None = None
_in_processes = False
_share: int | None = None


def set_workers(count: int | None, *, processes: bool = False) -> None:
    """Sets the number of decoding threads of this process, or of processes; None = its share of the cores."""
    global _workers, _in_processes
    _workers, _in_processes = count, processes


def set_share(cores: int) -> None:
    """Sets how many of this machine's cores are for this process, because other runs train beside it."""
    global _share
    _share = cores


def workers() -> int:
    """Returns the number of decoding threads or processes."""
    return _cores() if _workers is None else _workers


def pool() -> ThreadPoolExecutor:
    """Returns the pool of decoding threads."""
    return _threads(workers())


def process_pool() -> ProcessPoolExecutor | None:
    """Returns the pool of decoding processes; None if threads decode."""
    return _processes(workers()) if _in_processes else None


def forget_processes() -> None:
    """Lets the next call of `process_pool` start new processes: one of these has died."""
    _processes.cache_clear()


@functools.lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "images")


@functools.lru_cache(maxsize=1)
def _processes(count: int) -> ProcessPoolExecutor:
    # Never forked from this process, which may hold a CUDA context and other threads.
    clean = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(clean)
    if clean == "forkserver":
        context.set_forkserver_preload(["ran.data.image_folder.reader"])  # imported once, not by each process
    return ProcessPoolExecutor(count, context, initializer=_begin)


def _begin() -> None:
    """Leaves Ctrl-C to the process that trains, and ends with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(0)


def _cores() -> int:
    if _share is not None:
        return _share
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's processes on this machine
    return max(1, allowed // beside)
