"""A study of thousands of cells that train nothing: what planning, placing, tracking and tabulating cost by themselves.

    python -m benchmarks.scale --cells 10000 --workers 2 --out results/benchmarks/scale.json

Every run is leased, opened, logged (about 40 numbers) and closed as usual, in a temporary sqlite store; --tracking-uri
uses a server instead.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT, machine, seconds

STUDY = '''"""Cells that train nothing."""
from experiments.study import Study, axis

STUDY = Study(
    name="scale",
    title="Cells that train nothing",
    profile="smoke",
    seeds=(0,),
    axes=(axis("weight_decay", tuple((i + 1) * 1e-7 for i in range({cells})), field="optim.weight_decay"),),
)
'''


def main(argv: list[str] | None = None) -> int:
    """Prints a table of seconds and writes it as JSON; returns 0."""
    parser = argparse.ArgumentParser("benchmarks.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tracking-uri", help="default: a sqlite file of its own")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        rows = measure(Path(folder), options.cells, options.workers, options.tracking_uri)
    print(f"{options.cells} cells, {options.workers} worker(s), {machine()}")
    for name, value, unit in rows:
        print(f"{name:<52} {value:>10.2f} {unit}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"cells": options.cells, "workers": options.workers, "machine": machine(), "rows": rows}
        options.out.write_text(json.dumps(content, indent=2) + "\n")
    return 0


def measure(folder: Path, cells: int, workers: int, uri: str | None) -> list[tuple[str, float, str]]:
    """Returns (what, value, unit) of each phase, in their order."""
    (folder / "scale.py").write_text(STUDY.format(cells=cells))
    store = folder / "mlflow.db"
    uri = uri or f"sqlite:///{store}"
    places = ["--tracking-uri", uri, "--checkpoints", "checkpoints", "--data.root", "data"]
    launch = [
        *(sys.executable, str(ROOT / "run_ablation.py"), "--study", "scale.py", "--import", "benchmarks.nothing"),
        *("--keep", "none", "--yes", "--workers", str(workers), *places),
    ]
    # The store and the data are made first: neither is of each run.
    seconds(folder, [sys.executable, "-c", f"from experiments.tracking.store import Store; Store.open({uri!r})"])
    one = [word for word in launch if word != "--yes"]
    start = seconds(folder, [*one, "--cells", "weight_decay=1e-07"])
    planned = seconds(folder, [*launch, "--dry-run"])
    trained = seconds(folder, launch)
    again = seconds(folder, [*launch, "--dry-run"])
    nothing = seconds(folder, launch)
    rows = [
        ("a launch of one such run (start, one run, table)", start, "s"),
        ("plan of all, none done", planned, "s"),
        ("all of them, start and table included", trained, "s"),
        ("  of which each run, start taken off", 1e3 * (trained - start) / cells, "ms"),
        ("plan of all, all done", again, "s"),
        ("the same launch again, with the table", nothing, "s"),
        *queries(folder, uri),
        ("largest memory of one of these processes", peak_gib(), "GiB"),
    ]
    if store.exists():
        rows.append(("store", store.stat().st_size / 2**20, "MiB"))
        rows.append(("  of which each run", store.stat().st_size / 2**10 / cells, "KiB"))
    return rows


def queries(folder: Path, uri: str) -> list[tuple[str, float, str]]:
    """What the store takes for the questions that a launch asks."""
    sys.path.insert(0, str(ROOT))
    from experiments.tracking.store import Store

    os.chdir(folder)
    store = Store(uri)
    began = time.monotonic()
    records = store.runs("cluttershapes")
    every = time.monotonic() - began
    some = list(records)[:: max(1, len(records) // 50)]
    began = time.monotonic()
    for print_ in some:
        store.run("cluttershapes", print_)
    one = 1e3 * (time.monotonic() - began) / len(some)
    os.chdir(ROOT)
    return [("all runs of the data set, asked once", every, "s"), ("one run by its fingerprint", one, "ms")]


def peak_gib() -> float:
    """Of the processes that were waited for."""
    usage: Any = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_maxrss / 2**20


if __name__ == "__main__":
    sys.exit(main())
