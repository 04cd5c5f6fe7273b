"""Where a run comes from: who, which commit, and what was changed since, without its secrets."""

import functools
import getpass
import subprocess
from pathlib import Path

from records import names
from records.errors import mask_secrets

ROOT = Path(__file__).parents[2]
DIFF_BYTES = 1_000_000


# Once a process: it runs the code that it has loaded, whatever happens to the files.
@functools.cache
def tags() -> dict[str, str]:
    """Returns who made a run and from which commit, as MLflow's own tags."""
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_USER

    found = {MLFLOW_SOURCE_NAME: "run_ablation.py"}
    try:
        found[MLFLOW_USER] = getpass.getuser()
    except (KeyError, OSError):  # a container without a user entry
        found[MLFLOW_USER] = "unknown"
    commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no", "--", ".")
    if commit:
        found[MLFLOW_GIT_COMMIT] = commit
    found[names.GIT_DIRTY] = "unknown" if status is None else str(bool(status)).lower()
    return found


@functools.cache
def diff() -> str:
    """Returns what the working tree changes of the commit, "" for a clean one.

    Tracked files only, none that .gitignore names, no binary ones; passwords and tokens masked; cut at a megabyte.
    """
    ignored = (_git("ls-files", "--cached", "--ignored", "--exclude-standard") or "").splitlines()
    text = _git("diff", "HEAD", "--", ".", *(f":(exclude,top,literal){name}" for name in ignored)) or ""
    text = mask_secrets(text)
    return text if len(text) <= DIFF_BYTES else f"{text[:DIFF_BYTES]}\n(cut)\n"


def _git(*arguments: str) -> str | None:
    """What git answers about the project's own folder; None without git or a repository."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()
