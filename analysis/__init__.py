"""Tables, figures and claims from recorded runs. `load_runs` and `load_curves` give them as DataFrames."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a second and more of imports that --help does not need
    import pandas as pd

    from analysis.read.results import Results


def load_runs(uri: str | None = None, archive: bool | str | Path = True) -> "pd.DataFrame":
    """Returns all runs of a tracking store and an archive, a row per fingerprint.

    The columns are those of `analysis.read.runs.RUN_COLUMNS` (outcome, seed, cell, study, test_err in %, hours, source,
    ...), then one for each parameter ("model.learning") and each metric ("final_test_err"); what a run did not log is
    NaN.

    Args:
        uri: tracking URI; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db if it is there.
        archive: whether to add results/archive/ below the working directory; or the folder of an archive.

    Raises:
        analysis.read.mlflow_client.StoreError: there are no runs, or they cannot be read; the message is one line.
    """
    import pandas as pd

    runs = _results(uri, archive).runs
    wide = [pd.DataFrame(list(runs[column]), index=runs.index) for column in ("params", "metrics")]
    wide[0] = wide[0].drop(columns=["seed"], errors="ignore")  # a column already
    return pd.concat([runs.drop(columns=["params", "metrics"]), *wide], axis=1)


def load_curves(
    uri: str | None = None, archive: bool | str | Path = True, *, fingerprints: Iterable[str] | None = None
) -> "pd.DataFrame":
    """Returns the curves of runs, a row per point, with the columns fingerprint, curve, step and value.

    `curve` is train/loss, train/err (%), val/err (%), response_stage1 and so on; `step` counts optimizer steps. `uri`,
    `archive` and errors as of `load_runs`; `fingerprints`: only of these runs, which saves reading the others.
    """
    import pandas as pd

    results = _results(uri, archive)
    wanted = list(results.runs["fingerprint"]) if fingerprints is None else list(fingerprints)
    points = [
        (fingerprint, curve, step, value)
        for fingerprint in wanted
        for curve, of_curve in sorted(results.curves(fingerprint).items())
        for step, value in of_curve
    ]
    return pd.DataFrame(points, columns=["fingerprint", "curve", "step", "value"])


def _results(uri: str | None, archive: bool | str | Path) -> "Results":
    from analysis.read.archive_file import ARCHIVE
    from analysis.read.results import read_results

    if isinstance(archive, bool):
        return read_results(uri, ARCHIVE if archive else None)
    return read_results(uri, Path(archive), named=True)
