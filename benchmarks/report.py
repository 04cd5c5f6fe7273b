"""Shared by the benchmarks: name and limits of the machine, interleaved timing, tables on screen, in JSON and docs.

python -m benchmarks.report            # writes the tables of results/benchmarks/ into docs/performance.md
"""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "benchmarks"
DOCUMENT = ROOT / "docs" / "performance.md"


def machine() -> str:
    """Returns a description of this machine."""
    return f"{os.cpu_count()} cores of {processor()}, Python {platform.python_version()}"


def processor() -> str:
    """Returns the processor's name and widest vector unit, from /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    units = [u for u in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if re.search(rf"\b{u}\b", text)]
    return f"{name[1].strip() if name else platform.machine()}{f' ({units[0]})' if units else ''}"


def torch_machine(device: str = "cpu") -> str:
    """Returns `machine` with PyTorch's version and its threads, or the GPU's name."""
    import torch

    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name() if device == "cuda" else f"{threads} thread{'s' if threads > 1 else ''}"
    return f"{machine()}, PyTorch {torch.__version__}, {where}"


def in_turns(
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Returns the seconds of each step over `rounds` interleaved rounds, so that other load affects all alike.

    Each is called once before, as a warm-up. `clock`: time.process_time leaves out the time of other processes.
    """
    import torch

    def timed(step: Callable[[], object]) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        began = clock()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        return clock() - began

    for step in steps.values():
        timed(step)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(timed(step))
    return found


def middle(values: Sequence[float]) -> float:
    """Returns the median."""
    return statistics.median(values)


def seconds(folder: Path, command: Sequence[str], **environment: str) -> float:
    """Returns the duration of a command. If it fails, prints its stderr and raises CalledProcessError."""
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True
    )
    took = time.monotonic() - began
    if done.returncode:
        sys.stderr.write(done.stderr[-4_000:])
        done.check_returncode()
    return took


def ratio(base: Sequence[float], other: Sequence[float]) -> float:
    """Returns the speedup of `other` over `base`: the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(base, other, strict=True))


def limits(dtype: Any, device: str = "cpu") -> tuple[float, float]:
    """Returns the machine's peak FLOP/s of a matrix product in `dtype` and bytes/s of a copy (read + written).

    The best of several, because other load can only slow them down.
    """
    import torch

    n = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(2**26 if device == "cpu" else 2**28, device=device)
    target = torch.zeros_like(source)
    best = in_turns({"gemm": lambda: a @ b, "copy": lambda: target.copy_(source)}, 8, device)
    return 2 * n**3 / min(best["gemm"]), 2 * source.nbytes / min(best["copy"])


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a Markdown table; numbers to three significant digits, to the right."""
    cells = [[_text(value) for value in row] for row in rows]
    wide = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    right = [all(isinstance(row[i], (int, float, type(None))) for row in rows) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, wide, right, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|".join(f"{'-' * (w + 1)}{':' if r else '-'}" for w, r in zip(wide, right, strict=True))
    return "\n".join([line(columns), f"|{rule}|", *(line(row) for row in cells)])


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def arguments(module: str, document: str | None) -> argparse.ArgumentParser:
    """Returns a benchmark's command-line parser, with the common flags."""
    first = (document or "").splitlines()[0]
    parser = argparse.ArgumentParser(f"python -m {module}", description=first)
    parser.add_argument("--out", type=Path, help="JSON file to write (results/benchmarks/NAME.json for the docs)")
    return parser


def publish(
    module: str, argv: Sequence[str] | None, out: Path | None, where: str, title: str, columns: Sequence[str],
    rows: Sequence[Sequence[Any]], notes: Sequence[str] = (),
) -> None:  # fmt: skip
    """Prints the table and, with `out`, writes it to a file together with command and machine."""
    words = list(sys.argv[1:] if argv is None else argv)
    content = {
        "title": title, "command": shlex.join(["python", "-m", module, *words]), "machine": where,
        "date": time.strftime("%Y-%m-%d"), "columns": list(columns), "rows": [list(r) for r in rows],
        "notes": list(notes),
    }  # fmt: skip
    print(as_markdown(content))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def as_markdown(content: Mapping[str, Any]) -> str:
    """Returns a benchmark's table with machine, date and command."""
    notes = [line for note in content["notes"] for line in (note, "")]
    head = f"{content['title']}. {content['machine']}; {content['date']}."
    return "\n".join([head, "", table(content["columns"], content["rows"]), "", *notes, f"    {content['command']}"])


def filled(document: str) -> str:
    """Returns the document with each block `<!-- NAME -->` .. `<!-- end -->` replaced by the table of NAME.json."""

    def block(match: re.Match[str]) -> str:
        path = RESULTS / f"{match[1]}.json"
        body = as_markdown(json.loads(path.read_text())) if path.exists() else "Not measured."
        return f"<!-- {match[1]} -->\n{body}\n<!-- end -->"

    return re.sub(r"<!-- ([a-z0-9_-]+) -->\n.*?<!-- end -->", block, document, flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text()))
