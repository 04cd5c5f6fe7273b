"""What a worker of Ray does before it trains, without Ray's processes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.placement import Placement, PlacementError
from experiments.runner import remote_checkpoints
from experiments.runner.remote_checkpoints import RemoteCheckpoints
from experiments.runner.settings import RunSettings
from experiments.tracking import provenance
from experiments.tracking.provenance import Provenance

pytest.importorskip("ray", reason="needs the extra cluster")
from experiments.executors import ray_driver, ray_worker
from experiments.executors.ray_worker import WorkerJob

pytestmark = pytest.mark.cluster


@pytest.fixture
def job(lab, monkeypatch):
    monkeypatch.setattr(provenance, "_adopted", None)
    lab.checkpoints.mkdir()
    settings = RunSettings(
        tags={}, tracking_uri=lab.uri, checkpoints=lab.checkpoints, remote=None, device=torch.device("cpu"),
        placement=Placement(), keep="final", retry_failed=False, checkpoint_seconds=60.0, deterministic=False,
        modules=(), command="", planned_seeds=(0,),
    )  # fmt: skip
    return WorkerJob(
        launch="l", settings=settings, parent_id="p", folder=str(lab.folder), path=(), host=ray_worker.platform.node(),
        provenance=Provenance({"commit": "of the launch"}, b"its diff"), events=None,
    )  # fmt: skip


def test_a_worker_trains_in_the_folder_that_its_machine_copies_to_the_uri(job, tmp_path, monkeypatch):
    """The folder's place depends on the machine: on TMPDIR, and on the name of the user."""
    remote = RemoteCheckpoints(f"file://{tmp_path}/bucket")
    of_launch = replace(job.settings, remote=remote, checkpoints=remote.local)
    monkeypatch.setattr(remote_checkpoints.tempfile, "gettempdir", lambda: str(tmp_path / "of a job"))
    here = ray_worker._settings(replace(job, settings=of_launch))
    assert here.checkpoints == remote.local != of_launch.checkpoints
    assert ray_worker._settings(job) is job.settings


def test_a_workers_provenance_is_the_launchs(job, monkeypatch):
    monkeypatch.chdir(Path.cwd())
    _, leases = ray_worker._set_up(job, lambda: False)
    leases.__exit__()
    assert provenance.tags() == {"commit": "of the launch"}
    assert provenance.diff() == b"its diff"


def test_a_file_of_another_machine_is_no_store(job, monkeypatch):
    """Even where a network file system shows it: SQLite does not work across machines."""
    monkeypatch.chdir(Path.cwd())
    with pytest.raises(PlacementError, match=r"is a file of the-launch's, .* need an MLflow server"):
        ray_worker._set_up(replace(job, host="the-launch's"), lambda: False)


def test_a_process_with_a_gpu_trains_one_run():
    """Ray may give the next run another GPU, which a process that has used one does not see."""
    assert ray_driver._task(Placement(gpus=0.5))._default_options["max_calls"] == 1
    assert ray_driver._task(Placement())._default_options.get("max_calls", 0) == 0
