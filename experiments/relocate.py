"""Corrects the paths of artifacts in a sqlite store whose folder was renamed, moved or copied.

    python -m experiments.relocate
    python -m experiments.relocate --tracking-uri sqlite:///elsewhere/mlflow.db

MLflow keeps absolute paths. The artifacts must lie in the folder mlruns beside the store.
"""

import contextlib
import sqlite3
from collections.abc import Sequence

from experiments.after_training.options import command_parser
from records.command import entry

# MLflow's tables, their keys, and the columns that hold places of artifacts.
PLACES = (("experiments", "experiment_id", "artifact_location"), ("runs", "run_uuid", "artifact_uri"))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, 0. Raises TrackingError."""
    options = command_parser("relocate", __doc__).parse_args(argv)
    from records.artifact_place import FOLDER, moved_to
    from records.errors import TrackingError, unusable
    from records.mlflow_uri import resolve_uri, sqlite_path
    from records.sqlite_store import holds_mlflow

    uri = resolve_uri(options.tracking_uri)
    path = sqlite_path(uri)
    if path is None:
        raise TrackingError(f"{uri} is no sqlite store: only those have their artifacts in a folder beside them")
    if not path.is_file() or not holds_mlflow(path, uri):
        raise TrackingError(f"no tracking store {uri}; name another with --tracking-uri")
    if not (path.parent / FOLDER).is_dir():
        raise TrackingError(f"there is no folder {path.resolve().parent / FOLDER}: move it there first")
    changed = 0
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            for table, key, column in PLACES:
                for number, location in connection.execute(f"SELECT {key}, {column} FROM {table}").fetchall():
                    if location and (place := moved_to(uri, location)) is not None:
                        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (place.as_uri(), number))
                        changed += 1
    except sqlite3.Error as error:
        raise unusable(uri, error) from None
    print(f"{path}: corrected the artifact paths of {changed} experiments and runs")
    return 0


if __name__ == "__main__":
    entry("relocate", main)
