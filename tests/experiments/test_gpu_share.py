"""How many runs a GPU trains at once, by a stated table; sharing is not free."""

from types import SimpleNamespace

import pytest
import torch

from experiments import estimate
from experiments.gpu_share import runs_per_gpu, slowdown
from ran.config import ModelConfig, RunConfig, TrainConfig
from ran.models.cost import model_cost

GIB = 2**30
H200 = 139 * GIB


def planned(name, side=32, batch=64, width=1.0):
    config = RunConfig(ModelConfig(name, width=width), train=TrainConfig(batch_size=batch))
    source = SimpleNamespace(image_size=side, num_classes=10)
    return SimpleNamespace(
        config=config, source=source, cost=model_cost(config.model, num_classes=10, image_size=side)
    )  # fmt: skip


@pytest.mark.parametrize(("run", "memory", "cores", "expected"), [
    (("attention56",), H200, 16, 4), (("attention92",), H200, 16, 4), (("attention164",), H200, 16, 4),
    (("attention92",), H200, 2, 2), (("attention92",), H200, 0, 1),
    (("attention164",), 24 * GIB, 16, 2), (("attention164",), 8 * GIB, 16, 1), (("attention56",), None, 16, 4),
    (("wrn28_10",), H200, 16, 1), (("attention56", 32, 256), H200, 16, 2),
    (("attention56_imagenet", 224, 32), H200, 16, 1),
])  # fmt: skip
def test_by_work_memory_and_cores(run, memory, cores, expected):
    assert runs_per_gpu([planned(*run)], memory=memory, cores=cores) == expected


def test_the_largest_network_of_a_plan_decides():
    runs = [planned("attention56"), planned("wrn28_10")]
    assert runs_per_gpu(runs, memory=H200, cores=16) == 1
    assert runs_per_gpu([], memory=H200, cores=16) == 1, "nothing to do"


def test_sharing_is_not_free():
    assert [slowdown(gpus) for gpus in (0.0, 1.0, 0.5, 0.25)] == [1.0, 1.0, 1.15, 1.45]
    speedup = 4 / slowdown(0.25)
    assert 2.5 < speedup < 3, "of four runs"


def test_the_estimate_knows_it_unless_it_was_measured_so(monkeypatch):
    class source:
        image_size, num_classes, test_images = 8, 10, 0

    monkeypatch.setattr(estimate, "seconds_to_read", lambda source: 0.0)

    def seconds(stored, factor):
        cost = SimpleNamespace(macs=100)
        run = SimpleNamespace(
            config=RunConfig(), source=source, cost=cost, step=0, stored=stored, fingerprint="f"
        )  # fmt: skip
        plan = SimpleNamespace(todo=[run], runs=[run])
        return estimate.estimate_seconds(plan, torch.device("cpu"), lambda *_, **__: 1e-3, slowdown=factor)["f"]

    assert seconds(None, 1.45) == pytest.approx(1.45 * seconds(None, 1.0))
    done = SimpleNamespace(images_per_s=500.0)
    assert seconds(done, 1.45) == seconds(done, 1.0)
