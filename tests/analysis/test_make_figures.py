"""The command: what it writes and prints, and one line with exit 2 for what it refuses."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from synthetic import study_lines, write_archive

from analysis.make_figures import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def archive(empty_folder: Path) -> Path:
    """A folder, entered, with an archive of two studies in one profile and of one in another."""
    folder = empty_folder / "results" / "archive"
    write_archive(folder, study_lines("mask_type", (0,)), study_lines("depth_response", (0,)))
    paper = study_lines("mask_type", (0,), profile="paper-1", start=5.5)
    write_archive(folder, paper, file="cifar10-paper-1.jsonl")
    return empty_folder


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_both_formats_and_prints_captions(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--figure", "4", "--figure", "cost,4", "--profile", "short"]) == 0
    stems = ["cost-cifar10-short-1", "figure4-response-cifar10-short-1", "figure4-training-cifar10-short-1"]
    assert written(archive / "results" / "figures") == [f"{stem}.{kind}" for stem in stems for kind in ("pdf", "png")]
    out, err = capsys.readouterr()
    assert out.count("\n") == 2 * len(stems)
    assert "results/figures/figure4-response-cifar10-short-1.png, results/figures/figure4-response" in out
    assert "Study: depth_response. Data: CIFAR-10. Profile: short-1. n = 1 seed" in out
    assert "read results/archive/cifar10-short-1.jsonl: 6 runs" in err


def test_what_has_no_data_is_one_line_with_its_command(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--figure", "noise,depth", "--profile", "paper", "--out", "there"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert not (archive / "there").exists()
    assert err.splitlines()[-2:] == [
        "no figure noise of CIFAR-10 · profile paper-1: no finished run of noisy_labels; "
        "`python run_ablation.py --study noisy_labels --profile paper`",
        "no figure depth of CIFAR-10 · profile paper-1: no finished run of arl_vs_nal; "
        "`python run_ablation.py --study arl_vs_nal --profile paper`",
    ]


def test_profiles_have_files_of_their_own(archive: Path) -> None:
    assert main(["--figure", "curves", "--formats", "png", "--out", "there"]) == 0
    assert written(archive / "there" / "figures") == [
        "curves-depth_response-cifar10-short-1.png",
        "curves-mask_type-cifar10-paper-1.png",
        "curves-mask_type-cifar10-short-1.png",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--figure", "5"], "unknown figure 5. Valid: claims, 1, 2, 3, 4, depth, noise, budget, cost, curves."),
        (["--formats", "gif"], "unknown format gif. Valid: png, pdf."),
        (["--formats", ","], "unknown format"),
        (["--profile", "quick"], "no runs of profile 'quick'. There is: paper-1, short-1."),
        (["--data", "cifar100"], "no runs on data set 'cifar100'. There is: cifar10."),
        (["--overrides"], "no runs with overrides here"),
        (["--archive", "gone"], "no archive folder gone"),
        (["--tracking-uri", "sqlite:///gone.db"], "no tracking store at ./gone.db"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--figure", "cost", "--out", "results/archive/cifar10-short-1.jsonl"], "cannot write results/archive/"),
    ],
)
def test_refusals(archive: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    try:
        status = main(argv)
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    err = capsys.readouterr().err
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("make_figures: ")
    assert message in err
    assert not (archive / "results" / "figures").exists()


@pytest.mark.slow  # draws everything three times in processes of their own
def test_files_depend_on_the_data_alone(archive: Path) -> None:
    """Neither on the hash seed nor the user's matplotlibrc, display, torch or experiments."""
    code = (
        "import sys\nfor name in ('torch', 'experiments', 'optuna', 'matplotlib.pyplot'): sys.modules[name] = None\n"
        "from analysis.make_figures import main\nsys.exit(main(sys.argv[1:]))"
    )
    digests = []
    for seed, rc in (("1", "font.size: 30"), ("2", "axes.grid: True\nbackend: TkAgg\npdf.fonttype: 3")):
        (archive / "matplotlibrc").write_text(rc)
        environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        environment.pop("DISPLAY", None)
        argv = ["--figure", "1,cost", "--profile", "short", "--out", seed]
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        files = sorted((archive / seed / "figures").iterdir())
        assert len(files) >= 4
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert digests[0] == digests[1]


def test_a_file_appears_whole_or_not_at_all(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = archive / "results" / "figures"
    assert main(["--figure", "cost", "--formats", "png", "--profile", "short"]) == 0
    before = (folder / "cost-cifar10-short-1.png").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main(["--figure", "cost", "--formats", "png", "--profile", "short"]) == 2
    assert written(folder) == ["cost-cifar10-short-1.png"]
    assert (folder / "cost-cifar10-short-1.png").read_bytes() == before
