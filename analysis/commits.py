"""Whether the commit that a run names holds the study that it ran: a run that cannot be repeated is not archived."""

import itertools
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from analysis.read.runs import COMMIT, RunData
from records import names
from records.git import run_git

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("experiments/studies", "experiments/searches")
SHOWN = 12  # printed digits of a commit or fingerprint


@dataclass
class Checked:
    """Runs whose commits were looked at."""

    kept: list[RunData] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """one line per run that is left out"""
    warnings: list[str] = field(default_factory=list)
    """lines about runs that are kept unchecked"""


def check_commits(runs: Iterable[RunData], launched: Mapping[str, str], root: Path = ROOT) -> Checked:
    """Returns which runs name a commit of the repository at `root` that holds their study or search.

    `launched` as by `launched_as`; a study that it lacks is launched by its name. A user's own file need not be in a
    commit. A run of one, a run without a commit, and a run with one that the repository lacks, as a shallow clone may,
    are kept with a warning.
    """
    git, checked = _Git(root), Checked()
    unchecked: dict[str, int] = {}
    for run in runs:
        study, commit = run.tags.get(names.STUDY, ""), run.tags.get(COMMIT, "")
        file = launched.get(study, study)
        reason = None
        if not commit:
            reason = "without a commit"
        elif not git.has(commit):
            reason = f"of commit {commit[:SHOWN]}, which is not in this repository"
        elif not git.has_any(commit, file):
            if not file.endswith(".py"):
                checked.refused.append(
                    f"{run.name or 'run'} {run.fingerprint[:SHOWN]} is left out: its commit {commit[:SHOWN]} has no "
                    f"{FOLDERS[0]}/{file}.py, so it cannot be repeated; commit the study and launch it with --rerun"
                )
                continue
            reason = f"of {study}, the user's own file {file}"
        if reason is not None:
            unchecked[reason] = unchecked.get(reason, 0) + 1
        checked.kept.append(run)
    checked.warnings += [
        f"not checked whether a commit holds the study: {number} run{'' if number == 1 else 's'} {reason}"
        for reason, number in unchecked.items()
    ]
    return checked


class _Git:
    """Questions to git, each asked once."""

    def __init__(self, root: Path):
        self._root = root
        self._known: dict[str, bool] = {}

    def has(self, commit: str) -> bool:
        return self._exists(f"{commit}^{{commit}}")

    def has_any(self, commit: str, name: str) -> bool:
        return any(self._exists(f"{commit}:{folder}/{name}.py") for folder in FOLDERS)

    def _exists(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = run_git(self._root, "cat-file", "-e", name) is not None
        return self._known[name]


def launched_as(commands: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Returns what the launch of each study and search names, from (name, command) of their records.

    This is the study's or search's own name, the name of the search for a study that confirms a trial, or a path that
    ends in .py. Records without a command give nothing.
    """
    found: dict[str, str] = {}
    for name, command in commands:
        words = shlex.split(command or "")
        named = [after for word, after in itertools.pairwise(words) if word in ("--study", "--search")]
        found |= {name: named[0]} if named else {}
    return found
