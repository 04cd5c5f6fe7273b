"""The same bits twice, after a resume, and as a CUDA graph."""

import pytest
import torch
from gpu_runs import REHEARSED, config, differing, run

from ran.engine.checkpoint import paths
from ran.tensor_file import read_tensors

pytestmark = pytest.mark.gpu

WAYS = {
    "float32": {},
    "bf16": {"train__precision": "bf16"},
    "contiguous": {"train__channels_last": False},
    "micro-batches": {"train__micro_batch": 8},
    "recomputed": {"train__recompute": True},
    "graph": {"train__graph": "on"},
    "graph bf16": {"train__graph": "on", "train__precision": "bf16"},
    "fused": {"train__kernels": "fused"},
    "fused bf16": {"train__kernels": "fused", "train__precision": "bf16"},
    "spatial": {"model__mask_activation": "spatial"},
    "channel": {"model__mask_activation": "channel"},
    "cbam": {"model__mask_structure": "cbam"},
}
if REHEARSED:
    WAYS = {"graph": {"train__graph": "on"}}
SMALL = {"model__width": 0.125, "model__name": "attention32c"} if REHEARSED else {}


@pytest.mark.parametrize("way", WAYS)
def test_twice_and_after_a_stop(way, device, tmp_path):
    settings = config(**SMALL | WAYS[way])
    whole = run(settings, device, tmp_path / "whole")
    assert differing(whole, run(settings, device, tmp_path / "again")) == []
    for step in (4, 13):  # in the first window, and in the second
        folder = tmp_path / str(step)
        points = run(settings, device, folder, stop_at=step).points
        rest = run(settings, device, folder)
        rest.points = points | rest.points
        assert differing(whole, rest) == []


@pytest.mark.parametrize("options", [
    {}, {"train__precision": "bf16"}, {"train__micro_batch": 8}, {"train__recompute": True},
    {"model__name": "wrn16_8"}, {"model__learning": "nal"}, {"train__kernels": "fused"},
][: 1 if REHEARSED else None], ids=str)  # fmt: skip
def test_a_graph_computes_what_eager_steps_do(options, device, tmp_path):
    """If this holds, train.graph=auto may become on for CUDA (`uses_graph` in ran/engine/device.py)."""
    eager, graph = (
        run(config(**SMALL | options, train__graph=way), device, tmp_path / way) for way in ("off", "on")
    )  # fmt: skip
    assert differing(eager, graph) == []


@pytest.mark.slow
def test_a_compiled_run_repeats_and_resumes(cuda, tmp_path):
    settings = config(model__name="attention32c", train__compile=True)
    whole = run(settings, cuda, tmp_path / "whole")
    run(settings, cuda, tmp_path / "parts", stop_at=13)
    assert differing(whole, run(settings, cuda, tmp_path / "parts")) == []


@pytest.mark.parametrize("first", ["device", "cpu"])
def test_a_checkpoint_moves_between_devices(first, device, tmp_path):
    """The state is the same to the bit; the steps after it are the other device's."""
    settings, cpu = config(**SMALL), torch.device("cpu")
    one, other = (device, cpu) if first == "device" else (cpu, device)
    stopped = run(settings, one, tmp_path, stop_at=13)
    (path,) = paths(tmp_path)
    saved = {key: value for key, value in read_tensors(path).items() if key.startswith("network.")}
    assert all(torch.equal(value, stopped.state[key.removeprefix("network.")]) for key, value in saved.items())
    moved = run(settings, other, tmp_path, stop_at=13, begun=13)
    assert [key for key in stopped.state if not torch.equal(stopped.state[key], moved.state[key])] == []
    assert run(settings, other, tmp_path).result.outcome == "finished"
