"""The spool file: what it holds is sent to the store, so entries that this program does not make are not read."""

import hashlib
import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_run_log import OPENING

from experiments.tracking import spool
from experiments.tracking.run_log import RunLog
from experiments.tracking.store import Store
from records import names

URI = "sqlite:///x.db"
OPEN = {"do": "open", **asdict(OPENING)}
GOOD = [
    OPEN, {"do": "points", "points": [["train/loss", 1, 0.5, 10], ["train/loss", 2, float("nan"), 20]]},
    {"do": "tags", "tags": {"a": "b"}}, {"do": "artifact", "name": "masks.npz"},
    {"do": "close", "outcome": names.FINISHED, "reason": "", "end_ms": 5},
]  # fmt: skip


def forge(folder, content):
    """Writes a spool file with a checksum that fits."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / spool.SPOOL).write_text(f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}")


def test_what_the_log_writes_is_read(tmp_path):
    spool.write(tmp_path, URI, GOOD)
    assert str(spool.read(tmp_path, URI)) == str(GOOD)


BAD = {
    "another folder": {"do": "artifact", "name": "../../victim"},
    "an absolute path": {"do": "artifact", "name": "/etc/passwd"},
    "no name": {"do": "artifact"},
    "an unknown entry": {"do": "delete"},
    "a text for a point": {"do": "points", "points": ["x"]},
    "a short point": {"do": "points", "points": [["a", 1]]},
    "a fraction as step": {"do": "points", "points": [["a", 1.5, 1.0, 1]]},
    "numbers as tags": {"do": "tags", "tags": {"a": 1}},
    "an unknown outcome": {"do": "close", "outcome": "won", "reason": "", "end_ms": 1},
    "an unknown field": {**OPEN, "x": 1},
    "no fingerprint": {**OPEN, "fingerprint": None},
    "a list": [],
}


@pytest.mark.parametrize("entry", BAD.values(), ids=BAD)
def test_an_entry_that_the_log_does_not_make(entry, tmp_path):
    forge(tmp_path, {"store": URI, "entries": [OPEN, entry]})
    assert spool.read(tmp_path, URI) == []
    assert (tmp_path / "spool.damaged").exists()


@pytest.mark.parametrize("content", [
    "[]", "null", "5", "{", "[" * 100_000, "{}", '{"store": 5, "entries": []}', '{"store": "x", "entries": {}}',
    json.dumps({"store": URI, "entries": GOOD[1:]}),
])  # fmt: skip
def test_a_text_that_the_log_does_not_make(content, tmp_path):
    forge(tmp_path, content)
    assert spool.read(tmp_path, URI) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=10,
)


@given(entry=st.sampled_from(GOOD), field=st.integers(0, 20), value=json_values)
def test_no_entry_ends_in_a_traceback(entry, field, value, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spool")
    key = list(entry)[field % len(entry)]
    forge(folder, {"store": URI, "entries": [OPEN, {**entry, key: value}]})
    assert len(spool.read(folder, URI)) in (0, 2)


def test_a_link_among_the_artifacts_is_not_followed(lab, tmp_path):
    """Nor a folder: both were tracebacks, or sent and removed another's file."""
    store = Store.open(lab.uri)
    victim = tmp_path / "victim"
    victim.write_text("secret")
    log = RunLog.open(store, tmp_path / "run", OPENING, lambda: None)
    log.artifacts.mkdir(parents=True)
    (log.artifacts / "a.json").symlink_to(victim)
    (log.artifacts / "b.json").mkdir()
    log.artifact("a.json")
    log.artifact("b.json")
    assert log.flush()
    assert victim.read_text() == "secret"
    assert lab.files(lab.children()["arl s0"]) == set()


def test_a_pattern_is_no_fingerprint(lab):
    """A checkpoint of somebody else names its run."""
    store = Store.open(lab.uri)
    run = store.client.create_run(store.experiment("cluttershapes"), tags={names.FINGERPRINT: "ab" * 32})
    assert [found.run_id for found in store.find("abab")] == [run.info.run_id]
    for digits in ("%", "_bab", "' OR '' = '", "abab%"):
        assert store.find(digits) == []
