"""A step from buffers that stay in place, as a CUDA graph replays it: on the CPU the same function, called."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ran.engine import step as steps
from ran.engine.step import StaticStep

CPU = torch.device("cpu")


def test_the_buffers_stay_and_take_each_steps_values():
    seen = []
    take = StaticStep(lambda *inputs: seen.append((*inputs, *(x.clone() for x in inputs))), CPU)
    for i in range(3):
        take(torch.full((2, 3), i), torch.tensor(float(i)))
    first = seen[0]
    for i, (integers, number, then, number_then) in enumerate(seen):
        assert integers is first[0]
        assert number is first[1]
        assert torch.equal(then, torch.full((2, 3), i))
        assert number_then == i


def test_buffers_keep_the_memory_layout():
    layouts = []
    take = StaticStep(lambda x: layouts.append(x.is_contiguous(memory_format=torch.channels_last)), CPU)
    take(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    assert layouts == [True]


class Recording:
    """CUDA's graphs as far as StaticStep uses them: what is called while recording is called again by each replay."""

    def __init__(self, monkeypatch):
        self.said = []
        self.fails = None
        recording = self

        class Stream:
            def __init__(self, device=None):
                pass

            def wait_stream(self, other):
                pass

        class Graph:
            def replay(self):
                recording.said.append("replay")

        class Block:
            def __init__(self, word):
                self.word = word

            def __enter__(self):
                recording.said.append(self.word)
                if self.word == "capture" and recording.fails:
                    raise RuntimeError(recording.fails)

            def __exit__(self, *exception):
                pass

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "current_stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: Block("eager"))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", lambda graph, **_: Block("capture"))


def test_real_steps_first_then_one_capture_and_a_replay_for_each_step(monkeypatch):
    cuda = Recording(monkeypatch)
    take = StaticStep(lambda x: cuda.said.append("step"), torch.device("cuda"))
    for _ in range(steps.EAGER_STEPS + 2):
        take(torch.zeros(1))
    assert cuda.said == ["eager", "step"] * 3 + ["capture", "step", "replay", "replay"]


def test_a_step_that_cannot_be_captured_says_what_to_do(monkeypatch):
    cuda = Recording(monkeypatch)
    cuda.fails = "operation not permitted when stream is capturing\nand much more"
    take = StaticStep(lambda x: None, torch.device("cuda"))
    for _ in range(3):
        take(torch.zeros(1))
    with pytest.raises(RuntimeError, match=r"\(operation not permitted when stream is capturing\); --train.graph off$"):
        take(torch.zeros(1))


class Addresses(TorchDispatchMode):
    """Notes where the parameters lie that an update works on."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "_fused_sgd_" in func.name():
            self.found.append(tuple(p.data_ptr() for tensors in (args[0], args[2]) for p in tensors))
            self.found[-1] += (kwargs["lr"].data_ptr(),)
        return func(*args, **(kwargs or {}))


def test_parameters_momentum_and_rate_stay_where_a_graph_has_seen_them():
    from ran.engine.optim import sgd

    network = torch.nn.Linear(3, 2)
    optimizer = sgd(network.parameters(), lr=torch.tensor(0.1), momentum=0.9, weight_decay=1e-4)
    with Addresses() as seen:
        for i in range(4):
            optimizer.param_groups[0]["lr"].fill_(0.1 / (i + 1))
            network(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert len(seen.found) == 4
    assert len(set(seen.found)) == 1
