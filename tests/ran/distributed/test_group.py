"""Several processes that train one run: what one process computes, up to rounding, and every way that one fails."""

import collections
import math
import os
import time
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ran.config import ConfigError, DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig, override
from ran.data.augment import Normalization
from ran.data.datasets import load_splits
from ran.data.loader import train_batches
from ran.distributed import group as talk
from ran.distributed import micro_batches
from ran.distributed.group import ALONE, AbandonedError, LostError, Processes
from ran.distributed.micro_batches import check_sharing, share_of
from ran.engine import step
from ran.engine import train as loop
from ran.engine.checkpoint import CheckpointError, newest, paths
from ran.engine.device import Arithmetic
from ran.engine.evaluate import Stopped, evaluate, predict
from ran.engine.train import Checkpointing, TrainHooks, train
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from records import names
from records.errors import one_line
from records.files import WriteError

PRINT = "f" * 64


@pytest.fixture
def config(config):
    """Six micro-batches, which 1, 2 and 3 processes can share out."""
    return override(config, {"train.batch_size": 12, "train.micro_batch": 2})


@dataclass(frozen=True)
class Ran:
    """What one process has after a run."""

    outcome: str
    reason: str
    steps: list[int]
    metrics: dict[str, float]
    points: dict[tuple[int, str], float]
    state: dict[str, torch.Tensor]


def run(
    processes, config, splits, folder, every_step=False, stop_at=None, stopper=0, seconds=math.inf, classes=3
) -> Ran:
    """One run, a point every three steps or `every_step`; process `stopper` stops it after step `stop_at`."""
    before, points, steps = loop.log_interval, {}, []
    try:
        loop.log_interval = lambda steps: 1 if every_step else 3

        def log(step, values):
            points.update({(step, key): value for key, value in values.items()})

        def stop():
            return processes.rank == stopper and bool(steps) and steps[-1] == stop_at

        own = folder if processes.leads else folder / f"of {processes.rank}"
        result = train(
            config, splits, TrainHooks(log=log, on_step=steps.append, stop=stop), num_classes=classes,
            fingerprint=PRINT, device=torch.device("cpu"), checkpoints=Checkpointing(own, seconds=seconds),
            processes=processes,
        )  # fmt: skip
    finally:
        loop.log_interval = before
    state = {key: value.clone() for key, value in result.network.state_dict().items()}
    return Ran(result.outcome, result.reason, steps, result.metrics, points, state)


def assert_close(one: Ran, other: Ran, within: float = 1e-5) -> None:
    assert one.state.keys() == other.state.keys()
    for key, value in one.state.items():
        torch.testing.assert_close(value, other.state[key], rtol=within, atol=within, msg=lambda m, k=key: f"{k}: {m}")


def assert_equal(one: Ran, other: Ran) -> None:
    assert [key for key, value in one.state.items() if not torch.equal(value, other.state[key])] == []


# The same as one process


ATTENTION = RunConfig(
    ModelConfig("attention56", width=0.125),
    DataConfig("cluttershapes", train_images=128, val_images=11, test_images=23),
    OptimConfig(lr=0.05, schedule="constant"),
    TrainConfig(steps=10, batch_size=16, micro_batch=8, precision="float32", evals=2),
)


def in_double(processes, *task):
    """`run` with weights, images and arithmetic of 64 bits."""
    augment, normalize, single = Normalization.augment, Normalization.normalize, torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    Normalization.augment = lambda *args: augment(*args).double()
    Normalization.normalize = lambda *args: normalize(*args).double()
    torch.Tensor.float = torch.Tensor.double
    try:
        return run(processes, *task)
    finally:
        torch.set_default_dtype(torch.float32)
        Normalization.augment, Normalization.normalize, torch.Tensor.float = augment, normalize, single


def losses(ran: Ran) -> list[float]:
    return [value for (_, key), value in sorted(ran.points.items()) if key == names.TRAIN_LOSS]


@pytest.mark.slow
def test_ten_steps_of_a_real_network_are_those_of_one_process(crew, tmp_path):
    """Two micro-batches: a + b has the bits of b + a, so rounding makes no difference that could grow."""
    config = override(ATTENTION, {"data.root": str(tmp_path)})
    task = (config, load_splits(config.data, 0), tmp_path / "one", True, None, 0, math.inf, 10)
    one = run(ALONE, *task)
    first, second = crew(2, run, *task[:2], tmp_path / "two", *task[3:])
    assert first.points.keys() == one.points.keys()
    assert len(losses(one)) == 10
    assert losses(first) == pytest.approx(losses(one), abs=1e-5)
    assert [first.points[k] for k in one.points if k[1] == names.TRAIN_ERR] == [
        one.points[k] for k in one.points if k[1] == names.TRAIN_ERR
    ]
    assert_close(first, one, 1e-4)
    counts = [int(value) for key, value in first.state.items() if key.endswith("num_batches_tracked")]
    assert set(counts) == {20}
    assert_equal(first, second)
    timed = (names.COST_HOURS, names.COST_CPU_HOURS, names.COST_IMAGES_PER_S)
    kept = [{k: v for k, v in found.metrics.items() if k not in timed} for found in (first, second)]
    assert kept[0] == kept[1]


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_in_double_precision_it_is_the_same_computation(world, crew, tmp_path):
    """Six micro-batches. Rounding grows 20-fold a step here, as it does in one process that takes them backwards."""
    changes = {"data.root": str(tmp_path), "train.steps": 4, "train.batch_size": 24, "train.micro_batch": 4}
    config = override(ATTENTION, changes)
    task = (config, load_splits(config.data, 0), tmp_path / "one", True, None, 0, math.inf, 10)
    one = in_double(ALONE, *task)
    for found in crew(world, in_double, *task[:2], tmp_path / "many", *task[3:]):
        assert_close(found, one, 1e-7)
        assert found.state["head.weight"].dtype == torch.float64
        if found.points:
            assert losses(found) == pytest.approx(losses(one), abs=1e-9)


@pytest.mark.parametrize("world", [2, 3])
def test_running_statistics_after_one_step(world, config, splits, crew, tmp_path):
    """Without a second step nothing is amplified: each is that of one process to the last digits of a float32."""
    config = override(config, {"train.steps": 1})
    one = run(ALONE, config, splits, tmp_path / "one")
    for found in crew(world, run, config, splits, tmp_path / "many"):
        assert_close(found, one, 1e-6)
        moved = [k for k in one.state if "running" in k and not torch.equal(one.state[k], one.state[k].round())]
        assert moved, "the statistics are not those of the beginning"


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {"train.precision": "bf16"}, {"train.channels_last": False}, {"optim.momentum": 0.0}, {"train.micro_batch": 4},
    {"train.kernels": "fused"}, {"train.recompute": True},
], ids=str)  # fmt: skip
def test_variants(changes, config, splits, crew, tmp_path):
    config = override(config, {"train.batch_size": 24, **changes})
    one = run(ALONE, config, splits, tmp_path / "one")
    first, second = crew(2, run, config, splits, tmp_path / "two")
    assert_equal(first, second)
    assert_close(first, one, 2e-2 if config.train.precision == "bf16" else 1e-4)


def test_a_divergence_is_one_in_all(config, splits, crew, tmp_path):
    config = override(config, {"optim.lr": 1e30})
    one = run(ALONE, config, splits, tmp_path / "one", every_step=True)
    for found in crew(3, run, config, splits, tmp_path / "three", True):
        assert (found.outcome, found.reason) == (one.outcome, one.reason)
        assert found.outcome == names.DIVERGED


# Sharing out


@pytest.mark.parametrize(("batch", "micro", "world"), [(12, 2, 2), (12, 2, 3), (12, 4, 3), (8, 4, 2), (64, 8, 8)])
def test_each_image_of_a_batch_falls_to_one_process(batch, micro, world):
    shares = [share_of(Processes(rank, world), batch, micro) for rank in range(world)]
    taken = sorted(int(position) for share in shares for position in share.positions)
    assert taken == list(range(batch))
    turns = sorted(turn for share in shares for turn in share.indices)
    assert turns == list(range(batch // micro))
    for share in shares:
        for turn, positions in zip(share.indices, share.positions.reshape(-1, share.size), strict=True):
            assert list(positions) == list(range(turn * micro, (turn + 1) * micro))


def test_synchronised_a_micro_batch_is_split_among_all():
    shares = [share_of(Processes(rank, 2, sync_batchnorm=True), 8, 4) for rank in range(2)]
    assert [list(share.positions) for share in shares] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert [(share.size, share.indices) for share in shares] == [(2, (0, 1))] * 2


@pytest.mark.parametrize(("batch", "micro", "world", "sync", "says"), [
    (64, None, 2, False, "--train.micro_batch 32 works"), (64, 16, 8, False, "--train.micro_batch 8 works"),
    (64, 32, 3, False, "start a number that divides 64"), (12, 6, 3, False, "--train.micro_batch 4 works"),
    (64, 2, 4, True, "--train.micro_batch 4 works"), (9, 9, 2, True, "start a number that divides 9"),
])  # fmt: skip
def test_what_cannot_be_shared_names_what_can(batch, micro, world, sync, says):
    with pytest.raises(ConfigError) as refused:
        check_sharing(batch, micro, world, sync_batchnorm=sync)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("batch", "micro", "world", "sync"), [
    (64, None, 1, False), (64, 32, 2, False), (12, 2, 3, False), (64, None, 8, True),
])  # fmt: skip
def test_what_can_be_shared(batch, micro, world, sync):
    check_sharing(batch, micro, world, sync_batchnorm=sync)


def test_part_of_a_batch_is_as_in_the_whole(splits):
    batches = train_batches(splits.train.images, splits.train.labels, splits.normalization, batch_size=12, seed=3)
    images, labels = batches(5)
    positions = share_of(Processes(1, 3), 12, 2).positions
    some, their = batches(5, positions)
    assert torch.equal(some, images[positions])
    assert torch.equal(their, labels[positions])


class Launches(TorchDispatchMode):
    """Counts the operations that compute: on a GPU each is a launch at least."""

    count = 0
    VIEWS = ("view", "reshape", "detach", "alias", "split")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().partition("::")[2].strip("_")
        self.count += not name.startswith(self.VIEWS)
        return func(*args, **(kwargs or {}))


def launches(processes, norms):
    """Returns the number of launches of what a step of this many norms exchanges."""
    network = nn.Sequential(*(nn.BatchNorm2d(3) for _ in range(norms)))
    window = {"loss": torch.zeros(()), "wrong": torch.zeros(())}
    shared = micro_batches._SharedStep(processes, network, network, window, share_of(ALONE, 8, 4))
    collections.deque(shared.assign(range(2)), maxlen=0)  # with the rehearsal
    with Launches() as seen:
        collections.deque(shared.assign(range(2)), maxlen=0)
    return seen.count


def test_a_step_has_no_more_launches_for_more_norms(crew):
    """320 BatchNorms in Attention-92, three tensors each: one by one they are a thousand launches."""
    (few,), (many,) = (crew(1, launches, count) for count in (2, 40))
    assert few == many < 30


def test_synchronising_keeps_the_names_of_the_state(config):
    network = build(config_spec(config.model), num_classes=3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    other = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in other.modules())
    assert list(other.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


def with_cumulative_average(processes, config):
    network = build(config_spec(config.model), num_classes=3)
    next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)).momentum = None
    micro_batches.assign_micro_batches(processes, network, network, {}, share_of(processes, 12, 2))


def test_a_batchnorm_that_cannot_be_shared_is_refused(config, crew):
    for error in crew(2, with_cumulative_average, config):
        assert isinstance(error, ConfigError)
        assert "momentum=None" in str(error)


# Evaluation


def logits_of(processes, config, splits, count):
    network = build(config_spec(config.model), num_classes=3)
    initialize(network, 0)
    how = {"arithmetic": Arithmetic(), "processes": processes}
    images, labels = splits.train.images[:count], splits.train.labels[:count]
    return predict(network, images, splits.normalization, **how), evaluate(
        network, images, labels, splits.normalization, **how
    )


@pytest.mark.parametrize("count", [1, 2, 7, 19, 20])
@pytest.mark.parametrize("world", [2, 3])
def test_every_image_is_evaluated_once(world, count, config, splits, crew):
    """Image by image: 19 and 7 divide by neither, 1 and 2 are fewer than three processes."""
    expected, score = logits_of(ALONE, config, splits, count)
    for logits, found in crew(world, logits_of, config, splits, count):
        assert logits.shape == expected.shape
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
        assert (found.err, found.err5) == (score.err, score.err5)
        assert torch.equal(found.correct, score.correct)
        assert found.loss == pytest.approx(score.loss, rel=1e-6)


def rounds_of(processes, config, splits, stop_in):
    """Parts of unlike numbers of batches: 19 images over three processes in batches of 2 are 4, 3 and 3."""
    from ran.engine import evaluate as evaluation

    network, asked = build(config_spec(config.model), num_classes=3), []

    def stop():
        asked.append(1)
        return processes.rank == 2 and len(asked) == stop_in

    before, evaluation.BATCH = evaluation.BATCH, 2
    try:
        predict(
            network, splits.train.images[:19], splits.normalization, Arithmetic(),
            stop=processes.synced_stop(stop), processes=processes,
        )  # fmt: skip
    except Stopped:
        return -len(asked)
    finally:
        evaluation.BATCH = before
    return len(asked)


def test_an_evaluation_asks_all_equally_often_and_stops_all(config, splits, crew):
    assert crew(3, rounds_of, config, splits, None) == [4, 4, 4]
    assert crew(3, rounds_of, config, splits, 2) == [-2, -2, -2]


# Checkpoints


@pytest.mark.parametrize(("first", "then", "stopper"), [
    (2, 3, 1), pytest.param(2, 1, 1, marks=pytest.mark.slow), pytest.param(1, 2, 0, marks=pytest.mark.slow),
    pytest.param(3, 2, 2, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_checkpoint_continues_on_any_number(first, then, stopper, config, splits, crew, tmp_path):
    whole = run(ALONE, config, splits, tmp_path / "whole")
    task = (config, splits, tmp_path / "cut")
    cut = on(first, crew, *task, False, 5, stopper)  # in an open window of the log
    assert {(part.outcome, part.steps[-1]) for part in cut} == {(names.KILLED, 5)}
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["step-00000005.safetensors"], (
        "the first alone writes"
    )
    continued = on(then, crew, *task)
    assert [part.steps for part in continued] == [[6, 7]] * then
    for part in continued:
        assert part.outcome == names.FINISHED
        assert_close(part, whole, 1e-4)
        assert_equal(part, continued[0])
    points = cut[0].points | continued[0].points
    assert points.keys() == whole.points.keys()
    for key in whole.points:
        assert points[key] == pytest.approx(whole.points[key], rel=1e-3), key


@pytest.mark.parametrize("world", [2, 3])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(world, config, splits, crew, tmp_path):
    """From three processes on the rounding of a sum depends on the order of the gradients in their buckets."""
    whole, *_ = crew(world, run, config, splits, tmp_path / "whole")
    crew(world, run, config, splits, tmp_path / "cut", False, 3)
    continued, *_ = crew(world, run, config, splits, tmp_path / "cut")
    assert continued.steps == [4, 5, 6, 7]
    assert_equal(continued, whole)


def on(world, crew, *task):
    return [run(ALONE, *task)] if world == 1 else crew(world, run, *task)


def test_the_last_checkpoint_of_two_processes_holds_what_one_would_write(config, splits, crew, tmp_path):
    crew(2, run, config, splits, tmp_path / "two", False, 5)
    run(ALONE, config, splits, tmp_path / "one", False, 5)
    from ran.tensor_file import read_tensors

    two, one = (read_tensors(paths(tmp_path / name)[0]) for name in ("two", "one"))
    assert two.keys() == one.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


# What goes wrong


def failing(processes, config, splits, folder, where, who, error, patience=60.0):
    """A run in which one process raises; as those that train do, it tells the others."""
    if processes.rank in who:

        def fails(*args, **options):
            raise error

        if where == "flush":
            loop.checkpoint.save = fails
        elif where == "load":
            loop.checkpoint.load = fails
        elif where == "forward":
            step.F.cross_entropy = fails
    began = time.monotonic()
    talk.ABORT_SECONDS = patience
    save, load, cross_entropy = ORIGINALS
    try:
        run(processes, config, splits, folder, seconds=0.0)
        processes.sync_stop()  # as after each run
        return "went on", time.monotonic() - began
    except (AbandonedError, LostError) as raised:
        return raised, time.monotonic() - began
    except Exception as raised:
        try:
            processes.abort(one_line(raised))
        except LostError as lost:
            return lost, time.monotonic() - began
        return raised, time.monotonic() - began
    finally:
        loop.checkpoint.save, loop.checkpoint.load, step.F.cross_entropy = save, load, cross_entropy
        talk.ABORT_SECONDS = ABORT_SECONDS


ABORT_SECONDS = talk.ABORT_SECONDS
ORIGINALS = (loop.checkpoint.save, loop.checkpoint.load, step.F.cross_entropy)


@pytest.mark.parametrize(("where", "error"), [
    ("flush", WriteError("cannot write it: No space left on device")), ("load", CheckpointError("of another")),
])  # fmt: skip
def test_what_the_first_process_alone_suffers_leaves_none_hanging(where, error, config, splits, crew, tmp_path):
    (mine, _), *others = crew(3, failing, config, splits, tmp_path, where, [0], error)
    assert type(mine) is type(error)
    for theirs, _ in others:
        assert isinstance(theirs, AbandonedError)
        assert str(theirs) == f"process 0: {one_line(error)}"


def test_what_all_suffer_is_known_to_all(config, splits, crew, tmp_path):
    """Out of memory, an exception in a user's mask: the next run can go on."""
    found = crew(2, failing, config, splits, tmp_path, "forward", [0, 1], MemoryError("too large"))
    assert [type(error) for error, _ in found] == [MemoryError, MemoryError]


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, 1])
def test_what_one_suffers_between_gradients_ends_the_group(who, config, splits, crew, tmp_path):
    found = crew(2, failing, config, splits, tmp_path, "forward", [who], MemoryError("too large"), 2.0)
    assert isinstance(found[who][0], LostError)
    error, seconds = found[1 - who]
    assert talk.is_lost(error), error
    assert seconds < 30


def dying(processes, config, splits, folder, at):
    def stop():
        if processes.rank == 1 and at == "sync_stop":
            os._exit(1)
        return False

    if processes.rank == 1 and at == "forward":
        step.F.cross_entropy = lambda *args, **options: os._exit(1)
    try:
        train(
            config, splits, TrainHooks(stop=stop), num_classes=3, fingerprint=PRINT, device=torch.device("cpu"),
            checkpoints=Checkpointing(folder), processes=processes,
        )  # fmt: skip
    except Exception as error:
        return error


@pytest.mark.slow
@pytest.mark.parametrize("at", ["sync_stop", "forward"])
def test_a_process_that_dies_is_noticed(at, config, splits, crew, tmp_path):
    error, dead = crew(2, dying, config, splits, tmp_path, at)
    assert dead is None
    assert talk.is_lost(error), error
    assert newest(tmp_path, PRINT) is None


def test_an_error_of_the_run_is_no_loss():
    assert not talk.is_lost(MemoryError("out of memory"))
    assert not talk.is_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert talk.is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"))
