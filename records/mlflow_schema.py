"""What to say of a store that another version of MLflow wrote."""

import importlib.metadata
import re
from importlib.util import find_spec
from pathlib import Path


def schema_reason(message: str) -> str | None:
    """Returns whether a newer or an older MLflow wrote a store, of MLflow's message about its schema; None of others.

    MLflow says `mlflow db upgrade` in both cases, which cannot mend a newer store.
    """
    found = re.search(r"out-of-date database schema \(found version (\w+)", message)
    if found is None:
        return None
    spec = find_spec("mlflow")
    folders = (spec.submodule_search_locations if spec else None) or ()
    if any(list(Path(folder, "store", "db_migrations", "versions").glob(f"{found[1]}_*.py")) for folder in folders):
        return "an older MLflow wrote it: copy it, then `mlflow db upgrade URI` migrates it"
    installed = importlib.metadata.version("mlflow")
    return f"a newer MLflow than the installed {installed} wrote it: `pip install --upgrade mlflow` installs that"
