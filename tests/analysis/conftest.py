"""A small study as its record, its runs as a DataFrame, and one real MLflow store for the session."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.store import RUN_COLUMNS
from ran import names


def fingerprint(depth: int, learning: str, seed: int) -> str:
    return hashlib.sha256(f"{depth} {learning} {seed}".encode()).hexdigest()


def study_json(**changes: Any) -> dict[str, Any]:
    cells = [{"depth": depth, "learning": learning} for depth in (56, 92) for learning in ("arl", "nal")]
    record = {
        "schema": 1,
        "study": "arl_vs_nal",
        "title": "Attention residual learning against naive attention learning",
        "table": "3",
        "profile": "quick-1",
        "dataset": "cluttershapes",
        "overrides": {},
        "selection": "test error at the last step",
        "axes": [
            {
                "name": "depth",
                "header": "network",
                "values": [56, 92],
                "labels": ["Attention-56", "Attention-92"],
            },
            {"name": "learning", "header": "learning", "values": ["arl", "nal"], "labels": ["ARL", "NAL"]},
        ],
        "compare": {"axis": "learning", "baseline": "arl"},
        # Seeds outermost and cells backwards: the table must find its own order.
        "runs": [
            {"fingerprint": fingerprint(cell["depth"], cell["learning"], seed), "cell": cell, "seed": seed}
            for seed in (2, 0, 1)
            for cell in reversed(cells)
        ],
    }
    return record | changes


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    filled = [
        {"outcome": names.FINISHED, "test_err": float("nan"), "start_time": "2026-01-01", "run_id": str(i)} | row
        for i, row in enumerate(rows)
    ]
    runs = pd.DataFrame(filled, columns=list(RUN_COLUMNS))
    return runs.assign(start_time=pd.to_datetime(runs["start_time"], utc=True))


def run(depth: int, learning: str, seed: int, err: float = float("nan"), **more: Any) -> dict[str, Any]:
    return {"fingerprint": fingerprint(depth, learning, seed), "seed": seed, "test_err": err} | more


# Every way in which a study can be incomplete, once.
HALF_DONE = [
    run(56, "arl", 0, 10.0),
    run(56, "arl", 1, 11.0),
    run(56, "arl", 2, 12.0),
    run(56, "nal", 0, 10.5),
    run(56, "nal", 1, 11.5, start_time="2026-01-02"),
    run(56, "nal", 1, 99.0, start_time="2026-01-01"),  # an older run of the same fingerprint
    run(56, "nal", 1, outcome=names.KILLED, start_time="2026-01-03"),  # a newer one without a result
    run(56, "nal", 2, outcome=names.DIVERGED),
    run(92, "arl", 0, 9.0),
    run(92, "arl", 1, outcome=names.FAILED, reason="out of memory"),
    run(92, "arl", 2, outcome=names.KILLED),
    run(92, "nal", 0, 8.25),
]


@pytest.fixture
def make_study() -> Callable[..., Any]:
    from analysis.record import parse_study

    return lambda **changes: parse_study(json.dumps(study_json(**changes)))


@pytest.fixture
def make_runs() -> Callable[[list[dict[str, Any]]], pd.DataFrame]:
    return frame


@pytest.fixture
def half_done() -> pd.DataFrame:
    return frame(HALF_DONE)


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real store: HALF_DONE on cluttershapes, a parent with overrides, a deleted run, an experiment not of ours."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("store")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    artifacts = (folder / "mlruns").as_uri()
    experiment = client.create_experiment("ran/cluttershapes", artifact_location=artifacts)
    for tag, changes in (("a" * 16, {}), ("b" * 16, {"overrides": {"train.steps": 10}})):
        record = study_json(**changes)
        tags = {names.PARENT: tag, names.STUDY: record["study"], names.OVERRIDES: json.dumps(record["overrides"])}
        parent = client.create_run(experiment, tags=tags)
        client.log_text(parent.info.run_id, json.dumps(record), names.STUDY_JSON)
        client.log_metric(parent.info.run_id, names.FINAL_TEST_ERR, 77.0)  # a summary is not a run
    # Children of the other parent: they must be found by fingerprint.
    for row in HALF_DONE:
        tags = {names.FINGERPRINT: row["fingerprint"], names.SEED: str(row["seed"]), "mlflow.parentRunId": "elsewhere"}
        tags |= {names.OUTCOME: row.get("outcome", names.FINISHED), names.REASON: row.get("reason", "")}
        start = int(pd.Timestamp(row.get("start_time", "2026-01-01"), tz="UTC").timestamp() * 1000)
        child = client.create_run(experiment, start_time=start, tags=tags)
        if row["test_err"] == row["test_err"]:
            client.log_metric(child.info.run_id, names.FINAL_TEST_ERR, row["test_err"])
    gone = client.create_run(experiment, tags={names.FINGERPRINT: fingerprint(92, "nal", 1), names.OUTCOME: "finished"})
    client.log_metric(gone.info.run_id, names.FINAL_TEST_ERR, 1.0)
    client.delete_run(gone.info.run_id)
    client.create_run(client.create_experiment("not ours", artifact_location=artifacts), tags={names.PARENT: "c"})
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@pytest.fixture
def store_folder(_migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a copy of the store, entered; artifacts stay where they were logged."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(_migrated / "mlflow.db", tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without anything, entered."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
