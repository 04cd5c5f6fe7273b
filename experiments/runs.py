"""Lists the runs of a tracking store, newest first. The column RUN is the argument of the other commands.

    python -m experiments.runs
    python -m experiments.runs --study arl_vs_nal --data cifar10

The outcome "unfinished" means that the run is in training, or that its process died.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.after_training.options import command_parser
from records.command import entry

if TYPE_CHECKING:
    from experiments.tracking.records import StoredRun

DIGITS = 12  # digits of a fingerprint: enough to tell a million runs apart


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, 0. Raises TrackingError."""
    options = _parse(argv)
    from experiments.tracking.errors import TrackingError
    from experiments.tracking.store import Store
    from records.mlflow_uri import resolve_uri
    from records.secrets import mask_secrets
    from records.study_json import profile_name

    uri = resolve_uri(options.tracking_uri)
    store = Store.peek(uri)
    if store is None:
        raise TrackingError(f"no tracking store {uri}; run_ablation.py creates it, or name another with --tracking-uri")
    every = store.find("")
    found = [
        run for run in every
        if options.study in (None, run.study) and options.data in (None, run.dataset)
        and options.profile in (None, run.profile, profile_name(run.profile))
    ]  # fmt: skip
    if not found:
        print(_nothing(mask_secrets(uri), every), file=sys.stderr)
        return 0
    print(_table(found[::-1]))
    return 0


def _table(runs: "Sequence[StoredRun]") -> str:
    """A row per run; with a column for the settings that the user changed, if some run has any."""
    from records.text import columns

    rows = [
        (run.fingerprint[:DIGITS], run.name, run.study, run.profile, run.dataset, run.outcome or "unfinished",
         "" if run.test_err is None else f"{run.test_err:.2f}",
         ", ".join(f"{field}={value}" for field, value in run.overrides.items()))
        for run in runs
    ]  # fmt: skip
    heads = ("RUN", "name", "study", "profile", "data", "outcome", "test error %", "settings")
    width = len(heads) if any(run.overrides for run in runs) else len(heads) - 1
    return columns(heads[:width], [row[:width] for row in rows], right=(6,))


def _nothing(uri: str, every: "Sequence[StoredRun]") -> str:
    """One line that says what the store has instead of runs that match."""
    if not every:
        return f"no runs in {uri}"
    kinds = {"studies": [run.study for run in every], "profiles": [run.profile for run in every],
             "data sets": [run.dataset for run in every]}  # fmt: skip
    there = "; ".join(f"{kind} {', '.join(sorted(set(values)))}" for kind, values in kinds.items())
    return f"no runs in {uri} that match; it has {there}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("runs", __doc__)
    parser.add_argument("--study", metavar="NAME", help="only runs that were first run by this study")
    parser.add_argument("--profile", metavar="NAME", help="only this profile, e.g. quick or quick-3")
    parser.add_argument("--data", metavar="NAME", help="only this data set")
    return parser.parse_args(argv)


if __name__ == "__main__":
    entry("runs", main)
