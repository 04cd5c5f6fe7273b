"""Lists the runs of a tracking store, newest first. The column RUN is the argument of the other commands.

    python -m experiments.runs
    python -m experiments.runs --study arl_vs_nal --data cifar10

The outcome "unfinished" means that the run is in training, or that its process died.
"""

import argparse
import sys
from collections.abc import Sequence

from experiments.after_training.options import command_parser
from records.command import entry

DIGITS = 12  # digits of a fingerprint: enough to tell a million runs apart


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, 0. Raises TrackingError."""
    options = _parse(argv)
    from experiments.tracking.errors import TrackingError
    from experiments.tracking.store import Store
    from records.mlflow_uri import resolve_uri
    from records.secrets import mask_secrets
    from records.text import columns

    uri = resolve_uri(options.tracking_uri)
    store = Store.peek(uri)
    if store is None:
        raise TrackingError(f"no tracking store {uri}; run_ablation.py creates it, or name another with --tracking-uri")
    wanted = {"study": options.study, "profile": options.profile, "dataset": options.data}
    found = [
        run for run in store.find("") if all(value in (None, getattr(run, field)) for field, value in wanted.items())
    ]
    rows = [
        (run.fingerprint[:DIGITS], run.name, run.study, run.profile, run.dataset, run.outcome or "unfinished",
         "" if run.test_err is None else f"{run.test_err:.2f}")
        for run in reversed(found)
    ]  # fmt: skip
    if not rows:
        print(f"no runs in {mask_secrets(uri)}" + (" that match" if any(wanted.values()) else ""), file=sys.stderr)
        return 0
    heads = ("RUN", "name", "study", "profile", "data", "outcome", "test error %")
    print(columns(heads, rows, right=(6,)))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("runs", __doc__)
    parser.add_argument("--study", metavar="NAME", help="only runs that were first run by this study")
    parser.add_argument("--profile", metavar="NAME", help="only this profile, with its version, e.g. quick-3")
    parser.add_argument("--data", metavar="NAME", help="only this data set")
    return parser.parse_args(argv)


if __name__ == "__main__":
    entry("runs", main)
