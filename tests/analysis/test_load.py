"""Runs and curves as DataFrames."""

from pathlib import Path

import pytest
from synthetic import study_lines, write_archive

from analysis import load_curves, load_runs
from analysis.read.mlflow_client import StoreError
from records import names


def test_a_row_is_a_run_and_its_parameters_and_metrics_are_columns(empty_folder: Path) -> None:
    lines = study_lines("mask_type")
    archive = write_archive(empty_folder / "results" / "archive", lines)
    runs = load_runs()
    assert len(runs) == 9
    assert set(runs["model.name"]) == {"attention56"}
    assert (runs[names.FINAL_TEST_ERR] == runs["test_err"]).all()
    assert runs["source"].str.endswith("cifar10-short-1.jsonl").all()
    assert not {"params", "metrics"} & set(runs.columns)
    assert load_runs(archive=archive).drop(columns="source").equals(runs.drop(columns="source"))
    assert not runs.columns.duplicated().any()
    with pytest.raises(StoreError, match="no tracking store"):
        load_runs(archive=False)


def test_a_row_is_a_point_of_a_curve(empty_folder: Path) -> None:
    write_archive(empty_folder / "results" / "archive", study_lines("mask_type"))
    runs = load_runs()
    curves = load_curves()
    assert set(curves["fingerprint"]) == set(runs["fingerprint"])
    assert {names.TRAIN_ERR, names.VAL_ERR, names.RESPONSE.format(1)} <= set(curves["curve"])
    first = runs["fingerprint"][0]
    one = load_curves(fingerprints=[first])
    assert one.equals(curves[curves["fingerprint"] == first].reset_index(drop=True))
    steps = one[one["curve"] == names.VAL_ERR]["step"]
    assert list(steps) == sorted(steps)


def test_a_store_has_the_same_columns(store_folder: Path) -> None:
    runs = load_runs(archive=False)
    assert {"outcome", "optim.lr", names.FINAL_TEST_ERR} <= set(runs.columns)
    assert set(load_curves(archive=False)["curve"]) == {names.TRAIN_LOSS}
