"""How many runs at once, with how many threads and how much of a GPU each."""

import sys

import pytest
import torch

from experiments import placement
from experiments.placement import INSTALL, Placement, PlacementError, PlacementRequest, if_worth, place_here

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Eight cores, four GPUs, enough memory, Ray installed; returns how to change that."""

    def set_(cores=8, gpus=4, gib=64, ray=True):
        monkeypatch.setattr(placement, "cores", lambda: cores)
        monkeypatch.setattr(placement, "has_ray", lambda: ray)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        memory = type("Memory", (), {"available": gib * 2**30})
        monkeypatch.setattr(placement.psutil, "virtual_memory", lambda: memory)

    set_()
    return set_


@pytest.mark.parametrize(("asked", "expected"), [
    # (workers, threads of the config, runs) on eight cores
    ((None, None, 24), Placement(8, 1)),
    ((None, None, 3), Placement(3, 2)),
    ((None, 4, 24), Placement(2, 4)),
    ((None, 8, 24), Placement(1, 8)),
    ((None, None, 1), Placement(1, None)),
    ((2, None, 24), Placement(2, 4)),
    ((2, 1, 24), Placement(2, 1)),
    ((16, None, 24), Placement(16, 1)),
    ((1, None, 24), Placement(1, None)),
])  # fmt: skip
def test_on_a_cpu(asked, expected):
    workers, threads, runs = asked
    assert place_here(PlacementRequest(workers=workers), CPU, threads=threads, runs=runs) == expected


def test_memory_limits_the_workers_but_not_their_threads(machine):
    machine(gib=4)
    assert place_here(PlacementRequest(), CPU, threads=None, runs=24) == Placement(2, 1)


@pytest.mark.parametrize(("asked", "expected"), [
    # (workers, GPUs a run) on four GPUs and eight cores
    ((None, None), Placement(4, 2, 1.0)),
    ((None, 0.5), Placement(8, 1, 0.5)),
    ((2, None), Placement(2, 4, 1.0)),
    ((8, None), Placement(8, 1, 0.5)),
    ((1, None), Placement(1, None)),
])  # fmt: skip
def test_on_gpus(asked, expected):
    workers, gpus_per_run = asked
    assert (
        place_here(PlacementRequest(workers=workers, gpus_per_run=gpus_per_run), CUDA, threads=None, runs=24)
        == expected
    )


def test_one_gpu_trains_one_run_after_another(machine):
    machine(gpus=1)
    assert place_here(PlacementRequest(), CUDA, threads=None, runs=24) == Placement(1, None)
    assert place_here(PlacementRequest(gpus_per_run=0.25), CUDA, threads=None, runs=24) == Placement(4, 2, 0.25)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_without_ray_the_plan_says_what_it_would_bring(device, machine):
    machine(ray=False)
    found = place_here(PlacementRequest(), device, threads=None, runs=24)
    assert found.executor == "inline"
    assert INSTALL in str(found)
    with pytest.raises(PlacementError, match="--workers 2 needs Ray") as error:
        place_here(PlacementRequest(workers=2), device, threads=None, runs=24)
    assert INSTALL in str(error.value)


@pytest.mark.parametrize(("workers", "gpus_per_run", "device", "words"), [
    (0, None, CPU, "--workers must be at least 1"),
    (None, 2.0, CUDA, "lie in (0, 1]"),
    (None, float("nan"), CUDA, "lie in (0, 1]"),
    (None, 0.0, CUDA, "lie in (0, 1]"),
    (None, 0.5, CPU, "train on the CPU"),
    (8, 1.0, CUDA, "needs 8 GPUs, there are 4"),
    (2, None, torch.device("cuda:1"), "is one GPU"),
])  # fmt: skip
def test_what_cannot_be_had(workers, gpus_per_run, device, words):
    with pytest.raises(PlacementError) as error:
        place_here(PlacementRequest(workers=workers, gpus_per_run=gpus_per_run), device, threads=None, runs=24)
    assert words in str(error.value)


def test_little_work_stays_in_this_process_with_the_same_threads():
    assert if_worth(Placement(8, 1), None, 10.0) == Placement(1, 1)
    assert if_worth(Placement(8, 1), None, 1000.0) == Placement(8, 1)
    assert if_worth(Placement(8, 1), 8, 10.0) == Placement(8, 1)  # as asked
    assert if_worth(Placement(8, 1), 8, 0.0) == Placement(1, 1)  # but for nothing


def test_how_many_train_at_once():
    assert Placement().at_once == 1
    assert Placement(8, 1).at_once == 8
    assert Placement(None, 1, 0.0, "auto", room=3).at_once == 3
    assert Placement(2, 1, 0.0, "auto", room=3).at_once == 2
    assert Placement(8, 1, 0.0, "auto", room=0).at_once == 1


def test_the_plan_says_it():
    assert str(Placement(2, 1)) == "2 workers of 1 thread each"
    assert str(Placement(None, 1, 0.5, "auto")) == "all workers on the Ray cluster of 0.5 GPU each"
    assert str(Placement()) == ""


def test_cores_are_those_of_the_process(monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if sys.platform == "linux":
        monkeypatch.setattr(placement.os, "sched_getaffinity", lambda _: {0, 3, 5})
        assert placement.cores() == 3
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert placement.cores() == 2


def test_an_untried_device_trains_one_run_after_another():
    mps = torch.device("mps")
    assert place_here(PlacementRequest(), mps, threads=None, runs=24, per_gpu=4) == Placement()
    with pytest.raises(PlacementError, match="train on a device that is not shared"):
        place_here(PlacementRequest(gpus_per_run=0.5), mps, threads=None, runs=24)


# A share of a GPU
@pytest.mark.parametrize(("per_gpu", "gpus", "runs", "expected"), [
    (4, 1, 24, Placement(4, 2, 0.25)),
    (4, 2, 24, Placement(8, 1, 0.25)),
    (1, 4, 24, Placement(4, 2, 1.0)),
    (4, 1, 2, Placement(2, 4, 0.5)),
    (4, 4, 3, Placement(3, 2, 1.0)),  # a GPU each before any is shared
    (4, 1, 1, Placement(1, None)),
])  # fmt: skip
def test_small_networks_share_a_gpu_by_default(per_gpu, gpus, runs, expected, machine):
    machine(gpus=gpus)
    assert place_here(PlacementRequest(), CUDA, threads=None, runs=runs, per_gpu=per_gpu) == expected


def test_what_is_asked_for_overrides_the_share(machine):
    machine(gpus=1)
    for request, expected in [
        (PlacementRequest(workers=2), Placement(2, 4, 0.5)),
        (PlacementRequest(workers=1), Placement(1, None)),
        (PlacementRequest(gpus_per_run=1.0), Placement(1, None)),
        (PlacementRequest(workers=6, gpus_per_run=0.125), Placement(6, 1, 0.125)),
    ]:
        assert place_here(request, CUDA, threads=None, runs=24, per_gpu=4) == expected
    found = place_here(PlacementRequest(), torch.device("cuda:0"), threads=None, runs=24, per_gpu=4)
    assert found == Placement(1, None), "Ray would choose the GPU"


def test_without_ray_a_gpu_trains_one_run_at_a_time_and_the_plan_says_so(machine):
    machine(gpus=1, ray=False)
    found = place_here(PlacementRequest(), CUDA, threads=None, runs=24, per_gpu=4)
    assert (found.executor, found.gpus) == ("inline", 0.0)
    assert "trains 4 at once" in str(found)


def test_a_single_core_by_a_variable_is_said(monkeypatch):
    monkeypatch.setattr(placement.os, "sched_getaffinity", lambda pid: {1, 2, 5, 7}, raising=False)
    monkeypatch.setattr(placement, "cores", lambda: 1)  # what OMP_NUM_THREADS=1 makes of any number
    request = placement.PlacementRequest()
    here = placement.place_here(request, torch.device("cpu"), threads=None, runs=24)
    assert str(here) == "one run at a time, because OMP_NUM_THREADS=1; --workers 4 trains several"
    assert str(placement.if_worth(here, None, 1.0)) == "", "not for work of seconds"
    assert str(placement.place_here(request, torch.device("cpu"), threads=None, runs=1)) == ""
    monkeypatch.setattr(placement.os, "sched_getaffinity", lambda pid: {3})
    assert str(placement.place_here(request, torch.device("cpu"), threads=None, runs=24)) == ""
