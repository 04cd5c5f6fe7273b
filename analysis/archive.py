"""Keeps finished runs as small files in git, since a tracking store can be gone tomorrow.

    python -m analysis.archive --profile short-1 --data cifar10

One file per data set and profile version, results/archive/<data>-<profile>.jsonl: a line a run, with its tags,
parameters, metrics and curves (no weights). Runs that the file holds already stay, each fingerprint once.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from analysis.store import StoreError, read_results
from ran import names


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where there is nothing to keep."""
    parser = argparse.ArgumentParser(prog="python -m analysis.archive", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--profile", required=True, help="profile with its version, e.g. short-1")
    parser.add_argument("--data", required=True, help="data set, e.g. cifar10")
    parser.add_argument("--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db")
    parser.add_argument("--out", type=Path, default=Path("results/archive"), help="default: results/archive")
    options = parser.parse_args(argv)
    try:
        results = read_results(options.tracking_uri)
    except StoreError as error:
        print(f"archive: {error}", file=sys.stderr)
        return 2
    chosen = [
        run
        for run in results
        if (run["tags"].get(names.PROFILE), run["tags"].get(names.DATASET)) == (options.profile, options.data)
    ]
    if not chosen:
        print(f"archive: no finished run of profile {options.profile} on {options.data}", file=sys.stderr)
        return 2
    path = options.out / f"{options.data}-{options.profile}.jsonl"
    runs = {run["fingerprint"]: run for run in [*read(path), *chosen]}
    write(path, [runs[key] for key in sorted(runs)])
    print(f"{path}: {len(runs)} runs, {len(chosen)} of them from this store")
    return 0


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the runs of an archive file, as store.read_results; none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def write(path: Path, runs: list[dict[str, Any]]) -> None:
    """Writes an archive file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    lines = (json.dumps(run, sort_keys=True, separators=(",", ":")) for run in runs)
    temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
