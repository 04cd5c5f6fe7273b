"""The report: one file with everything in it, what made each part, and a page that a browser shows whole."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from synthetic import results_of, study_lines, write_archive

from analysis import figures, make_report
from analysis.read.deviations import FOLDERS, deviations
from analysis.report import _runs
from records import names

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STUDIES = ("mask_type", "arl_vs_nal", "noisy_labels")


def outcome(cell, seed):
    """Seed 2 of the deepest NAL diverged, seed 1 of Attention-92 was killed."""
    if cell == {"depth": 164, "learning": "nal"} and seed == 2:
        return names.DIVERGED
    return names.KILLED if cell == {"depth": 92, "learning": "arl"} and seed == 1 else names.FINISHED


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        write_archive(folder / "archive", *(study_lines(name, outcomes=outcome) for name in STUDIES))
        assert make_report.main(["--archive", "archive", "--out", "out"]) == 0
    return folder / "out" / make_report.NAME


@pytest.fixture(scope="module")
def text(report):
    return report.read_text(encoding="utf-8")


def test_it_needs_no_other_file(text):
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(" not in text
    assert "<script" not in text
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(set(ids)) == len(ids)
    assert {source[1:] for source in sources if source.startswith("#")} <= set(ids)


def test_claims_come_first_then_studies_then_the_rest(text):
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "What was asked and found",
        "Table 1: Attention types: mixed, channel and spatial (CIFAR-10, short-1)",
        "Table 3: Attention residual learning against naive attention learning (CIFAR-10, short-1)",
        "Table 5: Noisy training labels (CIFAR-10, short-1)",
        "Networks", "Across studies", "Deviations and choices", "Runs",
    ]  # fmt: skip
    assert re.findall(r'<li><a href="#[^"]*">(.*?)</a></li>', text) == titles
    first = text[: text.index("Table 1: Attention types: mixed, channel and spatial (CIFAR-10, short-1)</h2>")]
    assert first.index("figure-claims-cifar10-short-1") < first.index("Claims of the paper</h3>")


def section(text, title):
    return re.search(rf"<section id=[^>]*><h2>{re.escape(title)}.*?</section>", text, re.S)[0]


def test_a_study_has_its_verdicts_table_and_figures_together(text):
    found = section(text, "Table 3")
    parts = [
        "every depth (Table 3): <strong>",
        'id="table3-cifar10-short-1"',
        'id="figure-depth-',
        'id="figure-curves-',
    ]
    places = [found.index(part) for part in parts]
    assert places == sorted(places)
    assert "robust" not in found
    assert found.count("<img ") >= 3
    networks = section(text, "Networks")
    assert networks.count("<details><summary>Architecture") == networks.count("<img ") > 3


def test_it_is_small_enough_to_send(report):
    assert report.stat().st_size < 3_000_000


def test_each_part_says_what_made_it(text):
    table = re.search(r'<div id="table3-cifar10-short-1">.*?</details></div>', text, re.S)[0]
    assert "Made by 23 runs" in table, "24 planned, one of which was killed"
    assert "python run_ablation.py --study arl_vs_nal" in table
    assert "short-1, CIFAR-10" in table
    commits = re.search(r"Commits: (.*?)</p>", table)[1]
    assert re.search(r'title="[0-9a-f]{40}"', commits)
    prints = re.search(r"Fingerprints: (.*?)</p>", table)[1]
    assert len(set(re.findall(r'title="([0-9a-f]{64})"', prints))) == 23


def test_runs_that_did_not_finish_are_listed(text):
    listed = re.search(r"<h3>Runs that did not finish</h3><ul>(.*?)</ul>", text)[1]
    lines = re.findall("<li>(.*?)</li>", listed)
    assert sorted((line.split(",")[0], line.split(": ")[1].split(",")[0]) for line in lines) == [
        ("arl_vs_nal", names.DIVERGED), ("arl_vs_nal", names.KILLED),
    ]  # fmt: skip


def test_runs_are_counted_against_the_plan(tmp_path):
    lines = study_lines("mask_type", (0, 7))
    lines[0]["study"]["planned_seeds"] = [0, 1, 2]
    results = results_of(tmp_path / "archive", lines)
    assert "<td>3/9 +3</td>" in _runs(results, results.studies, []).body


def test_deviations_are_the_codes_own(text):
    listed = [sentence for _, sentence in deviations()]
    code = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    marks = sum(path.read_text().count("# Deviation:") for path in code)
    assert len(listed) == marks >= 10
    assert all(html.escape(sentence) in text for sentence in listed)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no tracking store"),
        (["--tracking-uri", "sqlite:///absent.db"], "absent.db"),
        (["--archive", "absent"], "absent"),
        (["--archive", "archive", "--profile", "huge"], "short-1"),
        (["--archive", "archive", "--data", "mnist"], "cifar10"),
        (["--table", "3"], "--table"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_archive(tmp_path / "archive", study_lines("mask_type", seeds=(0,)))
    try:
        status = make_report.main(arguments)
    except SystemExit as stop:  # argparse
        status = stop.code
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("make_report: ")
    assert says in said.err
    assert not (tmp_path / "results").exists()


def test_a_place_that_cannot_be_written_is_refused_before_figures_are_drawn(tmp_path, monkeypatch, capsys):
    write_archive(tmp_path / "archive", study_lines("mask_type", seeds=(0,)))
    (tmp_path / "file").touch()
    monkeypatch.setattr(figures, "collect_figures", lambda *_: pytest.fail("drawn in vain"))
    arguments = ["--archive", str(tmp_path / "archive"), "--out", str(tmp_path / "file" / "out")]
    assert make_report.main(arguments) == 2
    assert f"{tmp_path / 'file'} is not a folder" in capsys.readouterr().err


# The report in a frame of a given width, which tells what it finds there.
HARNESS = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="frame" style="border:0;width:{width}px;height:2000px"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const inside = node => node.closest(".wide") !== null;
  const beyond = [...page.body.querySelectorAll("*")]
    .filter(node => !inside(node.parentElement) && node.getBoundingClientRect().right > {width} + 0.5);
  document.getElementById("found").textContent = JSON.stringify({{
    viewport: frame.contentWindow.innerWidth,
    width: root.scrollWidth,
    images: [...page.images].map(image => image.complete && image.naturalWidth > 0),
    shown: [...page.images].map(image => image.getBoundingClientRect().width),
    beyond: beyond.map(node => node.outerHTML.slice(0, 100)),
  }});
}};
frame.srcdoc = {page};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [1600, 1280, 400])
def test_a_browser_shows_it_whole(width, text, tmp_path):
    page = json.dumps(text).replace("</", "<\\/")
    (tmp_path / "harness.html").write_text(HARNESS.format(width=width, page=page), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=20000 --window-size=1700,2100 --dump-dom"
    )
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path}/harness.html"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)[1]))
    assert found["viewport"] == width
    assert len(found["images"]) == text.count("<img ") > 5
    assert all(found["images"])
    assert all(0 < shown <= width for shown in found["shown"])
    assert found["width"] <= width
    assert found["beyond"] == []
