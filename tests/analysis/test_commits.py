"""The commit of a run must hold the study that it ran; what cannot be looked up is a warning."""

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from golden import COMMIT, fingerprint, run_data
from golden import run as row

from analysis import archive
from analysis.commits import check_commits, launched_as
from analysis.read.runs import COMMIT as COMMIT_TAG
from analysis.read.runs import RunData
from records import names


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", "repository", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def commits(empty_folder: Path) -> tuple[str, str]:
    """Two commits of the repository at ./repository: only the second holds a study and a search."""
    os.mkdir("repository")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    first = git("rev-parse", "HEAD")
    for folder, name in (("studies", "mask_type"), ("searches", "attention56")):
        path = Path("repository/experiments") / folder / f"{name}.py"
        path.parent.mkdir(parents=True)
        path.write_text("")
    git("add", "-A")
    git("commit", "-q", "-m", "second")
    return first, git("rev-parse", "HEAD")


def run(study: str, commit: str) -> RunData:
    data = run_data(row(56, "arl", 0, 1.0))
    tags = {**data.tags, names.STUDY: study, COMMIT_TAG: commit}
    return dataclasses.replace(data, tags=tags, name="d56 arl s0")


def check(study: str, commit: str, **launched: str) -> Any:
    return check_commits([run(study, commit)], launched, Path("repository"))


def test_a_commit_with_the_study_is_kept(commits: tuple[str, str]) -> None:
    for study, launched in (
        ("mask_type", {}),
        ("attention56", {}),
        ("attention56_trial7", {"attention56_trial7": "attention56"}),
    ):
        checked = check(study, commits[1], **launched)
        assert (len(checked.kept), checked.refused, checked.warnings) == (1, [], [])


def test_a_commit_without_the_study_is_refused(commits: tuple[str, str]) -> None:
    checked = check("mask_type", commits[0])
    mark = fingerprint(56, "arl", 0)[:12]
    assert (checked.kept, checked.warnings) == ([], [])
    assert checked.refused == [
        f"d56 arl s0 {mark} is left out: its commit {commits[0][:12]} has no experiments/studies/mask_type.py, so it "
        "cannot be repeated; commit the study and launch it with --rerun"
    ]
    assert check("attention56_trial7", commits[0], attention56_trial7="attention56").kept == []


@pytest.mark.parametrize(
    ("study", "commit", "launched", "why"),
    [
        ("mask_type", "", {}, "without a commit"),
        ("mask_type", COMMIT, {}, "of commit c0ffee000000, which is not in this repository"),
        ("mine", None, {"mine": "studies/mine.py"}, "of mine, the user's own file studies/mine.py"),
    ],
)
def test_what_cannot_be_checked_is_kept_with_a_warning(
    commits: tuple[str, str], study: str, commit: str | None, launched: dict[str, str], why: str
) -> None:
    checked = check(study, commits[1] if commit is None else commit, **launched)
    assert (len(checked.kept), checked.refused) == (1, [])
    assert checked.warnings == [f"not checked whether a commit holds the study: 1 run {why}"]


def test_without_a_repository_and_without_git(commits: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir("elsewhere")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd()))
    for root in ("elsewhere", "repository"):
        checked = check_commits([run("mask_type", commits[0])], {}, Path(root))
        assert bool(checked.refused) == (root == "repository")
    monkeypatch.setenv("PATH", "")
    checked = check("mask_type", commits[0])
    assert (len(checked.kept), len(checked.warnings)) == (1, 1)


def test_what_a_launch_names() -> None:
    assert launched_as([
        ("mask_type", "python run_ablation.py --study mask_type --profile short"),
        ("mine", "python run_ablation.py --study 'my studies/mine.py'"),
        ("attention56_trial7", "python run_ablation.py --search attention56 --confirm --trial 7"),
        ("before", None),
    ]) == {"mask_type": "mask_type", "mine": "my studies/mine.py", "attention56_trial7": "attention56"}  # fmt: skip


def test_an_export_leaves_out_what_is_refused(
    store_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_one(runs: list[RunData], launched: dict[str, str]) -> Any:
        checked = check_commits([], launched)
        checked.kept = [run for run in runs if run.fingerprint != fingerprint(56, "arl", 0)]
        checked.refused = ["one is left out"]
        return checked

    monkeypatch.setattr(archive, "check_commits", refuse_one)
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes"]) == 1
    said = capsys.readouterr()
    assert "archive: one is left out\n" in said.err
    assert "7 runs, 7 of them in sqlite:///mlflow.db" in said.out


def test_an_export_says_what_it_could_not_check(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes"]) == 0
    why = "9 runs of commit c0ffee000000, which is not in this repository"
    assert f"warning: not checked whether a commit holds the study: {why}\n" in capsys.readouterr().err
