"""Checkpoints: whole or not at all, of this run or refused in one line, and never a pickle."""

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ran import tensor_file
from ran.config import override
from ran.engine import checkpoint
from ran.engine.checkpoint import (
    CheckpointError,
    Header,
    check_owner,
    load,
    newest,
    path_of,
    paths,
    read_header,
    save,
)
from ran.engine.optim import sgd
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from ran.tensor_file import DamagedError, read_metadata, read_tensors, write_tensors
from records.files import WriteError

PRINT = "a" * 64


class Runs:
    """Pickled, it is a call of os.mkdir."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class State:
    """A network after one step, with its momentum and an open window."""

    def __init__(self, config, seed=0):
        self.network = build(config_spec(config.model), num_classes=3).to(memory_format=torch.channels_last)
        initialize(self.network, seed)
        self.optimizer = sgd(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0)
        self.window = {"loss": torch.tensor(1.5), "wrong": torch.tensor(3.0)}

    def step(self):
        images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.network(images).logsumexp(1).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return self

    def parts(self):
        return self.network, self.optimizer, self.window

    def tensors(self):
        momentum = [self.optimizer.state[p].get("momentum_buffer") for p in self.network.parameters()]
        return [*self.network.state_dict().values(), *momentum, *self.window.values()]


@pytest.fixture
def state(config):
    return State(config).step()


@pytest.fixture
def folder(tmp_path, state):
    """A run's folder with one checkpoint, of step 3."""
    save(tmp_path / "run", Header(PRINT, 3, 12.5), *state.parts())
    return tmp_path / "run"


@pytest.fixture
def path(folder):
    return path_of(folder, 3)


def passed_over(path, config, caplog):
    """Loads, and asserts that the damaged file was passed over with one warning and without touching the state."""
    other = State(config, seed=1).step()
    before = [value.clone() for value in other.tensors()]
    caplog.clear()
    assert load(path.parent, PRINT, *other.parts()) is None
    (message,) = caplog.messages
    assert message.startswith(f"{path} is damaged")
    assert "\n" not in message
    assert all(torch.equal(a, b) for a, b in zip(before, other.tensors(), strict=True))
    return message


def refusal(path, config, print_=PRINT):
    with pytest.raises(CheckpointError) as caught:
        load(path.parent, print_, *State(config).parts())
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    "header", [Header(PRINT, 3, 12.5), Header(PRINT, 3, 12.5, evaluation_due=True, cpu_seconds=6.25)]
)
def test_what_was_saved_comes_back(header, folder, config, state):
    save(folder, header, *state.parts())
    other = State(config, seed=1)
    assert load(folder, PRINT, *other.parts()) == header == newest(folder, PRINT)
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), other.tensors(), strict=True))
    for parameter in other.network.parameters():
        assert other.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_without_one_there_is_nothing_to_load(tmp_path, config):
    assert newest(tmp_path / "nowhere", PRINT) is None
    assert load(tmp_path / "nowhere", PRINT, *State(config).parts()) is None


def test_before_the_first_step_there_is_no_momentum(tmp_path, config):
    save(tmp_path, Header(PRINT, 0, 0.0), *State(config).parts())
    other = State(config, seed=1)
    assert load(tmp_path, PRINT, *other.parts()).step == 0
    assert len(other.optimizer.state) == 0


@pytest.mark.parametrize(("keep", "steps"), [(1, [12]), (2, [12, 10]), (None, [12, 10, 9, 3])])
def test_the_last_ones_stay(keep, steps, folder, state):
    for step in (9, 10, 12):
        save(folder, Header(PRINT, step, 1.0), *state.parts(), keep)
    assert paths(folder) == [path_of(folder, step) for step in steps]
    assert newest(folder, PRINT).step == 12


def test_steps_are_ordered_as_numbers(tmp_path, state):
    for step in (100_000_000, 99_999_999):
        save(tmp_path, Header(PRINT, step, 1.0), *state.parts(), None)
    assert newest(tmp_path, PRINT).step == 100_000_000


def crash(*args, **options):
    raise OSError(28, "No space left on device")


class HalfAFile:
    """A file on a disk that is full after ten bytes."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def write(self, content):
        self.file.write(content[:10])
        crash()


@pytest.mark.parametrize(("where", "how"), [
    ("records.files.os.replace", crash),
    ("records.files.os.fsync", crash),
    ("builtins.open", crash),
    ("builtins.open", lambda path, mode, real=open, **options: HalfAFile(real(path, mode, **options))),
], ids=["replace", "fsync", "open", "write"])  # fmt: skip
def test_a_crash_while_writing_leaves_the_old_one(where, how, path, config, state, monkeypatch):
    before = path.read_bytes()
    state.step()
    with monkeypatch.context() as patch:
        patch.setattr(where, how)
        with pytest.raises(WriteError, match=r"^cannot write \S*step-00000004.safetensors: No space left on device$"):
            save(path.parent, Header(PRINT, 4, 13.0), *state.parts())
    assert path.read_bytes() == before
    assert path in path.parent.iterdir()
    assert not list(path.parent.glob(".*")), "no temporary file is left"
    save(path.parent, Header(PRINT, 4, 13.0), *state.parts())
    assert newest(path.parent, PRINT).step == 4


def test_what_a_killed_process_left_half_written_is_swept_away(path, state, config):
    (path.parent / f".{path.name}.123.tmp").write_bytes(b"half")
    assert load(path.parent, PRINT, *State(config).parts()).step == 3
    save(path.parent, Header(PRINT, 4, 13.0), *state.parts())
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated(share, path, config, caplog):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    passed_over(path, config, caplog)


@pytest.mark.parametrize("offset", [0, 4, 9, 40])
def test_garbage_in_the_head(offset, path, config, caplog):
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = b"\xff\x00\xfe\x7f"
    path.write_bytes(content)
    passed_over(path, config, caplog)


@pytest.mark.slow
def test_any_bit_flipped_is_noticed(path):
    """Each bit of the first 40 bytes of the head, and one of every 397th byte of all."""
    content = path.read_bytes()
    read_tensors(path)
    spots = [(byte, bit) for byte in range(8, 48) for bit in range(8)]
    spots += [(byte, byte % 8) for byte in range(48, len(content), 397)]
    for byte, bit in spots:
        flipped = bytearray(content)
        flipped[byte] ^= 1 << bit
        path.write_bytes(flipped)
        with pytest.raises(DamagedError):
            read_tensors(path)


def test_the_one_before_is_used(path, config, state, caplog):
    before = State(config).step().step()
    save(path.parent, Header(PRINT, 5, 13.0), *state.parts())
    save(path.parent, Header(PRINT, 4, 13.0), *before.parts())
    newer = path_of(path.parent, 5)
    content = bytearray(newer.read_bytes())
    content[-1] ^= 1
    newer.write_bytes(content)
    other = State(config, seed=1)
    assert load(path.parent, PRINT, *other.parts()).step == 4
    assert all(torch.equal(a, b) for a, b in zip(before.tensors(), other.tensors(), strict=True))
    (message,) = caplog.messages
    assert message.startswith(f"{newer} is damaged")


def test_garbage_and_other_kinds_of_files(path, config, caplog):
    for content in (b"\x00" * 64, os.urandom(4096), b"not a checkpoint\n", b"{}"):
        path.write_bytes(content)
        passed_over(path, config, caplog)


def test_a_folder_in_its_place(path, config, caplog):
    path.unlink()
    path.mkdir()
    passed_over(path, config, caplog)


# Files of the layout before, with an entry for each field of the metadata


def test_a_checkpoint_of_the_layout_before_is_read(path, config, state):
    head = read_metadata(path) | {"format": "ran-checkpoint-2"}
    del head["sha256"], head["cpu_seconds"]
    tensors = load_file(path)
    save_file(tensors, path, head | {"sha256": tensor_file._digest(tensors, head)})
    other = State(config, seed=1)
    assert load(path.parent, PRINT, *other.parts()) == Header(PRINT, 3, 12.5)
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), other.tensors(), strict=True))


def test_metadata_that_are_no_object(path, config, caplog):
    for content in ("[]", "3", "{", ""):
        save_file(load_file(path), path, {"ran": content})
        passed_over(path, config, caplog)


def test_a_foreign_safetensors_file(path, config):
    save_file({"weight": torch.zeros(2)}, path)
    assert "not a checkpoint of this version" in refusal(path, config)
    save_file({"weight": torch.zeros(2)}, path, {"format": "somebody-else-2"})
    assert "not a checkpoint of this version" in refusal(path, config)


def test_another_configuration(path, config):
    message = refusal(path, config, "b" * 64)
    assert PRINT[:12] in message
    assert "b" * 12 in message
    with pytest.raises(CheckpointError):
        check_owner(path, read_header(path), "b" * 64)
    with pytest.raises(CheckpointError):
        newest(path.parent, "b" * 64)


def rewrite(path, change, **metadata):
    """Writes the file anew, whole, as a program would whose networks are others."""
    tensors = load_file(path)
    change(tensors)
    head = {"format": "ran-checkpoint-3", "fingerprint": PRINT, "step": "3", "seconds": "1", "evaluation_due": "False"}
    write_tensors(path, tensors, head | metadata)


@pytest.mark.parametrize("change", [
    lambda t: t.pop("network.stem.weight"),
    lambda t: t.pop("optimizer.momentum_buffer.stem.weight"),
    lambda t: t.pop("window.loss"),
    lambda t: t.update({"network.stem.weight": torch.zeros(7)}),
    lambda t: t.update({"optimizer.momentum_buffer.stem.weight": torch.zeros(7)}),
    lambda t: t.update({"elsewhere.weight": torch.zeros(7)}),
    lambda t: t.update({"network.more": torch.zeros(7)}),
], ids=range(7))  # fmt: skip
def test_tensors_that_do_not_fit(change, path, config):
    rewrite(path, change)
    assert "does not fit" in refusal(path, config)


@pytest.mark.parametrize("metadata", [{"step": "three"}, {"step": ""}, {"seconds": "long"}])
def test_a_head_that_says_nonsense(metadata, path, config, caplog):
    rewrite(path, lambda tensors: None, **metadata)
    passed_over(path, config, caplog)


def test_no_pickle_is_ever_read(path, config, tmp_path, caplog):
    bait = tmp_path / "code-was-run"
    for write in (lambda: torch.save(Runs(bait), path), lambda: path.write_bytes(pickle.dumps(Runs(bait)))):
        write()
        passed_over(path, config, caplog)
    payload = pickle.dumps(Runs(bait))
    head = json.dumps({"x": {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + payload)
    refusal(path, config)
    assert not bait.exists()
    pickle.loads(payload)
    assert bait.exists(), "the bait would have worked"


def test_nothing_here_can_read_a_pickle():
    for module in (checkpoint, tensor_file):
        source = Path(module.__file__).read_text()
        assert "torch.load" not in source
        assert "pickle" not in source


def test_another_network_of_the_same_fingerprint_does_not_fit(path, config):
    wider = override(config, {"model.width": 2.0})
    with pytest.raises(CheckpointError, match="does not fit"):
        load(path.parent, PRINT, *State(wider).parts())
