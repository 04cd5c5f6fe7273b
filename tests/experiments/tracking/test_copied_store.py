"""A store that is copied or moved: its file alone is whole, and the folder that it has left is not made again."""

import os
import shutil
import subprocess
import sys

from lab import ROOT
from mlflow import MlflowClient

from experiments.tracking import sqlite
from experiments.tracking.store import Store

WRITE = """
import sys
from experiments.console.ending import leave
from experiments.tracking.store import Store

store = Store.open(sys.argv[1])
store.client.create_run(store.experiment("cluttershapes"))
leave(0)
"""


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
