"""What a run leaves: the file of its results image by image."""

import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from experiments.runner.artifacts import npz_bytes, packed


@pytest.mark.parametrize("count", [1, 8, 13, 3000])
def test_packed_bits_come_back(count):
    correct = torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.7
    with np.load(io.BytesIO(npz_bytes(packed(correct)))) as found:
        assert found.files == ["correct", "count"]
        assert (found["correct"].dtype, found["count"].dtype, found["count"].shape) == (np.uint8, np.int64, ())
        assert len(found["correct"]) == -(-count // 8)
        bits = np.unpackbits(found["correct"], count=int(found["count"]))
    assert bits.astype(bool).tolist() == correct.tolist()


def test_equal_arrays_make_one_file_whenever_they_are_written(monkeypatch):
    """Zip files can hold the time, to two seconds: written a day apart, in another zone, by another process."""
    arrays = packed(torch.arange(20) % 3 == 0)
    here = npz_bytes(arrays)
    tomorrow = time.time() + 86_400
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: tomorrow)
        patch.setattr(time, "localtime", lambda seconds=tomorrow, real=time.localtime: real(seconds))
        assert npz_bytes(arrays) == here
    code = (
        "import sys, torch; from experiments.runner.artifacts import npz_bytes, packed;"
        "sys.stdout.buffer.write(npz_bytes(packed(torch.arange(20) % 3 == 0)))"
    )
    other = os.environ | {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    assert subprocess.run([sys.executable, "-c", code], env=other, capture_output=True, check=True).stdout == here
    assert npz_bytes(packed(torch.arange(20) % 3 == 1)) != here
