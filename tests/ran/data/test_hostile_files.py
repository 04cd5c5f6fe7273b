"""Files that are small and claim to be large, or are no files: refused in one line, before memory is taken."""

import contextlib
import io
import os
import resource
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ran.data.arrays import read_arrays
from ran.data.image_folder import decode
from ran.data.noise import human_labels
from records import arrays, reading
from records.arrays import read_npy, read_npz
from records.errors import DataError
from records.reading import UnreadableError, parse_json, parse_object

ROOT = Path(__file__).parents[3]


def png(path, width, height):
    """A PNG of zeros of any size, without drawing it: a row of a thousand megapixels has a few kB."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, packed = zlib.compressobj(9), b""
    for _ in range(height):
        packed += packer.compress(bytes(3 * width + 1))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", packed + packer.flush()), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return str(path)


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    return png(tmp_path_factory.mktemp("bomb") / "bomb.png", 20_000, 6_000)


@pytest.mark.parametrize("read", [
    lambda path: decode.centre(path, 8, 1.0, as_shown=True), lambda path: decode.centre(path, 8, 1.0),
    lambda path: decode.crop(path, 8, lambda w, h: (0, 0, w, h)),
], ids=["shown", "centre", "crop"])  # fmt: skip
def test_an_image_of_too_many_pixels(read, bomb):
    assert os.path.getsize(bomb) < 2_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="120,000,000 pixels, more than the 100,000,000"):
        read(bomb)
    assert "pixels" in decode.damage(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kB"


def test_pixels_in_flight_are_counted(tmp_path, monkeypatch):
    """Eight large images at once took 6 GB."""
    monkeypatch.setattr(decode, "MOST_PIXELS", 100)
    flight, at_once, most = decode._InFlight(), [], []

    def use(pixels):
        with flight.room_for(pixels):
            at_once.append(pixels)
            most.append(sum(at_once))
            time.sleep(0.01)
            at_once.remove(pixels)

    threads = [threading.Thread(target=use, args=(pixels,)) for pixels in (100, 60, 60, 40, 30, 20, 10, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert max(most) <= 100
    assert len(most) == 8


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)],
                         ids=["pipe", "folder", "device"])  # fmt: skip
def test_what_is_no_regular_file_does_not_hang(make, tmp_path):
    path = tmp_path / "x.png"
    make(path)
    with pytest.raises(DataError, match=r"no regular file|is a folder"):
        decode.centre(str(path), 8, 1.0)
    for read in (read_npy, lambda p: read_npz(p, 100), reading.read_bytes):
        with pytest.raises(UnreadableError, match=r"no regular file|is a folder"):
            read(path)


def test_a_format_that_runs_another_program_is_not_read(tmp_path):
    """Pillow hands EPS to Ghostscript."""
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="not an image that can be read"):
        decode.centre(str(path), 8, 1.0)
    assert not decode.is_image(path.read_bytes())


def npy(shape, content=b"", dtype="'|u1'"):
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * ((-len(text) - 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + content


HEADERS = {
    "90 TiB": npy((90 * 2**40,)), "negative": npy((-1,)), "too few": npy((5,), b"1234"),
    "too many": npy((5,), b"123456"), "objects": npy((1,), b"12345678", "'|O'"),
    "no dtype": npy((1,), b"1", "'nothing'"), "a call": npy((1,), b"1", "exit()"),
    "huge digits": npy("(" + "9" * 5_000 + ",)"), "deep": npy("(" * 500 + ")" * 500), "empty": b"", "text": b"hello",
    "version 9": b"\x93NUMPY\x09\x00" + bytes(100), "cut": b"\x93NUMPY\x01\x00\xff\xff{", "no tuple": npy("[1]", b"1"),
}  # fmt: skip


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_a_header_is_compared_with_what_is_there(content, tmp_path):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        read_npy(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(UnreadableError):
        read_npz(buffer.getvalue(), 10**6)
    (tmp_path / "labels.npy").write_bytes(npy((1,), b"\0"))
    with pytest.raises(DataError):
        read_arrays(tmp_path / "a.npy", tmp_path / "labels.npy", size=8, num_classes=2)


def test_a_file_that_unpacks_to_much_more(tmp_path):
    """3 MB took 3.4 GB."""
    path = tmp_path / "cifar10n.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("clean_label.npy", "w") as file:
        file.write(npy((10**8,)))
        for _ in range(100):
            file.write(bytes(10**6))
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError, match="arrays take 100,000,"):
        human_labels(str(tmp_path), "aggre", np.zeros(50_000, np.int64))


def test_what_numpy_writes_is_read(tmp_path):
    content = {"a": np.arange(6).reshape(2, 3), "b": np.asfortranarray(np.ones((2, 3), np.float32)), "c": np.array("x")}
    np.savez(tmp_path / "a.npz", **content)
    np.savez_compressed(tmp_path / "b.npz", **content)
    for name in ("a.npz", "b.npz"):
        found = read_npz(tmp_path / name, 10**6)
        assert found.keys() == content.keys()
        assert all(
            np.array_equal(found[key], content[key]) and found[key].dtype == content[key].dtype for key in content
        )
    np.save(tmp_path / "c.npy", content["b"])
    assert np.array_equal(read_npy(tmp_path / "c.npy"), content["b"])
    assert read_npy(tmp_path / "c.npy").flags.writeable


@given(st.data())
def test_no_damage_of_an_archive_ends_in_a_traceback(data):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.arange(50), b=np.zeros((3, 4), np.uint8))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for mutated in (bytes(content), bytes(content[:cut])):
        with contextlib.suppress(UnreadableError):
            arrays.read_npz(mutated, 10**6)


def test_a_text_that_is_nested_too_deeply():
    for text in ("[" * 10**5 + "]" * 10**5, '{"a":' * 60 + "1" + "}" * 60, "9" * 5_000, "{", b"\xff", "[1]", "null"):
        with pytest.raises(UnreadableError) as caught:
            parse_object(text)
        assert "\n" not in str(caught.value)
    assert parse_json("[" * 40 + "]" * 40)


@pytest.mark.slow
def test_a_run_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "run.safetensors")
    os.mkfifo(tmp_path / "a.png")
    said = subprocess.run([sys.executable, "-m", "experiments.predict", str(tmp_path / "run.safetensors"), "a.png"],
                          cwd=ROOT, capture_output=True, text=True, timeout=120)  # fmt: skip
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert "no regular file" in said.stderr


def test_an_ordinary_image_is_read(tmp_path):
    for suffix in ("png", "jpg", "gif", "bmp", "webp", "ppm", "tiff"):
        Image.new("RGB", (9, 8), "red").save(tmp_path / f"a.{suffix}")
        assert decode.centre(str(tmp_path / f"a.{suffix}"), 8, 1.0).shape == (8, 8, 3)
        assert decode.damage(str(tmp_path / f"a.{suffix}")) is None
