"""Files of tensors: equal contents are equal bytes, and a change of any is noticed."""

import hashlib
import os
import struct
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ran.config import ModelConfig
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from ran.tensor_file import DamagedError, read_metadata, read_tensors, tensors_sha256, write_tensors

HEAD = {"format": "x", "fingerprint": "a" * 64, "step": "3", "seconds": "1.5", "evaluation_due": "False"}


def test_equal_contents_are_equal_bytes_however_often_they_are_written(tmp_path):
    """With several entries of metadata, safetensors draws their order for each file."""
    network = build(config_spec(ModelConfig(name="attention32c", width=0.125)), num_classes=3)
    initialize(network, 0)
    tensors = network.state_dict()
    written = set()
    for order in (HEAD, dict(reversed(HEAD.items()))):
        for _ in range(10):
            write_tensors(tmp_path / "x.safetensors", dict(reversed(tensors.items())), order)
            written.add((tmp_path / "x.safetensors").read_bytes())
    assert len(written) == 1
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.metadata().keys() == {"ran"}
    assert read_metadata(tmp_path / "x.safetensors").items() > HEAD.items()
    write_tensors(tmp_path / "x.safetensors", tensors, HEAD | {"step": "4"})
    assert (tmp_path / "x.safetensors").read_bytes() not in written


@pytest.mark.slow
def test_equal_weights_of_several_processes_are_equal_bytes(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ran.tensor_file import write_tensors;"
        "from ran.models.network import build, initialize; from ran.models.zoo import config_spec;"
        "from ran.config import ModelConfig;"
        "network = build(config_spec(ModelConfig(name='attention32c', width=0.125)), num_classes=10);"
        "initialize(network, 5);"
        f"write_tensors(Path(sys.argv[1]), network.state_dict(), {HEAD})"
    )
    for i in range(5):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / str(i))], env=environment, check=True)
    assert len({(tmp_path / str(i)).read_bytes() for i in range(5)}) == 1


def test_the_hash_of_weights_is_that_of_names_types_shapes_and_bytes():
    values = torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2)
    tensors = {"b.weight": values.to(memory_format=torch.channels_last), "a.count": torch.tensor(4)}
    expected = hashlib.sha256(
        b"a.count torch.int64 ()" + struct.pack("<q", 4)
        + b"b.weight torch.float32 (2, 3, 2, 2)" + struct.pack("<24f", *range(24))
    ).hexdigest()  # fmt: skip
    assert tensors_sha256(tensors) == expected == tensors_sha256(dict(reversed(tensors.items())))
    others = (
        {"b.weights": values}, {"b.weight": values.reshape(2, 3, 4)}, {"b.weight": -values},
        {"b.weight": values.view(torch.int32)},
    )  # fmt: skip
    assert expected not in [tensors_sha256({"a.count": torch.tensor(4), **other}) for other in others]


OLD_SHA256 = "9f3ff98fab48461d8717c15c4dc0307ff975e1564526a599277d42b1a52a4ed6"
"""as the version that wrote that layout computed it"""


def test_tensors_of_the_layout_before_are_read(tmp_path):
    path, tensors = tmp_path / "old.safetensors", {"a": torch.arange(3, dtype=torch.float32), "n": torch.tensor(4)}
    save_file(tensors, path, {"fingerprint": "0123", "sha256": OLD_SHA256})
    assert read_metadata(path)["fingerprint"] == "0123"
    assert torch.equal(read_tensors(path)["a"], tensors["a"])
    save_file(tensors, path, {"fingerprint": "0124", "sha256": OLD_SHA256})
    with pytest.raises(DamagedError):
        read_tensors(path)
