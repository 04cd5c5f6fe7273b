"""What a launch shows of its study before the end: the table so far."""

import io
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from experiments.console import progress
from experiments.console.progress import BarReporter, PlainReporter
from ran.config import RunConfig, TrainConfig
from records import names


def test_plain_lines_hold_a_table_after_each_seed(capsys):
    with PlainReporter({"a s0": 1.0, "a s1": 1.0}) as report:
        report.table(lambda: "never asked for", seed_over=False)
        report.table(lambda: "cell  error\na     12.50", seed_over=True)
        report.table(lambda: "", seed_over=True)
    assert capsys.readouterr().err == "\nSo far:\ncell  error\na     12.50\n\n"


def test_a_terminal_shows_one_table_that_changes(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda stderr: Console(file=said, force_terminal=True, width=80, height=40)
    )
    with BarReporter({"a s0": 1.0, "a s1": 1.0}) as report:
        report.table(lambda: "a     12.50", seed_over=False)
        report.live.refresh()
        before = said.getvalue()
        report.table(lambda: "a     11.00", seed_over=False)
        report.live.refresh()
    assert "a     12.50" in before
    after = said.getvalue()[len(before) :]
    assert "a     11.00" in after
    assert "a     12.50" not in after


@pytest.mark.parametrize("reporter", [BarReporter, PlainReporter])
def test_the_time_left_counts_from_where_a_run_was_resumed(reporter, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with reporter({"a s0": 100.0}) as report:  # for the 500 steps that are left
        report.run_begins("a s0", RunConfig(train=TrainConfig(steps=1000)), 500)
        now[0] = 40.0
        report.step("a s0", 700)
        assert report.time_left.seconds() == pytest.approx(60)  # 40 s for 200 steps
        report.run_begins("a s0", RunConfig(train=TrainConfig(steps=1000)), 600)  # its worker died
        report.step("a s0", 600)
        assert report.time_left.seconds() == pytest.approx(160)  # 40 s for 100 steps


@pytest.mark.parametrize(("loss", "text"), [(0.70021, "0.7002"), (2.3, "2.300"), (4.0123e11, "4.012e+11")])
def test_a_loss_has_four_digits_however_large(loss, text, monkeypatch, capsys):
    with PlainReporter({"a s0": 100.0}) as report:
        report.run_begins("a s0", RunConfig(train=TrainConfig(steps=1000)), 0)
        report.metrics("a s0", 1, {names.TRAIN_LOSS: loss})
        hour_later = time.monotonic() + 3600
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: hour_later))
        report.step("a s0", 2)
    assert f"step 2/1000, loss {text}, " in capsys.readouterr().err


def test_a_launch_of_two_seeds_prints_the_table_after_the_first(lab):
    said = lab.launch("--seeds", "0,1", "--cells", "learning=arl")
    assert said.status == 0, said.err
    so_far, rest = said.err.split("So far:\n")
    assert "arl s0: finished" in so_far
    assert "arl s1: start" in rest
    shown = [line.split() for line in rest.splitlines() if line.startswith("ARL")]
    assert [row[3] for row in shown] == ["1"], "the one seed that the study plans"
    final = [line.split()[3:5] for line in said.out.splitlines() if line.startswith("ARL")]
    assert final == [["1", "+1"]], "and one beyond its plan"
