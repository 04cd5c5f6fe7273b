"""A store that is copied or moved: its file alone is whole, and the folder that it has left is not made again."""

import os
import shutil
import subprocess
import sys

import pytest
from lab import ROOT, Lab
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from analysis.read.mlflow_store import read_store
from experiments import evaluate, relocate
from experiments.tracking import sqlite
from experiments.tracking.errors import TrackingError
from experiments.tracking.store import Store
from records import names
from records.errors import UserError

WRITE = """
import sys
from experiments.console.ending import leave
from experiments.tracking.store import Store

store = Store.open(sys.argv[1])
store.client.create_run(store.experiment("cluttershapes"))
leave(0)
"""


@pytest.mark.slow
def test_the_file_alone_is_whole_after_a_launch(lab, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", WRITE, lab.uri], env=environment, check=True)
    shutil.copy(lab.store, tmp_path / "copy.db")
    client = MlflowClient(f"sqlite:///{tmp_path}/copy.db")
    experiment = client.get_experiment_by_name("ran/cluttershapes")
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_a_store_that_is_gone_at_the_end_is_not_made_again(lab):
    Store.open(lab.uri)
    lab.store.unlink()
    sqlite._move_commits(lab.store)
    assert not lab.store.exists()


@pytest.fixture
def moved(lab):
    """A store with a finished run whose folder was renamed, and its folder before."""
    assert lab.launch("--cells", "learning=arl").status == 0
    fingerprint = next(iter(lab.children().values())).data.tags[names.FINGERPRINT]
    new = lab.folder.with_name("renamed")
    lab.folder.rename(new)
    utils._artifact_repos_cache.clear()  # as in a new process
    return Lab(new), lab.folder, fingerprint


def test_a_folder_that_was_renamed(moved, capsys):
    lab, before, fingerprint = moved
    for arguments in (("--dry-run",), (), ("--rerun",)):
        said = lab.launch(*arguments)
        assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
        assert f"was moved: its artifacts were in {before}/mlruns" in said.err
        assert "python -m experiments.relocate" in said.err
    with pytest.raises(TrackingError, match="was moved"):
        evaluate.main([fingerprint, "--tracking-uri", lab.uri])
    assert [study.name for study in read_store(lab.uri).studies] == ["smoke"], "tables are read from the new place"
    assert not before.exists(), "the old place is not made again"

    assert relocate.main(["--tracking-uri", lab.uri]) == 0
    assert lab.launch().status == 0
    assert evaluate.main([fingerprint, "--tracking-uri", lab.uri]) == 0
    assert "evaluation/cluttershapes.json" in capsys.readouterr().err
    assert [path.name for path in before.rglob("*") if path.name != "data"] == [], "only the run's --data.root"
    assert relocate.main(["--tracking-uri", lab.uri]) == 0
    assert capsys.readouterr().out.endswith("artifact paths of 0 experiments and runs\n")


@pytest.mark.slow
def test_a_copy_does_not_write_into_the_original(lab):
    assert lab.launch("--cells", "learning=arl").status == 0
    copy = Lab(lab.folder.with_name("copy"))
    shutil.copytree(lab.folder, copy.folder)
    before = lab.listing()
    assert "was moved" in copy.launch("--cells", "learning=nal").err
    assert relocate.main(["--tracking-uri", copy.uri]) == 0
    utils._artifact_repos_cache.clear()  # MLflow remembers a run's place in a process; both launches are in this one
    assert copy.launch("--cells", "learning=nal").status == 0
    assert lab.listing() == before


def test_a_link_at_the_old_place_is_no_move(moved):
    lab, before, _ = moved
    before.symlink_to(lab.folder)
    assert lab.launch("--dry-run").status == 0


def test_artifacts_that_were_deleted(lab):
    assert lab.launch("--cells", "learning=arl").status == 0
    run = lab.children()["arl s0"].info
    shutil.rmtree(lab.folder / "mlruns" / "cluttershapes" / run.run_id)
    with pytest.raises(UserError, match=r"from an archive, or its artifacts were deleted"):
        evaluate.main([run.run_id, "--tracking-uri", lab.uri])
    shutil.rmtree(lab.folder / "mlruns")
    with pytest.raises(TrackingError, match=r"mlruns/cluttershapes, the folder of all artifacts of .* was deleted"):
        evaluate.main([run.run_id, "--tracking-uri", lab.uri])


def test_what_cannot_be_relocated(lab, tmp_path):
    for uri, says in (
        ("http://127.0.0.1:9", "is no sqlite store"),
        (f"sqlite:///{tmp_path}/nowhere.db", "no tracking store"),
        (lab.uri, "there is no folder"),
    ):
        with pytest.raises(TrackingError, match=says):
            relocate.main(["--tracking-uri", uri])
