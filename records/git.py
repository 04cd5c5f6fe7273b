"""Questions to git about a folder."""

import os
import subprocess
from pathlib import Path


def run_git(folder: Path, *arguments: str) -> bytes | None:
    """Returns what git prints when called in a folder; None if git is missing, takes longer than 10 s or fails.

    Variables that name another repository or change what git prints, such as the GIT_DIR that git sets for a hook, are
    left out of its environment; its configuration (GIT_CONFIG_...) is not.
    """
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key.startswith("GIT_CONFIG_")
    }
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=10, env=environment).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def is_tracked(path: Path) -> bool:
    """Returns whether git tracks a file, and not only the folders around it."""
    return run_git(path.parent, "ls-files", "--error-unmatch", "--", f":(literal){path.name}") is not None
