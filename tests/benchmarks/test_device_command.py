"""The command that measures a GPU: its stages keep their limits, and each was run here at its smallest."""

import json
import time

import pytest
import torch

from benchmarks import device
from benchmarks.stages import Work, speed
from benchmarks.stages.__main__ import STAGES


def test_every_planned_stage_exists():
    assert [planned.name for planned in device.PLAN] == list(STAGES)
    assert sum(planned.seconds for planned in device.PLAN) == 480
    assert sum(planned.rehearsal for planned in device.PLAN) == 120


def test_time_that_a_stage_leaves_goes_to_those_after_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(device.time, "monotonic", lambda: now[0])
    found = {}
    for name, limit in device.limits(None, 480.0, rehearsed=False):
        found[name] = limit
        now[0] += 5  # each is quick
    assert found["machine"] == 10
    assert found["tests"] > 85
    assert found["cells"] == 480 - 7 * 5
    now[0] = 500.0
    assert [limit for _, limit in device.limits(["speed"], 480.0, rehearsed=False)] == [0.0]


def test_a_stage_that_is_too_slow_and_one_that_fails(tmp_path):
    slow = device.run("machine", 0.1, "cpu", tmp_path)
    assert (slow["status"], slow["found"]) == (device.STOPPED, {})
    failed = device.run("machine", 60, "cuda", tmp_path)
    assert (failed["status"], failed["found"]) == (device.FAILED, {})
    assert "this machine has 0 CUDA devices" in (tmp_path / "log.txt").read_text()


def test_a_device_without_our_kernels_skips_what_needs_them(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "no_kernels", lambda device: "no C++ compiler")
    monkeypatch.setattr(speed, "steps_per_second", lambda work, config: {"steps_per_s": 1.0})
    *_, found = speed.speed(Work(torch.device("cpu"), 10, tmp_path))
    skipped = {row["way"]: row["skipped"] for row in found["rows"] if "skipped" in row}
    assert skipped == dict.fromkeys(("float32 fused", "bf16 fused", "bf16 graph fused"), "no C++ compiler")
    assert len(found["rows"]) == len(speed.WAYS)


@pytest.mark.slow
def test_a_rehearsal_writes_every_file(tmp_path):
    began = time.monotonic()
    assert device.main(["--device", "cpu", "--seconds", "240", "--out", str(tmp_path)]) == 0
    assert time.monotonic() - began < 240
    assert {path.name for path in tmp_path.iterdir()} == {
        "device.json", "device.md", "tests.txt", "profile.txt", "log.txt", "cells.db",
    }  # fmt: skip
    content = json.loads((tmp_path / "device.json").read_text())
    found = {name: stage["found"] for name, stage in content["stages"].items()}
    assert list(found) == list(STAGES)
    assert found["training"]["resume"] == "the same bits"
    assert all("error" not in row for row in found["speed"]["rows"])
    assert found["tests"]["failed"] == []
    assert {row["status"] for row in found["commands"]["rows"]} == {0}
    assert found["cells"]["kept"]
    assert "the figures mean nothing" in (tmp_path / "device.md").read_text()
