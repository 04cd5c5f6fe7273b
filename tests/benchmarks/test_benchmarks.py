"""The benchmarks: that they run from end to end, small, and what their tables are made of. No figure is tested."""

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import accuracy, overhead, report, roofline, step
from ran.engine.optim import SCHEDULES
from ran.kernels.build import library, why_not
from records import names
from records.command import entry

ROOT = Path(__file__).parents[2]


def test_turns_alternate_after_one_to_warm_up():
    seen = []
    times = report.in_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3)
    assert "".join(seen) == "ab" + "ab" * 3
    assert [len(found) for found in times.values()] == [3, 3]


def test_a_ratio_is_taken_within_each_round():
    """One slow round slows both."""
    assert report.ratio([2.0, 20.0, 4.0], [1.0, 10.0, 1.0]) == 2.0


def test_table():
    lines = report.table(["what", "n"], [["a", 1234.5], ["long one", 0.01234], ["none", None]]).splitlines()
    assert lines == [
        "| what     |      n |", "|----------|-------:|",
        "| a        |  1,234 |", "| long one | 0.0123 |", "| none     |      - |",
    ]  # fmt: skip


def test_limits_are_of_this_machine():
    gemm, copy = report.limits(torch.float32)
    assert 1e9 < gemm < 1e15
    assert 1e8 < copy < 1e13


def test_the_document_holds_the_tables_that_were_measured():
    """Red after a measurement: python -m benchmarks.report"""
    assert report.filled(report.DOCUMENT.read_text()) == report.DOCUMENT.read_text()
    assert "Not measured." not in report.DOCUMENT.read_text()


def test_every_result_stands_in_the_document():
    text = report.DOCUMENT.read_text()
    for path in sorted(report.RESULTS.glob("*.json")):
        assert f"<!-- {path.stem} -->" in text, path


def test_a_block_without_a_result_says_so():
    assert report.filled("<!-- nowhere -->\nold\n<!-- end -->") == "<!-- nowhere -->\nNot measured.\n<!-- end -->"


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("peer", [False, True])
def test_variants(bf16, peer):
    found = step.variants(bf16=bf16, fused=True, peer=peer, compiled=True)
    assert len(set(map(str, found))) == len(found)
    assert (step.PLAIN in found, any(v.bf16 for v in found), any(v.peer for v in found)) == (True, bf16, peer)
    bases = step._bases(found)
    assert bases == ([v for v in found if v.peer][:: 2 if bf16 else 1] if peer else [step.PLAIN])


def test_shares_add_up():
    run = {"launched": 0.0, "first": 4.0, "ended": 16.0, "over": 24.0, "steps": 8.0, "evaluation": 2.0, "MLflow": 1.0}
    values = dict(zip(overhead.ROWS, overhead.shares(run), strict=True))
    assert values["start-up, until the first step"] == (4.0, None)
    assert values["training steps"] == (8.0, 40.0)
    assert values["rest of the loop (progress, divergence checks)"] == (1.0, 5.0)
    assert values["end: artifacts, summary, table"] == (8.0, 40.0)
    assert values["from the first step on, without steps"] == (12.0, 60.0)
    assert values["  of which without evaluation"] == (10.0, 50.0)


def test_minutes_to_an_accuracy():
    course = accuracy.Course(7_200, 4.0, {3_600: 32.0, 5_400: 29.0, 7_200: 31.0}, 30.0, names.FINISHED)
    assert course.minutes == 30.0
    assert course.minutes_to(70) == 22.5
    assert course.minutes_to(72) is None
    assert course.row() == [4.0, 7_200, 30.0, 69.0, 70.0, 22.5, None, None, None, ""]


def test_the_others_schedules():
    tengshaofeng, weiaicunzai = SCHEDULES["tengshaofeng"], SCHEDULES["weiaicunzai"]
    assert [tengshaofeng(step, 300) for step in (0, 89, 90, 180, 270)] == pytest.approx([1, 1, 0.1, 0.01, 1e-3])
    assert [weiaicunzai(step, 200) for step in (0, 59, 60, 120, 160)] == pytest.approx([1, 1, 0.2, 0.04, 0.008])
    assert [weiaicunzai(step, 2000) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1])


def test_a_step_is_divided_into_its_parts():
    one = step.step_of(step.Variant(channels_last=True), "attention32c", 10, 2, 32, "cpu")
    one()
    spent, least = roofline.measure(one, 1e11, 1e10, 4)
    assert spent["all"] == pytest.approx(sum(value for part, value in spent.items() if part != "all"))
    assert math.isclose(least["convolution, backward"], 2 * least["convolution, forward"])
    for part in roofline.PARTS:
        assert spent[part] > 0, part


@pytest.mark.skipif(library() is None, reason=f"no kernels here: {why_not()}")
def test_the_kernels_traffic_is_counted():
    fused = step.Variant(channels_last=True, kernels="fused")
    one = step.step_of(fused, "attention32c", 10, 2, 32, "cpu")
    one()
    spent, least = roofline.measure(one, 1e11, 1e10, 4)
    for part in ("BatchNorm (and ReLU where fused), forward", "BatchNorm (and ReLU where fused), backward"):
        assert spent[part] > 0
        assert least[part] > 0


SMALL = {
    "step": ["--network", "attention32c", "--batch", "2", "--rounds", "1"],
    "roofline": ["--network", "attention32c", "--batch", "2", "--rounds", "1"],
    "interpolation": ["--networks", "attention56", "--batch", "2", "--rounds", "1", "--steps", "1"],
    "data": ["--batches", "1", "--rounds", "1", "--batch", "2", "--workers", "1"],
    "inference": ["--network", "attention32c", "--rounds", "1"],
    "decode": ["--width", "60", "--height", "50", "--images", "4", "--batch", "2", "--rounds", "1", "--workers", "1"],
    "evaluation": ["--width", "0.125", "--batches", "500", "--rounds", "1"],
    "memory": ["--network", "attention32c", "--batch", "2"],
    "overhead": ["--seconds", "1", "--repeats", "1"],
    "accuracy": ["--minutes", "0.01", "--recipes", "fast", "--data", "cluttershapes", "--width", "0.125"],
}


@pytest.mark.parametrize(("arguments", "words"), [
    (["step", "--network", "attention57"], "unknown network 'attention57'"),
    (["memory", "--network", "attention57"], "unknown network 'attention57'"),
    (["step", "--device", "cuda"], "this machine has 0 CUDA devices"),
    (["accuracy", "--data-root", "nowhere"], "--data.download"),
    (["step", "--image-size", "224", "--rounds", "1"], "pip install -e '.[benchmarks]', or --no-peer"),
], ids=str)  # fmt: skip
def test_bad_input(arguments, words, monkeypatch, capsys):
    if "CUDA" in words and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    monkeypatch.setitem(sys.modules, "pytorchcv.model_provider", None)
    module = importlib.import_module(f"benchmarks.{arguments[0]}")
    with pytest.raises(SystemExit) as caught:
        entry(arguments[0], lambda: module.main(arguments[1:]))
    said = capsys.readouterr()
    assert (caught.value.code, len(said.err.splitlines()), said.out) == (2, 1, "")
    assert words in said.err


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_from_end_to_end(name, tmp_path):
    arguments = [*SMALL[name], *(["--data-root", str(tmp_path)] if name == "accuracy" else [])]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--out", str(tmp_path / "out.json")],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "out.json").read_text())
    assert report.as_markdown(content) in done.stdout
    assert all(len(row) == len(content["columns"]) for row in content["rows"])
