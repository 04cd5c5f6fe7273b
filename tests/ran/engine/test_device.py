"""Names of devices, and what is set for CUDA: testable without one, because flags are only read there."""

import os

import pytest
import torch

from ran.config import ConfigError, RunConfig, check, override
from ran.engine import device as devices
from ran.engine import throughput
from ran.engine.device import Arithmetic, device_capabilities, has_bf16, pick_device, synchronize, uses_graph
from ran.engine.throughput import Stopwatch

CUDA = torch.device("cuda")


@pytest.fixture
def flags(monkeypatch):
    """Torch's own defaults, restored afterwards."""
    cudnn = torch.backends.cudnn
    kept = cudnn.deterministic, cudnn.benchmark, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    products, tf32 = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn.deterministic, cudnn.benchmark, cudnn.conv.fp32_precision = False, True, "tf32"
    yield
    cudnn.allow_tf32 = tf32
    cudnn.deterministic, cudnn.benchmark, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = kept
    torch.set_float32_matmul_precision(products)


@pytest.mark.parametrize(("precision", "float32"), [("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_cuda_computes_the_named_precision_and_repeats_its_bits(precision, float32, flags):
    with Arithmetic(precision).on(CUDA):
        pass
    assert torch.backends.cudnn.conv.fp32_precision == float32, "set after the block too, for the backward pass"
    assert torch.backends.cuda.matmul.fp32_precision == float32
    # Read in the older way, as the compiler and other libraries do: torch raises if the two disagree.
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is (precision == "tf32")
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_cpu_changes_none_of_it(flags):
    with Arithmetic().on(torch.device("cpu")):
        pass
    assert not torch.backends.cudnn.deterministic
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


@pytest.fixture
def accelerator(monkeypatch):
    """Returns how to give this machine one device of a kind."""

    def give(kind):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))

    devices._say_untried.cache_clear()
    return give


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_other_accelerators_are_accepted_and_said_to_be_untried(kind, accelerator, caplog):
    with pytest.raises(ConfigError, match=f"--device {kind}: this machine has no {kind} device"):
        pick_device(kind)
    accelerator(kind)
    assert pick_device(kind).type == kind
    pick_device(f"{kind}:0")
    assert [record.message for record in caplog.records] == [
        f"--device {kind}: accepted, but nothing was ever tried on one; bits are promised on cpu and cuda"
    ]
    with pytest.raises(ConfigError, match="this machine has no"):
        pick_device(f"{kind}:1")
    other = {"mps": "xpu", "xpu": "mps"}[kind]
    with pytest.raises(ConfigError, match=f"this machine has no {other} device"):
        pick_device(other)
    assert pick_device("auto").type == "cpu", "nobody gets an untried device without asking"
    assert not device_capabilities(torch.device(kind), kernels=False).bf16, (
        "the processor's bfloat16 is not the device's"
    )


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:x", ""])
def test_the_names_of_devices(name):
    with pytest.raises(ConfigError, match=r"valid are auto, cpu, cuda, cuda:N, mps, xpu; got"):
        pick_device(name)


def test_a_stopwatch_counts_a_step_when_the_device_has_done_it(monkeypatch):
    """A GPU is only told to compute: the time until the next fetch is the time of its steps."""
    now = [0.0]
    monkeypatch.setattr(throughput.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(throughput, "synchronize", lambda device: now.__setitem__(0, now[0] + 40))
    watch = Stopwatch(CUDA)
    now[0] += 2  # launches
    with watch.paused():
        now[0] += 500  # an evaluation
    assert watch.seconds == 42
    now[0] += 3
    with pytest.raises(KeyError), watch.paused():
        raise KeyError
    assert watch.seconds == 42 + 43


def test_bfloat16_is_a_property_of_the_device_that_is_asked_for(monkeypatch):
    """An older GPU beside a newer one, whichever is the current."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: ((7, 5), (8, 0))[device.index])
    assert [has_bf16(torch.device("cuda", i)) for i in (0, 1)] == [False, True]


def test_a_cpu_has_always_done_everything(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: pytest.fail("there is no accelerator"))
    synchronize(torch.device("cpu"))


@pytest.mark.parametrize(("settings", "words"), [
    ({"train.graph": "yes"}, "train.graph: valid are auto, on, off; got 'yes'"),
    ({"train.graph": "on", "train.compile": True}, "train.compile and train.graph=on exclude each other"),
    ({"train.recompute": True, "train.compile": True}, "train.compile and train.recompute exclude each other"),
])  # fmt: skip
def test_ways_that_exclude_each_other(settings, words):
    with pytest.raises(ConfigError, match=words):
        check(override(RunConfig(), settings))


@pytest.mark.parametrize(("graph", "used"), [("auto", False), ("off", False), ("on", True)])
def test_a_graph_is_asked_for_until_it_was_measured(graph, used):
    assert uses_graph(override(RunConfig(), {"train.graph": graph}).train) is used
