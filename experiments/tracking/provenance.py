"""Provenance of a run: user, commit, and uncommitted changes, without secrets."""

import functools
import getpass
import subprocess
from pathlib import Path

from records import names
from records.secrets import mask_secrets

ROOT = Path(__file__).parents[2]
DIFF_BYTES = 1_000_000


# Once per process: it runs the code that it has loaded, even if the files change later.
@functools.cache
def tags() -> dict[str, str]:
    """Returns the user and the commit as MLflow's own tags, and whether the working tree has changes."""
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
    """Returns the uncommitted changes of tracked files, "" if there are none.

    Without ignored and binary files; passwords and tokens are masked; cut at one megabyte.
    """
    ignored = (_git("ls-files", "--cached", "--ignored", "--exclude-standard") or "").splitlines()
    text = _git("diff", "HEAD", "--", ".", *(f":(exclude,top,literal){name}" for name in ignored)) or ""
    text = mask_secrets(text)
    return text if len(text) <= DIFF_BYTES else f"{text[:DIFF_BYTES]}\n(cut)\n"


def _git(*arguments: str) -> str | None:
    """The output of git in the project's folder; None without git or a repository."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()
