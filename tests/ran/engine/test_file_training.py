"""Runs on images that lie in files: the same bits after a stop, with any workers and as if the images lay in memory."""

import math
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ran.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig, override
from ran.data.datasets import Splits, load_splits, open_source
from ran.data.image_folder import decode
from ran.data.image_folder.pools import set_workers
from ran.data.source import Images
from ran.distributed.group import ALONE, AbandonedError, abort_on_error
from ran.engine import evaluate as evaluation
from ran.engine.device import Arithmetic
from ran.engine.evaluate import Stopped, evaluate, predict
from ran.engine.throughput import seconds_to_read
from ran.engine.train import Checkpointing, Result, TrainHooks, train
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from ran.probe import receptive_field, soft_masks, stage_responses
from records import names
from records.errors import DataError

FLOAT32 = Arithmetic()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three classes, 7 + 3 JPEGs of each, of 9 to 40 pixels a side."""
    root, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 3)):
        for name in ("a", "b", "c"):
            folder = root / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                width, height = rng.integers(9, 41, 2)
                pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}{i}.jpg")
    return root


@pytest.fixture
def config(root):
    return RunConfig(
        ModelConfig("tiny"),
        DataConfig("imagenet", root=str(root), image_size=8, test_size=12, val_images=4),
        OptimConfig(lr=0.02, schedule="one_cycle"),
        TrainConfig(steps=7, batch_size=8, micro_batch=4, precision="float32", evals=3),
    )


@pytest.fixture(autouse=True)
def _own_workers():
    yield
    set_workers(None)


def in_memory(splits: Splits) -> Splits:
    """The same, what is evaluated lying in memory."""
    val, test = (Images(part.images.read(), part.labels) for part in (splits.val, splits.test))
    return replace(splits, val=val, test=test)


def run(config, folder, splits=None, processes=ALONE, points=None, **options) -> Result:
    def log(step, values):
        if points is not None:
            points.update({(step, key): value for key, value in values.items()})

    num_classes = options.pop("num_classes", 3)
    return train(
        config, splits or load_splits(config.data, config.seed), TrainHooks(log=log, **options),
        num_classes=num_classes, fingerprint="f" * 64, device=torch.device("cpu"), checkpoints=Checkpointing(folder),
        processes=processes,
    )  # fmt: skip


def stop_at(step):
    taken = [0]
    return {"on_step": lambda done: taken.__setitem__(0, done), "stop": lambda: taken[0] == step}


def assert_same(one: Result, other: Result) -> None:
    a, b = one.network.state_dict(), other.network.state_dict()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []
    for key in one.metrics.keys() | other.metrics.keys():
        assert key.startswith("cost_") or one.metrics[key] == other.metrics[key]


@pytest.mark.slow
def test_stopped_at_every_step_and_continued(config, tmp_path):
    """Three passes over the images: the batches of a step span two of them."""
    whole_points = {}
    whole = run(config, tmp_path / "whole", points=whole_points)
    assert whole.outcome == names.FINISHED
    for step in (1, 4):
        points = {}
        assert run(config, tmp_path / str(step), points=points, **stop_at(step)).step == step
        assert_same(run(config, tmp_path / str(step), points=points), whole)
        assert points == whole_points
    for step in range(7):
        assert run(config, tmp_path / "bits", **stop_at(step)).step == step
    assert_same(run(config, tmp_path / "bits"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers(workers, config, tmp_path):
    one = run(config, tmp_path / "one")
    assert_same(run(override(config, {"data.workers": workers}), tmp_path / "many"), one)


def test_another_seed_sees_other_crops(config, tmp_path):
    one, other = (run(replace(config, seed=seed), tmp_path / str(seed)) for seed in (0, 1))
    assert not torch.equal(one.network.head.weight, other.network.head.weight)


def test_evaluated_from_files_as_from_memory(config, tmp_path):
    points, in_ = {}, {}
    from_files = run(config, tmp_path / "files", points=points)
    from_memory = run(config, tmp_path / "memory", in_memory(load_splits(config.data, 0)), points=in_)
    assert_same(from_files, from_memory)
    assert points == in_


@pytest.mark.parametrize("batch", [1, 2, 4, 9, 200])
@pytest.mark.parametrize("side", [8, 12, 17])
def test_any_part_of_the_images_is_evaluated_alike(side, batch, config, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH", batch)
    splits = load_splits(replace(config.data, test_size=side), 0)
    network = build(config_spec(config.model), num_classes=3)
    initialize(network, 0)
    test = splits.test
    scores = [
        evaluate(network, images, test.labels, splits.normalization, FLOAT32)
        for images in (test.images, test.images.read())
    ]
    assert scores[0] == scores[1]
    assert predict(network, test.images, splits.normalization, FLOAT32).shape == (9, 3)


def test_an_evaluation_can_be_stopped(config, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH", 2)
    splits, asked = load_splits(config.data, 0), []
    network = build(config_spec(config.model), num_classes=3)
    with pytest.raises(Stopped):
        predict(
            network, splits.test.images, splits.normalization, FLOAT32, stop=lambda: asked.append(1) or len(asked) == 3
        )
    predict(network, splits.test.images, splits.normalization, FLOAT32, stop=lambda: bool(asked.append(1)))
    assert len(asked) == 3 + 5


def test_a_network_is_probed_on_files_as_on_images(config):
    splits = load_splits(config.data, 0)
    network = build(config_spec(config.model), num_classes=3)
    initialize(network, 0)
    files, images = splits.test.images, splits.test.images.read()
    found = [stage_responses(network, x, splits.normalization, batch=4) for x in (files, images)]
    assert found[0] == found[1]
    fields = [receptive_field(network, x, splits.normalization, "stages.0", batch=4).gradient for x in (files, images)]
    assert torch.equal(*fields)
    assert soft_masks(network, images, splits.normalization)


def test_label_noise_is_judged_by_the_middle_of_training_images(config, tmp_path):
    config = override(config, {"data.noise": 0.5, "data.val_images": 0})
    splits = load_splits(config.data, 0)
    result = run(config, tmp_path, splits)
    logits = predict(result.network, splits.train.images.read(), splits.normalization, FLOAT32)
    wrong = 100 * (logits.argmax(1) != splits.train.labels).double().mean().item()
    assert result.metrics[names.FINAL_TRAIN_ERR] == pytest.approx(wrong)
    assert not torch.equal(splits.train.labels, splits.noise.true_labels)


def test_a_damaged_file_ends_a_run_with_its_name(config, root, tmp_path):
    path = root / "imagenet" / "train" / "b" / "b2.jpg"
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(len(content) - 400))
    try:
        with pytest.raises(DataError, match=r"train/b/b2\.jpg: not an image that can be read"):
            run(config, tmp_path)
    finally:
        path.write_bytes(content)
    assert run(config, tmp_path).outcome == names.FINISHED


def test_images_in_files_reach_a_step_from_static_buffers(config, tmp_path):
    """As a CUDA graph reads them."""
    states = [
        run(override(config, {"train.graph": graph}), tmp_path / graph).network.state_dict() for graph in ("off", "on")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_how_long_reading_takes(config, root, monkeypatch):
    original = decode.centre

    def slowly(*arguments):
        time.sleep(0.01)
        return original(*arguments)

    monkeypatch.setattr(decode, "centre", slowly)
    for workers in (1, 4):
        set_workers(workers)
        assert 0.01 / workers <= seconds_to_read(open_source(config.data)) < 1
    assert seconds_to_read(open_source(DataConfig("cluttershapes"))) == 0


# Classes
def test_a_folder_of_more_classes_than_the_network_is_refused(config, tmp_path):
    with pytest.raises(DataError, match="a label of 2 needs 3 classes or more and the network has 2"):
        run(config, tmp_path, num_classes=2)
    splits = load_splits(config.data, 0)
    for images in (splits.test.images, splits.test.images.read()):
        with pytest.raises(DataError, match="the network has 2"):
            evaluate(
                build(config_spec(config.model), num_classes=2),
                images,
                splits.test.labels,
                splits.normalization,
                FLOAT32,
            )
    many = build(config_spec(config.model), num_classes=5)
    assert math.isfinite(evaluate(many, splits.test.images, splits.test.labels, splits.normalization, FLOAT32).loss)


# Several processes
def take_part(processes, config, folder):
    points = {}
    result = run(config, folder, processes=processes, points=points)
    return result.metrics, points, {key: value.clone() for key, value in result.network.state_dict().items()}


@pytest.mark.slow
def test_two_processes_train_and_test_as_one(config, crew, tmp_path):
    """Two micro-batches, which each takes one of; a + b has the bits of b + a."""
    points = {}
    one = run(config, tmp_path / "one", points=points)
    first, second = crew(2, take_part, config, tmp_path / "two")
    assert first[0][names.FINAL_TEST_ERR] == second[0][names.FINAL_TEST_ERR]
    assert first[1].keys() == points.keys()
    losses = [key for key in points if key[1] == names.TRAIN_LOSS]
    assert [first[1][key] for key in losses] == pytest.approx([points[key] for key in losses], abs=1e-5)
    for key, value in one.network.state_dict().items():
        torch.testing.assert_close(first[2][key], value, rtol=1e-4, atol=1e-4)
        assert torch.equal(first[2][key], second[2][key])


def fall_out(processes, config, folder):
    with abort_on_error(processes):
        return take_part(processes, config, folder)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_file_that_one_process_reads_ends_the_run_of_all(split, config, root, crew, tmp_path):
    shutil.copytree(root / "imagenet", tmp_path / "imagenet")
    paths = sorted((tmp_path / "imagenet" / split).rglob("*.jpg"))
    paths[4].write_bytes(b"no image")
    config = override(config, {"data.root": str(tmp_path), "data.val_images": 0})
    answers = crew(2, fall_out, config, tmp_path / "run")
    assert {type(answer) for answer in answers} == {AbandonedError, DataError}
    assert all(f"{paths[4]}: not an image that can be read" in str(answer) for answer in answers)


def share_of_test(processes, config, batch):
    splits = load_splits(config.data, 0)
    network = build(config_spec(config.model), num_classes=3)
    initialize(network, 0)
    evaluation.BATCH = batch
    try:
        stop = processes.synced_stop(lambda: False)  # which all must ask equally often
        return predict(network, splits.test.images, splits.normalization, FLOAT32, processes=processes, stop=stop)
    finally:
        evaluation.BATCH = 200


@pytest.mark.parametrize("batch", [1, 2, 200])
def test_two_processes_share_out_the_files_of_a_test(batch, config, crew):
    alone = share_of_test(ALONE, config, batch)
    for found in crew(2, share_of_test, config, batch):
        torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-6)
