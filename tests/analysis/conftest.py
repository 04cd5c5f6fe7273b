"""The golden study as a record, as a DataFrame, and in one real MLflow store for the session, copied for each test."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from golden import COMMIT, HALF_DONE, correct_npz, fingerprint, frame, masks_npz, probes_json, study_json

from analysis.read.mlflow_store import NOTE
from records import names
from records.schema import CURRENT
from records.study_json import StudyRecord


@pytest.fixture
def make_study() -> Callable[..., Any]:
    return lambda **changes: StudyRecord.from_json(study_json(**changes))


@pytest.fixture
def make_runs() -> Callable[[list[dict[str, Any]]], pd.DataFrame]:
    return frame


@pytest.fixture
def half_done() -> pd.DataFrame:
    return frame(HALF_DONE)


@pytest.fixture(scope="session")
def _golden(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real store: HALF_DONE on cluttershapes, a parent with overrides, a deleted run, an experiment not of ours."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    folder = tmp_path_factory.mktemp("store")
    shutil.copy(migrated_store, folder / "mlflow.db")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    artifacts = (folder / "mlruns").as_uri()
    experiment = client.create_experiment("ran/cluttershapes", artifact_location=artifacts)
    for tag, changes in (("a" * 16, {}), ("b" * 16, {"overrides": {"train.steps": 10}})):
        record = study_json(**changes)
        tags = {names.PARENT: tag, names.STUDY: record["study"], names.OVERRIDES: json.dumps(record["overrides"])}
        tags |= {names.SCHEMA: str(CURRENT), NOTE: "About the study."}
        parent = client.create_run(experiment, tags=tags, run_name=f"arl_vs_nal {tag}")
        client.log_text(parent.info.run_id, json.dumps(record), names.STUDY_JSON)
        client.log_metric(parent.info.run_id, names.FINAL_TEST_ERR, 77.0)  # a summary is not a run
    # Children of the other parent: they must be found by fingerprint.
    for row in HALF_DONE:
        outcome, err = row.get("outcome", names.FINISHED), row["test_err"]
        tags = {names.FINGERPRINT: row["fingerprint"], names.SEED: str(row["seed"]), "mlflow.parentRunId": "elsewhere"}
        tags |= {names.OUTCOME: outcome, names.REASON: row.get("reason", ""), names.STUDY: "arl_vs_nal"}
        tags |= {names.PROFILE: "quick-1", names.DATASET: "cluttershapes", names.OVERRIDES: "{}"}
        tags |= {names.SCHEMA: str(CURRENT)}
        tags |= {"mlflow.source.git.commit": COMMIT, "mlflow.user": "somebody"}
        start = int(pd.Timestamp(row.get("start_time", "2026-01-01"), tz="UTC").timestamp() * 1000)
        name = f"run {row['fingerprint'][:4]}"
        child = client.create_run(experiment, start_time=start, tags=tags, run_name=name).info.run_id
        curve = [Metric(names.TRAIN_LOSS, 2.0 / step, start + step, step) for step in (1, 2, 3)]
        curve += [Metric(names.TRAIN_LOSS, 9.0, start, 3)]  # a point that a resumed run logged again: the later counts
        system = [Metric("system/cpu", 99.0, start, 0)]
        final = [Metric(names.FINAL_TEST_ERR, err, start, 3)] if err == err else []
        client.log_batch(child, metrics=curve + system + final, params=[Param("optim.lr", "0.5")])
        if outcome == names.FINISHED:
            client.log_dict(child, {"stem_channels": 16}, names.SPEC_JSON)
            attempts = [{"command": "run_ablation.py --study arl_vs_nal"}]
            client.log_dict(child, {"attempts": attempts}, names.PROVENANCE_JSON)
            client.log_dict(child, probes_json(row["fingerprint"]), names.PROBES_JSON)
            (folder / names.MASKS_NPZ).write_bytes(masks_npz(row["fingerprint"]))
            client.log_artifact(child, str(folder / names.MASKS_NPZ))
            (folder / names.TEST_CORRECT).write_bytes(correct_npz(row["fingerprint"]))
            client.log_artifact(child, str(folder / names.TEST_CORRECT))
        client.set_terminated(child, "FINISHED", end_time=start + 60_000)
    gone = client.create_run(experiment, tags={names.FINGERPRINT: fingerprint(92, "nal", 1), names.OUTCOME: "finished"})
    client.log_metric(gone.info.run_id, names.FINAL_TEST_ERR, 1.0)
    client.delete_run(gone.info.run_id)
    client.create_run(client.create_experiment("not ours", artifact_location=artifacts), tags={names.PARENT: "c"})
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


@pytest.fixture
def store_folder(_golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a copy of the store, entered; artifacts stay where they were logged."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(_golden / "mlflow.db", tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def own_artifacts(store_folder: Path, _golden: Path) -> Path:
    """A copy of the artifacts, too: the folder mlruns of store_folder, with a folder a run."""
    shutil.copytree(_golden / "mlruns", store_folder / "mlruns")
    with sqlite3.connect(store_folder / "mlflow.db") as connection:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(_golden), str(store_folder))
            )
    return store_folder / "mlruns"


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without anything, entered."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
