"""Lists the runs of a tracking store, the newest first, with the digits by which the other commands take them.

python -m experiments.runs
python -m experiments.runs --study arl_vs_nal --data cifar10
"""

import argparse
import sys
from collections.abc import Sequence

from experiments.after_training.options import wrapped
from records.command import OneLineParser, entry

DIGITS = 12  # of a fingerprint: what two of a million runs do not share


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, 0. Raises TrackingError."""
    options = _parse(argv)
    from experiments.tracking.errors import TrackingError
    from experiments.tracking.store import Store
    from experiments.tracking.uri import resolve_uri
    from records.text import columns

    uri = resolve_uri(options.tracking_uri)
    store = Store.peek(uri)
    if store is None:
        raise TrackingError(f"no tracking store {uri}; a launch of run_ablation.py makes it, or name another")
    wanted = {"study": options.study, "profile": options.profile, "dataset": options.data}
    found = [
        run for run in store.find("") if all(value in (None, getattr(run, what)) for what, value in wanted.items())
    ]
    rows = [
        (run.fingerprint[:DIGITS], run.name, run.study, run.profile, run.dataset, run.outcome or "unfinished",
         "" if run.test_err is None else f"{run.test_err:.2f}")
        for run in reversed(found)
    ]  # fmt: skip
    if not rows:
        print(f"no runs in {uri}" + (" of these" if any(wanted.values()) else ""), file=sys.stderr)
        return 0
    heads = ("RUN", "name", "study", "profile", "data", "outcome", "test error %")
    print(columns(heads, rows, right=(6,)))
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser(
        "python -m experiments.runs", description=wrapped(__doc__ or ""), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--study", metavar="NAME", help="only runs that this study ran first")
    parser.add_argument("--profile", metavar="NAME", help="only this profile, with its version, as quick-1")
    parser.add_argument("--data", metavar="NAME", help="only this data set")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow store; default: as run_ablation.py")
    return parser.parse_args(argv)


if __name__ == "__main__":
    entry("runs", main)
