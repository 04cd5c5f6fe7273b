"""Checkpoints: whole or not at all, of this run or refused in one line, and never a pickle."""

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ran.config import override
from ran.engine import checkpoint
from ran.engine.checkpoint import NAME, CheckpointError, Header, check_owner, load, read_header, save
from ran.engine.optim import sgd
from ran.models.network import build, initialize
from ran.models.zoo import config_spec

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
def path(tmp_path, state):
    path = tmp_path / "run" / NAME
    save(path, Header(PRINT, 3, 12.5), *state.parts())
    return path


def refusal(path, config, print_=PRINT):
    with pytest.raises(CheckpointError) as caught:
        load(path, print_, *State(config).parts())
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_was_saved_comes_back(path, config, state):
    other = State(config, seed=1)
    assert load(path, PRINT, *other.parts()) == Header(PRINT, 3, 12.5) == read_header(path)
    assert all(torch.equal(a, b) for a, b in zip(state.tensors(), other.tensors(), strict=True))
    for parameter in other.network.parameters():
        assert other.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_before_the_first_step_there_is_no_momentum(tmp_path, config):
    save(tmp_path / NAME, Header(PRINT, 0, 0.0), *State(config).parts())
    other = State(config, seed=1)
    assert load(tmp_path / NAME, PRINT, *other.parts()).step == 0
    assert len(other.optimizer.state) == 0


def crash(*args, **options):
    raise OSError(28, "No space left on device")


def crash_half_way(tensors, path, metadata):
    path.write_bytes(b"half a file")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("where", "how"), [
    ("ran.engine.checkpoint.os.replace", crash),
    ("ran.engine.checkpoint.os.fsync", crash),
    ("ran.engine.checkpoint.save_file", crash),
    ("ran.engine.checkpoint.save_file", crash_half_way),
])  # fmt: skip
def test_a_crash_while_writing_leaves_the_old_one(where, how, path, config, state, monkeypatch):
    before = path.read_bytes()
    state.step()
    with monkeypatch.context() as patch:
        patch.setattr(where, how)
        with pytest.raises(OSError, match="No space left"):
            save(path, Header(PRINT, 4, 13.0), *state.parts())
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [NAME], "no temporary file is left"
    save(path, Header(PRINT, 4, 13.0), *state.parts())
    assert read_header(path).step == 4


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated(share, path, config):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(path, config)


@pytest.mark.parametrize("offset", [0, 4, 9, 40])
def test_garbage_in_the_head(offset, path, config):
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = b"\xff\x00\xfe\x7f"
    path.write_bytes(content)
    refusal(path, config)


def test_garbage_and_other_kinds_of_files(path, config):
    for content in (b"\x00" * 64, os.urandom(4096), b"not a checkpoint\n", b"{}"):
        path.write_bytes(content)
        assert "damaged" in refusal(path, config)


def test_a_folder_in_its_place(path, config):
    path.unlink()
    path.mkdir()
    assert "damaged" in refusal(path, config)


def test_a_foreign_safetensors_file(path, config):
    save_file({"weight": torch.zeros(2)}, path)
    assert "no checkpoint of this program" in refusal(path, config)
    save_file({"weight": torch.zeros(2)}, path, {"format": "somebody-else-2"})
    assert "no checkpoint of this program" in refusal(path, config)


def test_another_configuration(path, config):
    message = refusal(path, config, "b" * 64)
    assert PRINT[:12] in message
    assert "b" * 12 in message
    with pytest.raises(CheckpointError):
        check_owner(path, read_header(path), "b" * 64)


def rewrite(path, change, **metadata):
    tensors = load_file(path)
    change(tensors)
    save_file(
        tensors, path, {"format": "ran-checkpoint-1", "fingerprint": PRINT, "step": "3", "seconds": "1"} | metadata
    )


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
    assert "damaged" in refusal(path, config)


@pytest.mark.parametrize("metadata", [{"step": "three"}, {"step": ""}, {"seconds": "long"}])
def test_a_head_that_says_nonsense(metadata, path, config):
    rewrite(path, lambda tensors: None, **metadata)
    assert "damaged" in refusal(path, config)


def test_no_pickle_is_ever_read(path, config, tmp_path):
    bait = tmp_path / "code-was-run"
    for write in (lambda: torch.save(Runs(bait), path), lambda: path.write_bytes(pickle.dumps(Runs(bait)))):
        write()
        assert "damaged" in refusal(path, config)
    payload = pickle.dumps(Runs(bait))
    head = json.dumps({"x": {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + payload)
    refusal(path, config)
    assert not bait.exists()
    pickle.loads(payload)
    assert bait.exists(), "the bait would have worked"


def test_nothing_here_can_read_a_pickle():
    source = Path(checkpoint.__file__).read_text()
    assert "torch.load" not in source
    assert "pickle" not in source


def test_another_network_of_the_same_fingerprint_is_damage(path, config):
    wider = override(config, {"model.width": 2.0})
    with pytest.raises(CheckpointError, match="damaged"):
        load(path, PRINT, *State(wider).parts())
