"""What a run does to the process: it waits for nothing within a window, gives its memory back, and fails alone."""

import contextlib
import gc

import pytest
import torch
from gpu_runs import REHEARSED, WINDOW, config, run

from ran.engine.compiled import compiled
from ran.engine.step import EAGER_STEPS
from ran.models.zoo import create_model

pytestmark = pytest.mark.gpu

SMALL = {"model__width": 0.125, "model__name": "attention32c", "train__evals": 1} if REHEARSED else {"train__evals": 1}


@pytest.mark.parametrize("options", [
    {}, {"train__precision": "bf16"}, {"train__graph": "on"}, {"train__kernels": "fused"},
], ids=str)  # fmt: skip
def test_no_step_waits_for_the_device(options, cuda, tmp_path):
    """A synchronising call between two log points raises; that of a log point and of a capture is let through."""

    def on_step(step: int) -> None:
        waits = step % WINDOW == 0 or step <= EAGER_STEPS + 1
        torch.cuda.set_sync_debug_mode("default" if waits else "error")

    try:
        run(config(**options), cuda, tmp_path, on_step=on_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def in_use() -> int:
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


@pytest.mark.parametrize("options", [{}, {"train__graph": "on"}], ids=str)
def test_memory_returns_after_a_run(options, cuda, tmp_path):
    run(config(**options), cuda, tmp_path / "first")  # leaves interpolation's matrices and workspaces
    before = in_use()
    run(config(**options), cuda, tmp_path / "second")
    assert in_use() - before < 2**20


def test_a_run_without_memory_fails_and_the_next_finishes(cuda, tmp_path):
    total = torch.cuda.get_device_properties(cuda).total_memory
    settings = config(train__batch_size=64)
    in_use()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 2**25) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            run(settings, cuda, tmp_path / "fails")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    in_use()
    assert run(settings, cuda, tmp_path / "next").result.outcome == "finished"


def test_a_ninth_network_is_compiled_too(device):
    calls = []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    for count in range(1, 11):
        network = create_model("wrn16_8", width=count / 32, num_classes=10).to(device)
        compiled(network, backend)(torch.randn(2, 3, 16, 16, device=device))
        assert len(calls) == count
        if REHEARSED and count == 2:
            break
    with contextlib.suppress(AttributeError):
        torch._dynamo.reset()
