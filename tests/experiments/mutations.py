"""Takes out each mechanism of docs/reliability.md in turn and runs its tests, which must go red.

    python tests/experiments/mutations.py

Works on a clone in a temporary folder. Prints a line a mechanism; exit status 1 if a test stayed green.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 240


@dataclass(frozen=True)
class Mutation:
    """A mechanism, taken out by one replacement, and the tests that should notice."""

    mechanism: str
    file: str
    old: str
    new: str
    tests: str
    """of pytest: path, and what -k selects"""


MUTATIONS = [Mutation(**entry) for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutation"]]


def goes_red(clone: Path, mutation: Mutation) -> str:
    """Returns "red", "GREEN", or why the mutation could not be made."""
    path = clone / mutation.file
    content = path.read_text()
    if content.count(mutation.old) != 1:
        return f"NOT MADE: {mutation.old!r} is there {content.count(mutation.old)} times"
    path.write_text(content.replace(mutation.old, mutation.new))
    try:
        file, _, selected = mutation.tests.partition(" ")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not gpu", file,
                   "-k", selected]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}
        # Into a file: of a pipe the end would be waited for until the last of the test's processes has gone.
        with tempfile.TemporaryFile("w+") as output:
            try:
                status = subprocess.run(
                    command, cwd=clone, env=environment, stdout=output, stderr=output, timeout=SECONDS
                ).returncode
            except subprocess.TimeoutExpired:
                return f"NO ANSWER in {SECONDS} s"
            output.seek(0)
            said = output.read()
        if status < 0:
            return "red (killed)"
        return {0: "GREEN", 1: "red"}.get(status, f"NOT RUN: {said[-300:]}")
    finally:
        path.write_text(content)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        found = []
        for mutation in MUTATIONS:
            found.append(goes_red(clone, mutation))
            print(f"{mutation.mechanism:<42} {found[-1]:<12} {mutation.tests}", flush=True)
    red = sum(verdict.startswith("red") for verdict in found)
    print(f"{red} of {len(found)} mechanisms are missed by their tests when they are taken out")
    return 0 if red == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())
