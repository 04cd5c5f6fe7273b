"""train.compile: every network is compiled, whatever was compiled before, or the run fails and says so."""

import pytest
import torch

from ran.engine.compiled import compiled


@pytest.fixture(autouse=True)
def _forget():
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that compiles nothing, and counts."""

    calls = 0

    def __call__(self, graph, inputs):
        self.calls += 1
        return graph.forward


class Network(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(2, width)

    def forward(self, x):
        return self.layer(x)


def test_the_twelfth_network_is_compiled_as_the_first_was():
    """Dynamo keeps eight compilations of one forward, and then runs it uncompiled."""
    backend = Counting()
    for width in range(1, 13):
        compiled(Network(width), backend)(torch.ones(1, 2))
        assert backend.calls == width


def test_what_cannot_be_compiled_again_is_an_error():
    network = torch.nn.Flatten()
    forward = compiled(network, Counting())

    def of_many_shapes():
        for sides in range(2, 20):
            forward(torch.zeros([1] * sides))

    with torch._dynamo.config.patch(recompile_limit=8), pytest.raises(Exception, match="recompile_limit"):
        of_many_shapes()


def test_inductor_chooses_no_kernel_by_its_time():
    compiled(torch.nn.Flatten())
    assert torch._inductor.config.deterministic
