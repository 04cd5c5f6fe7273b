"""The training loop: same seed, same bits; stopped or killed anywhere and continued, the same bits and points."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ran.config import RunConfig, override
from ran.data.datasets import LabelNoise, Splits
from ran.engine import scoring, setup
from ran.engine import train as loop
from ran.engine.checkpoint import CheckpointError, newest, path_of, paths
from ran.engine.evaluate import Score
from ran.engine.train import Checkpointing, Result, TrainHooks, train
from ran.fingerprints import fingerprint
from ran.models.masks import MASK_ACTIVATIONS
from records import names

PRINT = "f" * 64
STEPS = 7
RESPONSE = names.RESPONSE.format(1)
LOG_INTERVAL = loop.log_interval  # before the fixture below takes its place
CURVES = {names.TRAIN_LOSS, names.TRAIN_ERR, names.LR, names.VAL_LOSS, names.VAL_ERR, RESPONSE}


class PowerCut(Exception):
    pass


@dataclass
class Log:
    """A tracker that keeps what was flushed and loses the rest, as one whose process dies."""

    kept: dict[tuple[int, str], float] = field(default_factory=dict)
    waiting: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    again: int = 0

    def write(self, step: int, values: dict[str, float]) -> None:
        assert all(map(math.isfinite, values.values())), f"{values} at step {step}"
        self.waiting.append((step, values))

    def flush(self) -> None:
        for step, values in self.waiting:
            for key, value in values.items():
                self.again += (step, key) in self.kept
                assert self.kept.setdefault((step, key), value) == value, "a step taken again logs another value"
        self.waiting.clear()


def run(config: RunConfig, splits: Splits, folder: Path, log: Log | None = None, **options) -> Result:
    log = log or Log()
    hooks = {name: options.pop(name) for name in ("on_step", "stop") if name in options}
    fingerprint = options.pop("fingerprint", PRINT)
    result = train(
        config, splits, TrainHooks(log=log.write, flush=log.flush, **hooks), num_classes=3, fingerprint=fingerprint,
        device=torch.device("cpu"), checkpoints=Checkpointing(folder, **options),
    )  # fmt: skip
    log.flush()
    return result


def stop_at(step: int):
    taken = [0]
    return {"on_step": lambda done: taken.__setitem__(0, done), "stop": lambda: taken[0] == step}


def die_at(step: int):
    def on_step(done: int) -> None:
        if done == step:
            raise PowerCut

    return on_step


def errors(result: Result) -> dict[str, float]:
    return {key: value for key, value in result.metrics.items() if key.startswith("final/")}


def assert_same_bits(one: Result, other: Result) -> None:
    a, b = one.network.state_dict(), other.network.state_dict()
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


@pytest.fixture(autouse=True)
def three_steps_a_point(monkeypatch):
    """So that windows are open between the steps, and the last is shorter: points at 3, 6 and 7."""
    monkeypatch.setattr(loop, "log_interval", lambda steps: 3)


VARIANTS = {
    "float32": {},
    "bf16": {"train.precision": "bf16"},
    "fused": {"train.kernels": "fused"},
    "fused bf16": {"train.kernels": "fused", "train.precision": "bf16"},
    "recomputed": {"train.recompute": True},
    "contiguous": {"train.channels_last": False},
    "micro batches": {"train.micro_batch": 4},
    "no momentum": {"optim.momentum": 0.0},
    "static buffers": {"train.graph": "on"},
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def variant(request, config):
    return override(config, request.param)


def test_same_seed_same_bits_another_seed_others(variant, splits, tmp_path):
    logs = Log(), Log()
    one, two = (run(variant, splits, tmp_path / str(i), log) for i, log in enumerate(logs))
    assert_same_bits(one, two)
    assert logs[0].kept == logs[1].kept
    assert errors(one) == errors(two)
    other = run(replace(variant, seed=1), splits, tmp_path / "other")
    assert not torch.equal(one.network.head.weight, other.network.head.weight)


def test_what_a_run_logs(config, splits, tmp_path):
    log = Log()
    result = run(config, splits, tmp_path, log)
    assert result.outcome == names.FINISHED
    assert result.step == STEPS
    steps = {name: [step for step, key in sorted(log.kept) if key == name] for name in CURVES}
    windows, evals = [3, 6, 7], [3, 6, 7]
    assert steps == {
        name: windows if name in (names.TRAIN_LOSS, names.TRAIN_ERR, names.LR) else evals for name in CURVES
    }
    assert {key for _, key in log.kept} == CURVES, "nothing is drawn over the test set while one is held out"
    assert log.kept[STEPS, names.VAL_ERR] == result.metrics[names.FINAL_VAL_ERR]
    wrong = log.kept[3, names.TRAIN_ERR] * 24 / 100
    assert wrong == pytest.approx(round(wrong)), "an error over the 24 images of three steps"
    wrong = log.kept[STEPS, names.TRAIN_ERR] * 8 / 100
    assert wrong == pytest.approx(round(wrong)), "the last window has one step"
    assert log.kept[STEPS, names.LR] == pytest.approx(0.02 * (1 - 6.5 / 7) / 0.75)
    assert set(result.metrics) == {
        names.FINAL_VAL_ERR, names.FINAL_VAL_LOSS, names.FINAL_TEST_ERR, names.FINAL_TEST_LOSS,
        names.COST_HOURS, names.COST_CPU_HOURS, names.COST_IMAGES_PER_S,
    }  # fmt: skip


def test_each_test_image_is_right_or_wrong_as_evaluated_by_hand(config, splits, tmp_path):
    result = run(override(config, {"train.steps": 20}), splits, tmp_path)
    images = splits.normalization.normalize(splits.test.images).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = result.network.eval()(images).argmax(1) == splits.test.labels
    assert result.correct.dtype == torch.bool
    assert torch.equal(result.correct, expected)
    assert result.metrics[names.FINAL_TEST_ERR] == 100 * int((~expected).sum()) / len(expected)
    assert 0 < expected.sum() < len(expected), "both occur"


def test_a_run_that_does_not_finish_has_no_results_by_image(config, splits, tmp_path):
    assert run(config, splits, tmp_path, **stop_at(2)).correct is None
    assert run(override(config, {"optim.lr": 1e30}), splits, tmp_path / "diverges").correct is None


def test_curves_are_over_the_test_set_where_nothing_is_held_out_and_absent_with_no_evals(config, splits, tmp_path):
    all_train = replace(splits, val=replace(splits.val, images=splits.val.images[:0], labels=splits.val.labels[:0]))
    log, silent = Log(), Log()
    run(config, all_train, tmp_path / "paper", log)
    assert names.TEST_ERR in {key for _, key in log.kept}
    assert names.VAL_ERR not in {key for _, key in log.kept}
    run(override(config, {"train.evals": 0}), splits, tmp_path / "silent", silent)
    assert {key for _, key in silent.kept} == {names.TRAIN_LOSS, names.TRAIN_ERR, names.LR}


@pytest.mark.slow
def test_stopped_at_every_step_and_continued(variant, splits, tmp_path):
    whole_log = Log()
    whole = run(variant, splits, tmp_path / "whole", whole_log)
    for step in range(STEPS):
        folder, log = tmp_path / str(step), Log()
        stopped = run(variant, splits, folder, log, **stop_at(step))
        assert (stopped.outcome, stopped.step) == (names.KILLED, step)
        assert errors(stopped) == {}
        taken = []
        continued = run(variant, splits, folder, log, on_step=taken.append)
        assert taken == list(range(step + 1, STEPS + 1)), "no step is taken twice"
        assert_same_bits(whole, continued)
        assert log.kept == whole_log.kept
        assert log.again == 0, "each point once"
        assert errors(continued) == errors(whole)


def test_stopped_between_all_steps_of_one_run(config, splits, tmp_path):
    whole = run(config, splits, tmp_path / "whole")
    for step in range(STEPS):
        assert run(config, splits, tmp_path / "bits", **stop_at(step)).step == step
    assert_same_bits(whole, run(config, splits, tmp_path / "bits"))


@pytest.mark.parametrize("checkpoint_seconds", [0.0, math.inf])
def test_killed_in_every_step_and_continued(checkpoint_seconds, config, splits, tmp_path):
    whole_log = Log()
    whole = run(config, splits, tmp_path / "whole", whole_log)
    for step in range(1, STEPS + 1):
        folder, log = tmp_path / str(step), Log()
        with pytest.raises(PowerCut):
            run(config, splits, folder, log, on_step=die_at(step), seconds=checkpoint_seconds)
        log.waiting.clear()
        taken = []
        continued = run(config, splits, folder, log, on_step=taken.append)
        # The step in which it died was not saved yet.
        assert taken[0] == (step if checkpoint_seconds == 0 else 1)
        assert_same_bits(whole, continued)
        assert log.kept == whole_log.kept
        assert log.again == 0
        assert errors(continued) == errors(whole)


def test_killed_between_the_log_and_the_checkpoint(config, splits, tmp_path, monkeypatch):
    """The points of step 6 are in the store, its weights are not: they are logged again with the same values."""
    whole = run(config, splits, tmp_path / "whole")
    save, log = loop.checkpoint.save, Log()

    def dies(folder, header, *state):
        if header.step == 6:
            raise PowerCut
        save(folder, header, *state)

    with monkeypatch.context() as patch:
        patch.setattr(loop.checkpoint, "save", dies)
        with pytest.raises(PowerCut):
            run(config, splits, tmp_path / "cut", log, seconds=0)
    assert_same_bits(whole, run(config, splits, tmp_path / "cut", log))
    assert log.again > 0


def stopping(evaluate, number: int):
    """`evaluate`, asked to stop in its `number`th call."""
    calls = []

    def stopped(*args, stop, **options):
        calls.append(1)
        return evaluate(*args, stop=(lambda: True) if len(calls) == number else stop, **options)

    return stopped


@pytest.mark.slow
@pytest.mark.parametrize(("number", "step", "reason"), [
    (1, 3, "stopped at step 3/7"), (2, 6, "stopped at step 6/7"),
    (3, 7, "stopped in the evaluation after step 7/7"), (4, 7, "stopped in the evaluation after step 7/7"),
])  # fmt: skip
@pytest.mark.parametrize("checkpoint_seconds", [0.0, math.inf])
def test_stopped_in_an_evaluation(checkpoint_seconds, number, step, reason, config, splits, tmp_path, monkeypatch):
    whole_log, log = Log(), Log()
    whole = run(config, splits, tmp_path / "whole", whole_log)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "evaluate", stopping(scoring.evaluate, number))
        stopped = run(config, splits, tmp_path / "cut", log, seconds=checkpoint_seconds)
    assert (stopped.outcome, stopped.step, stopped.reason) == (names.KILLED, step, reason)
    taken = []
    continued = run(config, splits, tmp_path / "cut", log, on_step=taken.append)
    assert taken == list(range(step + 1, STEPS + 1)), "no step is taken twice"
    assert_same_bits(whole, continued)
    assert log.kept == whole_log.kept
    assert log.again == 0, "the evaluation's points too"


@pytest.mark.parametrize("number", [1, 2])
def test_killed_in_an_evaluation(number, config, splits, tmp_path, monkeypatch):
    whole_log, log = Log(), Log()
    whole = run(config, splits, tmp_path / "whole", whole_log)
    calls, evaluate = [], scoring.evaluate

    def dies(*args, **options):
        calls.append(1)
        if len(calls) == number:
            raise PowerCut
        return evaluate(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "evaluate", dies)
        with pytest.raises(PowerCut):
            run(config, splits, tmp_path / "cut", log, seconds=0)
    log.waiting.clear()
    header = newest(tmp_path / "cut", PRINT)
    assert (header.step, header.evaluation_due) == (3 * number, True)
    taken = []
    continued = run(config, splits, tmp_path / "cut", log, on_step=taken.append)
    assert taken[0] == 3 * number + 1, "the step before the evaluation is not taken again"
    assert_same_bits(whole, continued)
    assert log.kept == whole_log.kept


def test_killed_in_the_last_evaluation(config, splits, tmp_path, monkeypatch):
    whole_log, log = Log(), Log()
    whole = run(config, splits, tmp_path / "whole", whole_log)

    def dies(*args, **options):
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "evaluate", dies)
        with pytest.raises(PowerCut):
            run(override(config, {"train.evals": 1}), splits, tmp_path / "cut", log)
    log.waiting.clear()
    continued = run(override(config, {"train.evals": 1}), splits, tmp_path / "cut", log)
    assert_same_bits(whole, continued)
    assert errors(continued) == errors(whole)
    assert names.COST_IMAGES_PER_S not in continued.metrics, "no step was taken, so there is no rate"


def test_the_time_of_earlier_attempts_counts(config, splits, tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 10))
    with monkeypatch.context() as patch:
        patch.setattr(loop.time, "monotonic", lambda: next(clock))
        run(config, splits, tmp_path, **stop_at(4))
    spent = newest(tmp_path, PRINT).seconds
    assert spent >= 40
    run(config, splits, tmp_path, **stop_at(5))
    assert spent < newest(tmp_path, PRINT).seconds < spent + 30
    third = run(config, splits, tmp_path)
    assert spent < 3600 * third.metrics[names.COST_HOURS] < spent + 30


def test_the_processor_time_of_earlier_attempts_counts(config, splits, tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 36))
    with monkeypatch.context() as patch:  # read once at the beginning, and at every checkpoint and end
        patch.setattr(loop.time, "process_time", lambda: next(clock))
        run(config, splits, tmp_path, **stop_at(4))
        assert newest(tmp_path, PRINT).cpu_seconds == 36
        run(config, splits, tmp_path, **stop_at(5))
        assert newest(tmp_path, PRINT).cpu_seconds == 72
    third = run(config, splits, tmp_path)
    assert 72 < 3600 * third.metrics[names.COST_CPU_HOURS] < 72 + 30


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_an_exploding_rate_diverges_and_logs_nothing_that_is_not_finite(precision, config, splits, tmp_path):
    config = override(config, {"optim.lr": 1e30, "train.precision": precision})
    log = Log()
    result = run(config, splits, tmp_path, log)
    assert result.outcome == names.DIVERGED
    assert result.step == 3, "the end of the window in which it happened"
    assert result.reason == "loss not finite by step 3"
    assert errors(result) == {}
    assert paths(tmp_path) == []


def test_infinite_weights_diverge_at_the_first_point(config, splits, tmp_path, monkeypatch):
    def infinite(network, seed):
        torch.nn.init.constant_(network.head.weight, math.inf)

    monkeypatch.setattr(setup, "initialize", infinite)
    assert run(config, splits, tmp_path).outcome == names.DIVERGED


def test_weights_that_are_not_finite_and_leave_the_loss_finite(config, splits, tmp_path, monkeypatch):
    """An infinite running variance: training does not read it, and in evaluation it turns a channel into zeros."""
    initialize = setup.initialize

    def infinite(network, seed):
        initialize(network, seed)
        torch.nn.init.constant_(network.get_buffer("stages.0.attention.0.mask.head.0.running_var"), math.inf)

    monkeypatch.setattr(setup, "initialize", infinite)
    result = run(config, splits, tmp_path)
    assert (result.outcome, result.step, result.reason) == (names.DIVERGED, 3, "weights not finite by step 3")


def test_a_divergence_is_noticed_within_a_hundred_steps():
    assert max(map(LOG_INTERVAL, (1, 6, 150, 625, 160_000, 530_000))) == 100


def test_a_divergence_between_two_points_survives_a_stop(config, splits, tmp_path):
    config = override(config, {"optim.lr": 1e30})
    assert run(config, splits, tmp_path, **stop_at(2)).outcome == names.KILLED
    result = run(config, splits, tmp_path)
    assert (result.outcome, result.step) == (names.DIVERGED, 3)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_an_evaluation_that_is_not_finite(value, config, splits, tmp_path, monkeypatch):
    """Log refuses such a point: MLflow would keep an infinity as 1.8e308."""
    score = Score(loss=value, err=50.0, err5=None, correct=torch.tensor([True, False]))
    monkeypatch.setattr(scoring, "evaluate", lambda *args, **options: score)
    assert run(config, splits, tmp_path).outcome == names.DIVERGED


def test_one_micro_batch_is_none(config, splits, tmp_path):
    one = run(config, splits, tmp_path / "none")
    other = run(override(config, {"train.micro_batch": 8}), splits, tmp_path / "equal")
    assert_same_bits(one, other)
    assert errors(one) == errors(other)


@pytest.mark.parametrize("micro_batch", [2, 4])
def test_smaller_micro_batches_log_the_same_counts(micro_batch, config, splits, tmp_path):
    log, small = Log(), Log()
    one = run(config, splits, tmp_path / "one", log)
    other = run(override(config, {"train.micro_batch": micro_batch}), splits, tmp_path / "small", small)
    assert log.kept.keys() == small.kept.keys()
    assert [log.kept[s, names.LR] for s in (3, 6, 7)] == [small.kept[s, names.LR] for s in (3, 6, 7)]
    # The mean over the window, not the sum over its backward passes; before any step both see the same weights.
    assert small.kept[3, names.TRAIN_LOSS] == pytest.approx(log.kept[3, names.TRAIN_LOSS], rel=0.5)
    assert 0 <= small.kept[3, names.TRAIN_ERR] <= 100
    assert not torch.equal(one.network.head.weight, other.network.head.weight), "BatchNorm sees fewer images"


def test_weights_are_float32_in_both_precisions_and_differ(config, splits, tmp_path):
    results = [
        run(override(config, {"train.precision": p}), splits, tmp_path / p) for p in ("float32", "bf16")
    ]  # fmt: skip
    for result in results:
        assert result.outcome == names.FINISHED
        assert {p.dtype for p in result.network.parameters()} == {torch.float32}
    assert not torch.equal(*(r.network.head.weight for r in results))


@pytest.mark.parametrize(
    ("key", "value", "decides"),
    [
        ("train.threads", 3, False), ("train.evals", 9, False), ("data.root", "/elsewhere", False),
        ("data.download", True, False), ("train.steps", 8, True), ("train.precision", "bf16", True),
        ("train.channels_last", False, False), ("train.compile", True, False), ("train.kernels", "fused", False),
        ("train.graph", "on", False),
        ("seed", 5, True), ("optim.lr", 0.2, True),
    ],
)  # fmt: skip
def test_what_the_fingerprint_holds(key, value, decides, config):
    assert (fingerprint(override(config, {key: value}), "d") != fingerprint(config, "d")) is decides


@pytest.mark.parametrize(("seconds", "trained", "interval"), [
    (60.0, 0.0, 5.0), (60.0, 5.0, 5.0), (60.0, 10.0, 10.0), (60.0, 40.0, 40.0), (60.0, 3600.0, 60.0),
    (0.0, 10.0, 0.0), (math.inf, 10.0, math.inf),
])  # fmt: skip
def test_the_first_checkpoints_come_sooner(seconds, trained, interval, tmp_path):
    """A run of half a minute that is killed again and again must come to its end."""
    assert Checkpointing(tmp_path, seconds).interval(trained) == interval


def test_evaluations_do_not_change_the_weights(config, splits, tmp_path):
    """evals is outside the fingerprint."""
    one = run(config, splits, tmp_path / "three")
    assert_same_bits(one, run(override(config, {"train.evals": 7}), splits, tmp_path / "seven"))


@pytest.mark.parametrize("settings", [{}, {"train.kernels": "fused"}, {"train.precision": "bf16"}], ids=str)
def test_recomputing_changes_no_bit(settings, config, splits, tmp_path):
    """Nor the running statistics, although the norms see each batch twice."""
    config = override(config, settings)
    kept = run(config, splits, tmp_path / "kept")
    assert_same_bits(kept, run(override(config, {"train.recompute": True}), splits, tmp_path / "recomputed"))


def test_random_layers_of_a_user_follow_the_seed_through_stops_and_recomputing(config, splits, tmp_path):
    """Dropout draws from torch's own generator, whatever drew from it before."""

    def dropped(z):
        return F.dropout(torch.sigmoid(z), 0.5, torch.is_grad_enabled())

    with MASK_ACTIVATIONS.holding("dropped", dropped):
        config = override(config, {"model.mask_activation": "dropped"})
        torch.manual_seed(1)
        whole = run(config, splits, tmp_path / "whole")
        torch.manual_seed(2)
        assert_same_bits(whole, run(config, splits, tmp_path / "again"))
        assert run(config, splits, tmp_path / "stopped", **stop_at(4)).step == 4
        torch.manual_seed(3)
        assert_same_bits(whole, run(config, splits, tmp_path / "stopped"))
        assert_same_bits(whole, run(override(config, {"train.recompute": True}), splits, tmp_path / "recomputed"))
        other = run(replace(config, seed=1), splits, tmp_path / "other")
        assert not torch.equal(whole.network.head.weight, other.network.head.weight)


@pytest.mark.parametrize("settings", [{}, {"train.micro_batch": 4}, {"train.recompute": True}], ids=str)
def test_a_step_from_static_buffers_has_eagers_bits(settings, config, splits, tmp_path):
    """What a CUDA graph replays, called instead; continued after a stop, where a graph is captured anew."""
    config, log, graph_log = override(config, settings), Log(), Log()
    eager = run(config, splits, tmp_path / "eager", log)
    config = override(config, {"train.graph": "on"})
    assert run(config, splits, tmp_path / "graph", graph_log, **stop_at(4)).step == 4
    assert_same_bits(eager, run(config, splits, tmp_path / "graph", graph_log))
    assert graph_log.kept == log.kept


def test_threads_are_set(config, splits, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    run(override(config, {"train.threads": 2, "train.steps": 1}), splits, tmp_path)
    run(override(config, {"train.steps": 1}), splits, tmp_path / "none")
    assert given == [2], "without a number torch's own choice stays"


@pytest.mark.parametrize(("keep", "steps"), [(1, [7]), (2, [7, 6]), (None, [7, 6, 5, 4, 3, 2, 1])])
def test_how_many_checkpoints_stay(keep, steps, config, splits, tmp_path):
    run(config, splits, tmp_path, seconds=0, keep=keep)
    assert paths(tmp_path) == [path_of(tmp_path, step) for step in steps]


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(damaged, config, splits, tmp_path, caplog):
    whole_log, log = Log(), Log()
    whole = run(config, splits, tmp_path / "whole", whole_log)
    with pytest.raises(PowerCut):
        run(config, splits, tmp_path / "cut", log, seconds=0, on_step=die_at(6))
    log.waiting.clear()
    for path in paths(tmp_path / "cut")[:damaged]:
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    taken = []
    continued = run(config, splits, tmp_path / "cut", log, on_step=taken.append)
    assert taken[0] == (5 if damaged == 1 else 1), "from the checkpoint before, or afresh"
    assert [record.message.count("is damaged") for record in caplog.records] == [1] * damaged
    assert_same_bits(whole, continued)
    assert log.kept == whole_log.kept


def test_the_checkpoint_of_another_run_is_refused(config, splits, tmp_path):
    run(config, splits, tmp_path, **stop_at(2))
    with pytest.raises(CheckpointError, match=r"^\S*step-00000002\.safetensors is of another configuration"):
        run(config, splits, tmp_path, fingerprint="e" * 64)


def with_noise(splits):
    """The splits with every second training label wrong."""
    true = splits.train.labels
    wrong = torch.where(torch.arange(len(true)) % 2 == 0, (true + 1) % 3, true)
    noise = LabelNoise(true_labels=true, rate=50.0, digest="0" * 32)
    return replace(splits, train=replace(splits.train, labels=wrong), noise=noise)


def test_label_noise_is_logged_against_both_labels(config, splits, tmp_path):
    noisy, log = with_noise(splits), Log()
    result = run(config, noisy, tmp_path, log)
    assert log.kept[0, names.NOISE_RATE] == 50.0
    steps = sorted(step for step, key in log.kept if key == names.TRAIN_ERR_CLEAN)
    assert steps == sorted(step for step, key in log.kept if key == names.TRAIN_ERR)
    assert any(log.kept[s, names.TRAIN_ERR] != log.kept[s, names.TRAIN_ERR_CLEAN] for s in steps)
    # The final ones, from the finished network itself.
    with torch.no_grad():
        predicted = result.network.eval()(noisy.normalization.normalize(noisy.train.images)).argmax(1)
    given, true = noisy.train.labels, noisy.noise.true_labels
    expected = [(predicted != given), (predicted != true), (predicted == given)[given != true]]
    found = [result.metrics[key] for key in (names.FINAL_TRAIN_ERR, names.FINAL_TRAIN_ERR_CLEAN, names.FINAL_MEMORISED)]
    assert found == pytest.approx([100 * hits.double().mean().item() for hits in expected])


def test_the_true_labels_change_nothing_but_the_log(config, splits, tmp_path):
    noisy = with_noise(splits)
    one = run(config, noisy, tmp_path / "known")
    other = run(config, replace(noisy, noise=None), tmp_path / "unknown")
    assert_same_bits(one, other)


@pytest.mark.parametrize("step", [0, 1, 4])
def test_a_noisy_run_that_was_stopped_ends_alike(step, config, splits, tmp_path):
    noisy, whole, parts = with_noise(splits), Log(), Log()
    one = run(config, noisy, tmp_path / "whole", whole)
    run(config, noisy, tmp_path / "parts", parts, **stop_at(step))
    other = run(config, noisy, tmp_path / "parts", parts)
    assert_same_bits(one, other)
    assert parts.kept == whole.kept
    assert parts.again == 0
