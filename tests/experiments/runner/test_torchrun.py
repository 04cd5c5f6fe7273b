"""torchrun of the command itself: one run in several processes, cut off in every way, and what is refused."""

import json
import os
import re
import signal
import subprocess
import sys

import psutil
import pytest
import torch
from lab import ROOT, SLOW, STEPS, Lab, mine, wait_for

from experiments import placement
from experiments.placement import PlacementError, PlacementRequest, check_request, place_processes
from ran.config import TrainConfig
from ran.distributed.group import Processes
from records import names

MICRO = ("--train.micro_batch", "8")
ONE = (*STEPS, *MICRO)


def start(lab: Lab, *arguments: str, count: int = 2, study: str = "smoke") -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)),
        *(str(ROOT / "run_ablation.py"), "--study", study, *lab.places(), *arguments),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{lab.folder}:{ROOT}"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=lab.folder, env=environment, text=True, stdout=pipe, stderr=pipe)


def ours(err: str) -> list[str]:
    """The lines of the command itself on stderr, without torchrun's report of processes that failed.

    And without those of a run that takes half a minute, which a busy machine may need.
    """
    lines = [line for line in err.splitlines() if line.startswith(("run_ablation: ", "[1/", "smoke: "))]
    return [line for line in lines if not re.match(r"\[.*\] .*: step ", line)]


def assert_close(one: Lab, other: Lab, name: str = "arl s0") -> None:
    """The runs of two labs agree, but for what rounding grew to."""
    weights, expected = one.weights(name), other.weights(name)
    assert weights.keys() == expected.keys()
    for key, value in weights.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
    points, expected_points = one.comparable(name), other.comparable(name)
    assert points.keys() == expected_points.keys()
    for key, values in expected_points.items():
        assert [step for step, _ in points[key]] == [step for step, _ in values]
    assert one.each_point_once(name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, migrated_store):
    """The run, in one process."""
    torch.set_num_threads(1)
    lab = Lab(tmp_path_factory.mktemp("alone"))
    lab.store.write_bytes(migrated_store.read_bytes())
    assert lab.launch(*ONE).status == 0
    return lab


@pytest.mark.slow
def test_two_processes_leave_what_one_does(lab, alone):
    process = start(lab, *ONE)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert out.count("Smoke test") == 1
    lines = ours(err)
    assert lines[0].startswith("smoke: profile smoke-1 (the study's own), data cluttershapes, cpu, 2 processes; 1 of 1")
    assert [line.split(", test")[0] for line in lines[1:]] == ["[1/1] arl s0: start", "[1/1] arl s0: finished"]
    run = lab.children()["arl s0"]
    assert len(lab.all_runs()) == 2
    assert ", 2 processes of 1 thread, " in run.data.tags[names.HOW]
    (attempt,) = json.loads(lab.artifact(run, names.PROVENANCE_JSON).read_text())["attempts"]
    assert attempt["how"] == run.data.tags[names.HOW]
    assert "run_ablation.py --study smoke" in attempt["command"]
    assert run.data.tags[names.FINGERPRINT] == alone.children()["arl s0"].data.tags[names.FINGERPRINT]
    assert lab.files(run) == alone.files(alone.children()["arl s0"])
    assert_close(lab, alone)
    again = lab.launch(*ONE)
    assert (again.status, "0 of 1 runs to do" in again.err) == (0, True), "the identity is the same"


@pytest.mark.slow
def test_what_cannot_be_shared_is_refused_in_one_line(lab):
    process = start(lab, *STEPS)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 1, "torchrun's own; ours is 2"
    assert "exitcode  : 2" in err
    assert ours(err) == [
        "run_ablation: 2 processes cannot share the 1 micro-batch(es) of 16 in a batch of 16 equally; "
        "--train.micro_batch 8 works (it is part of a run's identity)"
    ]
    # torchrun lists the other process where a busy machine had not let it leave in time, with the signal that it sent.
    assert set(re.findall(r"exitcode +: (\S+)", err)) <= {"2", "-15", "143"}
    assert len(re.findall(r"exitcode +: 2\b", err)) == 1
    assert out == ""
    assert lab.all_runs() == []


def start_slowly(lab: Lab, *arguments: str) -> subprocess.Popen[str]:
    (lab.folder / "slow_steps.py").write_text(SLOW)
    lab.hold(5)
    process = start(lab, *ONE, "--import", "slow_steps", *arguments)
    wait_for(lambda: lab.steps() and lab.steps()[-1] >= 3, process)
    return process


def workers(process: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    children = psutil.Process(process.pid).children()
    return {int(child.environ()["RANK"]): child for child in children if "RANK" in child.environ()}


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM])
def test_a_signal_stops_all_after_a_checkpoint(number, lab, alone):
    process = start_slowly(lab)
    process.send_signal(number)
    lab.go()
    _, err = process.communicate(timeout=180)
    assert process.returncode != 0
    assert err.count("stopping after a checkpoint; a second Ctrl-C or SIGTERM stops at once") == 1
    assert "1 of 1 runs are left; the same command continues" in err
    run = lab.children()["arl s0"]
    assert (run.data.tags[names.OUTCOME], run.info.status) == (names.KILLED, "KILLED")
    step = int(run.data.tags[names.REASON].removeprefix("stopped at step ").removesuffix("/20"))
    assert lab.steps()[-1] == step < 20
    said = lab.launch(*ONE)  # in one process
    assert said.status == 0, said.err
    assert lab.children()["arl s0"].data.tags[names.RESUMES] == "1"
    assert_close(lab, alone)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_process_that_is_killed_leaves_none_hanging(rank, lab, alone):
    process = start_slowly(lab)
    lab.go()
    workers(process)[rank].kill()
    _, err = process.communicate(timeout=180)
    assert process.returncode == 1
    run = lab.children()["arl s0"]
    if rank == 1:
        assert (run.data.tags[names.OUTCOME], run.info.status) == (names.KILLED, "KILLED")
        assert run.data.tags[names.REASON].startswith("a process of this run died or hangs")
        if "(SIGTERM)" not in err:  # torchrun ends the one that lives, which has said that its run is over
            assert "1 of 1 runs are left; the same command continues" in err
        assert "run_ablation: process" not in err
    process = start(lab, *ONE)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert lab.children()["arl s0"].data.tags[names.RESUMES] == "1"
    assert_close(lab, alone)
    assert lab.steps() == []


FULL_DISK = """
import os

from ran.engine import checkpoint
from records.files import WriteError
import slow_steps

save = checkpoint.save


def full(folder, header, *state):
    if header.step == 5:
        raise WriteError("cannot write it: No space left on device")
    save(folder, header, *state)


checkpoint.save = full
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_full_disk_leaves_none_hanging(lab, alone):
    (lab.folder / "full_disk.py").write_text(FULL_DISK)
    (lab.folder / "slow_steps.py").write_text(SLOW)
    process = start(lab, *ONE, "--import", "full_disk")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "exitcode  : 1" in err
    assert "<NO_OTHER_FAILURES>" in err, "the worker left with status 0"
    assert "arl s0: killed: cannot write it: No space left on device" in err
    assert lab.steps()[-1] == 4
    assert lab.launch(*ONE).status == 0
    assert_close(lab, alone)


# The first cell's data are absent where the worker is, the second fails in all processes, in its fourth step.
TROUBLE = """
import os

import torch
from torch.nn import functional as F

from experiments import placement
from experiments.placement import PlacementError, PlacementRequest, check_request, place_processes
from experiments.runner import torchrun
from ran.data.datasets import DataError
from ran.engine import step

load = torchrun.load_splits
cross_entropy = F.cross_entropy
lr = []


def absent(data, seed):
    if len(lr) == 0:
        lr.append(None)
        raise DataError("no such folder here")
    return load(data, seed)


def fails(*args, **options):
    lr.append(None)
    if len(lr) == (5 if os.environ["RANK"] == "1" else 4):
        raise torch.OutOfMemoryError("CUDA out of memory")
    return cross_entropy(*args, **options)


torchrun.load_splits = absent
step.F = type("F", (), {"cross_entropy": staticmethod(fails)})
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_run_that_fails_in_some_or_all_processes_leaves_the_others_alone(lab):
    (lab.folder / "trouble.py").write_text(TROUBLE)
    study = lab.study(mine((0.1, 0.2, 0.3)))
    process = start(lab, *MICRO, "--import", "trouble", study=study)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 1
    reasons = {name: run.data.tags.get(names.REASON) for name, run in lab.children().items()}
    assert reasons == {
        "0.1 s0": "AbandonedError: process 1: DataError: no such folder here",
        "0.2 s0": "OutOfMemoryError: CUDA out of memory",
        "0.3 s0": None,
    }, err
    assert lab.children()["0.3 s0"].data.tags[names.OUTCOME] == names.FINISHED
    assert "2 of 3 runs are left" in err


# In this process


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(placement, "current", lambda: Processes(0, 2))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")


@pytest.mark.parametrize(("flags", "says"), [
    ({"workers": 2}, "--workers trains several runs at once, torchrun one run in 2 processes"),
    ({"gpus_per_run": 0.5}, "--gpus-per-run"), ({"ray_address": "auto"}, "--ray-address"),
])  # fmt: skip
def test_several_runs_at_once_are_not_for_torchrun(flags, says, two):
    with pytest.raises(PlacementError, match=says):
        check_request(PlacementRequest(**flags))


def test_synchronising_one_process_is_refused(lab):
    said = lab.launch("--sync-batchnorm")
    assert (said.status, said.out) == (2, "")
    assert said.err == (
        "run_ablation: --sync-batchnorm is for several processes on GPUs: start the command with torchrun\n"
    )


@pytest.mark.parametrize(("flags", "device", "says"), [
    ({"sync_batchnorm": True}, "cpu", "--sync-batchnorm works on GPUs only"),
    ({}, "cuda:1", "--device cuda:1 is one GPU, and 2 processes take one each"),
])  # fmt: skip
def test_devices_that_processes_cannot_have(flags, device, says, two):
    with pytest.raises(PlacementError, match=says):
        place_processes(PlacementRequest(**flags), [], torch.device(device))


def test_a_graph_is_for_one_process(two):
    with pytest.raises(PlacementError, match=r"--train\.graph on is for one process; leave it out for 2"):
        place_processes(PlacementRequest(), [TrainConfig(graph="on", micro_batch=8)], torch.device("cpu"))


def test_more_processes_than_gpus(two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(PlacementError, match="2 processes need 2 GPUs on this machine, there are 1"):
        place_processes(PlacementRequest(), [], torch.device("cuda"))


def test_one_process_is_placed_as_ever():
    assert place_processes(PlacementRequest(), [], torch.device("cpu")) is None
    check_request(PlacementRequest(workers=4))
