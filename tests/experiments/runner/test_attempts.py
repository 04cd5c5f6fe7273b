"""The attempts of a run: which of them its bits come from, and what a folder keeps of them."""

import json
import time

import pytest

from experiments.runner.attempts import Attempts
from records import names

A, B, C = "cpu AVX2, 1 thread", "cpu AVX512, 1 thread", "cuda H200"


def begin(folder, step, how, fresh=False):
    return Attempts.begin(folder, step, {"how": how}, fresh=fresh)


@pytest.mark.parametrize(("attempts", "how"), [
    ([(0, A)], A),
    ([(0, A), (100, A)], A),
    ([(0, A), (100, B)], f"{A}; {B}"),
    ([(0, A), (100, B), (200, A)], f"{A}; {B}"),
    ([(0, A), (100, B), (200, C)], f"{A}; {B}; {C}"),
    ([(0, A), (100, B), (100, C)], f"{A}; {C}"),  # the second left no checkpoint
    ([(0, A), (0, B)], B),  # nor did the first
    ([(0, A), (100, B), (50, C)], f"{A}; {C}"),  # the newest checkpoint was damaged, so the second counts no more
    ([(0, A), (100, B), (0, C)], C),
    ([(100, A)], f"unknown; {A}"),  # the folder says nothing of who wrote the checkpoint
])  # fmt: skip
def test_the_way_names_every_attempt_that_a_later_one_continues(attempts, how, tmp_path):
    for step, way in attempts:
        last = begin(tmp_path, step, way)
    assert last.how == how
    assert [(entry["first_step"], entry["how"]) for entry in last.entries] == attempts, "all are kept"


def test_an_attempt_has_its_times_and_one_whose_process_died_has_none(tmp_path, monkeypatch):
    begin(tmp_path, 0, A)
    second = begin(tmp_path, 3, B)
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: second.began[0] + 10.0)
        patch.setattr(time, "process_time", lambda: second.began[1] + 12.5)
        content = second.end(names.KILLED)
    died, this = content["attempts"]
    assert [died[key] for key in ("ended", "wall_seconds", "cpu_seconds", "outcome")] == [None] * 4
    assert (this["wall_seconds"], this["cpu_seconds"], this["outcome"]) == (10.0, 12.5, names.KILLED)
    assert this["started"].endswith("+00:00")
    assert this["started"] <= this["ended"]
    assert json.loads((tmp_path / names.PROVENANCE_JSON).read_text()) == content
    third = begin(tmp_path, 5, A)
    assert list(third.entries[:2]) == content["attempts"]
    assert [entry["how"] for entry in begin(tmp_path, 0, C, fresh=True).entries] == [C], "--rerun begins anew"


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"3", b'{"attempts": 3}', b'{"attempts": [1]}', b'{"attempts": [{"how": "cpu"}]}', b"\xff\xfe",
    b'{"attempts": [{"how": 1, "first_step": 0}]}',
])  # fmt: skip
def test_a_damaged_file_is_no_history(content, tmp_path):
    (tmp_path / names.PROVENANCE_JSON).write_bytes(content)
    assert begin(tmp_path, 7, A).how == f"unknown; {A}"
