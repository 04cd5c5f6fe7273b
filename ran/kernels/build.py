"""Builds the CPU kernels with the machine's C++ compiler, once per machine and version; nothing is installed.

They are stored in the user's cache folder (XDG_CACHE_HOME, ~/.cache). Without a compiler, or with kernels that do not
work, `library()` is None and PyTorch's operations are used.
"""

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from records.errors import UserError
from records.files import write_whole
from records.private_folder import cache_folder, check_own, make_private

log = logging.getLogger("ran.kernels")

SOURCE = Path(__file__).with_name("channels_last.cpp")
OFF = "RAN_KERNELS"
"""environment variable: 0 = do not use the kernels, as on a machine without a compiler"""
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC"),
    # With 512-bit vectors available, compilers still prefer 256, for processors that would slow down.
    *(["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []),
    # NaN and infinity keep their meaning; only what prevents vector instructions is switched off.
    *("-fno-math-errno", "-fno-trapping-math"),
)
SECONDS = 120
"""time limit of the compiler, which takes two to ten"""


class KernelError(Exception):
    """The kernels cannot be built or loaded here; the message says why in one line."""


def library() -> ctypes.CDLL | None:
    """Returns the kernels, after building them if necessary, or None; `why_not()` then returns the reason."""
    found = _found()
    return None if isinstance(found, str) else found


def why_not() -> str:
    """Returns why the kernels cannot be used, one line; "" if they can."""
    found = _found()
    return found if isinstance(found, str) else ""


def compiler_version() -> str:
    """Returns the first line of the version that the kernels' compiler prints; "" if they cannot be used."""
    return "" if why_not() else _version(_compiler()).partition("\n")[0].strip()


def is_built() -> bool:
    """Returns whether the kernels can be loaded without building them first."""
    try:
        return _cached(_compiler()) is not None and not why_not()
    except KernelError:
        return False


@functools.cache
def _found() -> ctypes.CDLL | str:
    try:
        return _load(_built())
    except KernelError as error:
        log.info("PyTorch's own operations are used: %s", error)
        return str(error)


def _built() -> Path:
    if os.environ.get(OFF) == "0":
        raise KernelError(f"{OFF}=0")
    if sys.platform != "linux":
        raise KernelError(f"the kernels are built on Linux only, this is {sys.platform}")
    compiler = _compiler()
    return _cached(compiler) or _build(compiler)


def _cached(compiler: list[str]) -> Path | None:
    """Returns the kernels of the cache folder, None if they are not there or damaged. Their name has their hash.

    Raises KernelError if another user can have written them, as ssh refuses such a key: loading is executing.
    """
    with _one_line():
        folder = cache_folder()
        if not folder.exists():
            return None
        check_own(folder)
        for path in sorted(folder.glob(f"{_prefix(compiler)}*.so")):
            check_own(path)
            if path.name == _name(compiler, path.read_bytes()):
                return path
    return None


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Turns errors of the cache folder into KernelError."""
    try:
        yield
    except (OSError, UserError) as error:
        raise KernelError(str(error)) from None


def _prefix(compiler: list[str]) -> str:
    return f"channels_last-{_key(compiler)}-"


def _name(compiler: list[str], content: bytes) -> str:
    return f"{_prefix(compiler)}{hashlib.sha256(content).hexdigest()[:16]}.so"


def _compiler() -> list[str]:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        words = shlex.split(name)
        if words and shutil.which(words[0]):
            return words
    raise KernelError("no C++ compiler (Debian: apt install g++)")


def _key(compiler: list[str]) -> str:
    """Returns a hash of everything that affects the build, because different machines may share a home folder."""
    said = _version(compiler)
    parts = [SOURCE.read_text(encoding="utf-8"), repr(FLAGS), repr(compiler), said, platform.machine(), _processor()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _version(compiler: list[str]) -> str:
    """Returns what a compiler prints of its version. Raises KernelError."""
    try:
        return subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise KernelError(f"{compiler[0]}: {error}") from None


def _processor() -> str:
    """Returns the processor's model and features, without its current clock rate."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU implementer", "CPU part")
        return "\n".join(line for line in lines if line.split("\t")[0].strip() in wanted)
    return platform.processor()


def _build(compiler: list[str]) -> Path:
    with _one_line():
        cache = cache_folder()
        make_private(cache)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            compiled, linked = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
            _run([*compiler, *FLAGS, "-c", str(SOURCE), "-o", str(compiled)])
            # Not linked with OpenMP: its functions are found in the library that torch has loaded, so that there is
            # one pool of threads, of torch's size.
            _run([*compiler, "-shared", str(compiled), "-o", str(linked)])
            content = linked.read_bytes()
        target = cache / _name(compiler, content)
        write_whole(target, content)
        return target


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.SubprocessError as error:
        raise KernelError(f"{command[0]}: {error}") from None
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), f"status {done.returncode}")
        raise KernelError(f"{command[0]}: {reason}")


def _load(path: Path) -> ctypes.CDLL:
    import torch  # noqa: F401  loads its OpenMP

    try:
        ctypes.CDLL(_openmp(), mode=ctypes.RTLD_GLOBAL)
        loaded = ctypes.CDLL(str(path))
        p, i, d = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
        for dtype in ("float32", "bfloat16"):
            getattr(loaded, f"forward_{dtype}").argtypes = [*[p] * 7, i, i, d, d]
            getattr(loaded, f"infer_{dtype}").argtypes = [*[p] * 6, i, i, d]
            getattr(loaded, f"backward_{dtype}").argtypes = [*[p] * 9, i, i]
    except (OSError, AttributeError) as error:
        raise KernelError(f"{path}: {error}") from None
    return loaded


def _openmp() -> str:
    """Returns the path of the OpenMP library that torch has loaded. Raises KernelError."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")):
            return path
    raise KernelError("this PyTorch is built without OpenMP")
