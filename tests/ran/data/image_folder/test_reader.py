"""Batches of images that lie in files: the same bits whoever decodes them, whenever, and for whichever process."""

import functools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ran.data.augment import Normalization
from ran.data.image_folder import decode, pools, reader
from ran.data.image_folder.dataset import imagenet_normalization
from ran.data.image_folder.pools import set_workers
from ran.data.image_folder.random_crops import draw, pca_colour_jitter
from ran.data.image_folder.reader import AHEAD, Files, loaded
from ran.data.loader import FileBatches, TrainBatches, chunks, train_batches
from ran.rng import stream
from records.errors import DataError

COUNT, SIDE, BATCH = 11, 16, 4


@pytest.fixture(autouse=True)
def _own_workers():
    yield
    set_workers(None)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """JPEGs of 20 to 90 pixels a side, large enough for some to be decoded at half their size."""
    folder, rng = tmp_path_factory.mktemp("stack"), np.random.default_rng(0)
    for i in range(COUNT):
        width, height = rng.integers(20, 91, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return Files(folder, tuple(f"{i}.jpg" for i in range(COUNT)), SIDE, 7 / 8)


def batches(stack, seed=0):
    return FileBatches(stack, torch.arange(COUNT), imagenet_normalization(), batch_size=BATCH, seed=seed)


def walk(made, steps, positions=None):
    return [made(step, positions) for step in range(steps)]


def same(one, other):
    return all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


# A stack
def test_a_stack_is_taken_apart_as_a_tensor_is(stack):
    whole = stack.read()
    assert whole.shape == stack.shape == (COUNT, 3, SIDE, SIDE)
    assert whole.is_contiguous(memory_format=torch.channels_last)
    for chosen in (slice(None), slice(3), slice(2, 9, 3), [4, 0], np.array([7, 7]), torch.tensor([10, 1])):
        assert torch.equal(stack[chosen].read(), whole[chosen])
    for size in (1, 4, 11, 50):
        parts = list(stack.split(size))
        assert [len(part) for part in parts] == [len(part) for part in whole.split(size)]
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(loaded(stack), loaded(whole))
    assert torch.equal(torch.cat(list(chunks(stack, 3))), whole)


def test_each_image_is_the_centre_of_its_file(stack):
    for i, image in enumerate(stack.read()):
        expected = decode.centre(str(stack.folder / f"{i}.jpg"), SIDE, 7 / 8)
        assert np.array_equal(image.permute(1, 2, 0), expected)


# Batches
def test_a_batch_is_the_drawn_crops_flipped_and_lit(stack):
    made = batches(stack, seed=3)
    flips = 0
    for step in range(5):
        images, labels = made(step)
        draws = draw(stream(3, "augment", step), BATCH)
        for k, i in enumerate(labels.tolist()):
            crop = decode.crop(str(stack.folder / f"{i}.jpg"), SIDE, lambda w, h, k=k, d=draws: d.box(k, w, h))
            crop = torch.from_numpy(crop.copy()).permute(2, 0, 1)
            expected = crop.flip(-1) if draws.flips[k] else crop
            assert torch.equal(
                images[k],
                pca_colour_jitter(expected[None], draws.colour_factors[k : k + 1], imagenet_normalization())[0],
            )
            flips += int(draws.flips[k])
        assert images.is_contiguous(memory_format=torch.channels_last)
    assert 0 < flips < 5 * BATCH


def test_order_is_that_of_images_in_memory(stack):
    in_memory = TrainBatches(
        stack.read(), torch.arange(COUNT), Normalization(torch.zeros(3, 1, 1), 1, pad=0), batch_size=BATCH, seed=5
    )
    for one, other in zip(walk(batches(stack, 5), 6), walk(in_memory, 6), strict=True):
        assert torch.equal(one[1], other[1])
        assert one[0].shape == other[0].shape


def test_where_images_lie_decides_how_they_are_read(stack):
    made = [
        train_batches(s, torch.arange(COUNT), imagenet_normalization(), batch_size=2, seed=0)
        for s in (stack, stack.read())
    ]
    assert [type(m) for m in made] == [FileBatches, TrainBatches]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers_makes_the_same_bits(workers, stack):
    expected = walk(batches(stack), 5)
    set_workers(workers)
    assert pools.pool()._max_workers == workers
    assert same(expected, walk(batches(stack), 5))


def test_processes_make_the_same_bits(stack):
    """Those that decode where CUDA trains; what they raise, a damaged file, is raised here."""
    expected, whole = walk(batches(stack), 3), stack.read()
    set_workers(2, processes=True)
    assert same(expected, walk(batches(stack), 3))
    some = np.array([2, 0])
    assert torch.equal(batches(stack)(1, some)[0], expected[1][0][some])
    assert torch.equal(stack.read(), whole)
    with pytest.raises(DataError, match=r"absent\.jpg: not an image that can be read"):
        Files(stack.folder, (*stack.names, "absent.jpg"), SIDE, 7 / 8).read()


def test_a_process_that_dies_fails_its_reading_and_not_the_next(stack):
    set_workers(1, processes=True)
    dying = reader.Reading([functools.partial(os._exit, 1)], SIDE)
    with pytest.raises(BrokenProcessPool):
        dying.wait()
    assert len(stack.read()) == COUNT


@pytest.mark.slow
def test_processes_end_with_the_one_that_trains(tmp_path):
    """Even if it is killed, and cannot tell them."""
    script = """
import os, signal
from ran.data.image_folder import pools

if __name__ == "__main__":
    pools.set_workers(1, processes=True)
    print(pools.process_pool().submit(os.getpid).result(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "script.py").write_text(script)
    said = subprocess.run([sys.executable, tmp_path / "script.py"], stdout=subprocess.PIPE, text=True).stdout
    end = time.monotonic() + 30
    while psutil.pid_exists(int(said)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(int(said))


def test_workers_are_the_cores_of_this_process(monkeypatch):
    monkeypatch.setattr(pools.os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    assert pools._cores() == 12
    for beside, cores in (("5", 2), ("40", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", beside)
        assert pools._cores() == cores
    monkeypatch.setattr(pools, "_share", None)
    pools.set_share(3)  # of a worker with others beside it
    assert pools.workers() == 3


def test_jumping_to_a_step_is_walking_there(stack):
    walked = walk(batches(stack), 9)
    made = batches(stack)
    for step in (5, 6, 2, 8, 8, 0, 1):
        assert same([made(step)], [walked[step]])


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_shares_of_processes_are_the_whole_batch(world, stack):
    whole = walk(batches(stack), 4)
    shares = [np.arange(BATCH)[rank::world] for rank in range(world)]
    found = [walk(batches(stack), 4, share) for share in shares]
    for step, (images, labels) in enumerate(whole):
        for share, made in zip(shares, found, strict=True):
            assert torch.equal(made[step][0], images[share])
            assert torch.equal(made[step][1], labels[share])


def test_a_process_reads_only_its_share(stack, monkeypatch):
    read, crop = [], decode.crop
    monkeypatch.setattr(decode, "crop", lambda path, *args: read.append(path) or crop(path, *args))
    made = batches(stack)
    made(0, np.array([1]))
    end = time.monotonic() + 60
    while len(read) < 1 + AHEAD and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)  # for one too many to be seen
    assert len(read) == 1 + AHEAD


# Ahead
def test_the_following_steps_are_read_meanwhile(stack, monkeypatch):
    read, crop = [], decode.crop
    monkeypatch.setattr(decode, "crop", lambda path, *args: read.append(path) or crop(path, *args))
    made = batches(stack)
    assert AHEAD >= 1
    for step in range(3):
        made(step)
        end = time.monotonic() + 60
        while len(read) < (step + 1 + AHEAD) * BATCH and time.monotonic() < end:
            time.sleep(0.01)
        assert len(read) == (step + 1 + AHEAD) * BATCH


def test_what_is_dropped_is_not_read_on(stack, monkeypatch):
    """One worker stands still; what had not begun when its reader went is never begun."""
    set_workers(1)
    begun, go, crop = [], threading.Event(), decode.crop

    def slow(path, *args):
        begun.append(path)
        if len(begun) > BATCH:
            go.wait(10)
        return crop(path, *args)

    monkeypatch.setattr(decode, "crop", slow)
    made = batches(stack)
    made(0)
    del made
    go.set()
    pools.pool().submit(lambda: None).result()
    assert len(begun) <= BATCH + 2


def test_a_damaged_file_is_named_when_its_step_comes(stack, tmp_path):
    for name in stack.names:
        (tmp_path / name).write_bytes((stack.folder / name).read_bytes())
    made = FileBatches(
        Files(tmp_path, stack.names, SIDE, 7 / 8),
        torch.arange(COUNT),
        imagenet_normalization(),
        batch_size=BATCH,
        seed=0,
    )
    bad = made.indices(1)[2]
    (tmp_path / f"{bad}.jpg").write_bytes(b"no image")
    first = made(0)[1]
    assert bad not in first
    for _ in range(2):
        with pytest.raises(DataError, match=rf"{bad}\.jpg: not an image that can be read"):
            made(1)
    (tmp_path / f"{bad}.jpg").write_bytes((stack.folder / f"{bad}.jpg").read_bytes())
    assert same([made(1)], [batches(stack)(1)])
