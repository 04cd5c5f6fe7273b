"""Finished runs kept as small files: what is in them, what is not, and that they only grow."""

import json

import pytest
from mlflow import MlflowClient

from analysis import archive
from ran import names


@pytest.fixture
def store(store_folder):
    """The session's store, copied, with one whole run."""
    uri = f"sqlite:///{store_folder}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("ran/cluttershapes").experiment_id
    tags = {
        names.FINGERPRINT: "f" * 64, names.OUTCOME: names.FINISHED,
        names.PROFILE: "quick-1", names.DATASET: "cluttershapes",
    }  # fmt: skip
    run = client.create_run(experiment, tags=tags).info.run_id
    client.log_param(run, "optim.lr", 0.5)
    for step, value in ((10, 2.0), (20, 1.0), (20, 1.5)):  # a step that was logged twice: the later one counts
        client.log_metric(run, names.TRAIN_LOSS, value, step=step, timestamp=int(value * 1000))
    client.log_metric(run, "system/cpu", 99.0)
    client.log_metric(run, names.FINAL_TEST_ERR, 12.5)
    return uri


def keep(store, folder):
    return archive.main(
        ["--tracking-uri", store, "--profile", "quick-1", "--data", "cluttershapes", "--out", str(folder)]
    )


def test_a_finished_run_is_kept_whole_without_system_metrics(store, tmp_path, capsys):
    assert keep(store, tmp_path) == 0
    assert "1 runs, 1 of them" in capsys.readouterr().out
    (run,) = archive.read(tmp_path / "cluttershapes-quick-1.jsonl")
    assert run["fingerprint"] == "f" * 64
    assert run["params"] == {"optim.lr": "0.5"}
    assert run["metrics"] == {names.TRAIN_LOSS: 1.5, names.FINAL_TEST_ERR: 12.5}
    assert run["curves"] == {names.TRAIN_LOSS: [[10, 2.0], [20, 1.5]]}


def test_runs_of_earlier_stores_stay_and_a_second_time_changes_nothing(store, tmp_path):
    path = tmp_path / "cluttershapes-quick-1.jsonl"
    archive.write(path, [{"fingerprint": "0" * 64}, {"fingerprint": "f" * 64, "metrics": "older"}])
    assert keep(store, tmp_path) == 0
    once = path.read_text()
    assert [json.loads(line)["fingerprint"][0] for line in once.splitlines()] == ["0", "f"]
    assert "older" not in once
    assert keep(store, tmp_path) == 0
    assert path.read_text() == once
    assert [p.name for p in tmp_path.iterdir() if p.suffix not in (".db", "")] == [path.name]


@pytest.mark.parametrize("profile", ["paper-1", "quick"])
def test_nothing_to_keep_is_one_line(store, tmp_path, capsys, profile):
    out = tmp_path / "archive"
    assert (
        archive.main(["--tracking-uri", store, "--profile", profile, "--data", "cluttershapes", "--out", str(out)]) == 2
    )
    assert capsys.readouterr().err == f"archive: no finished run of profile {profile} on cluttershapes\n"
    assert not out.exists()


def test_a_missing_store_is_one_line(tmp_path, capsys):
    assert keep(f"sqlite:///{tmp_path}/none.db", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("archive: no tracking store at ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
