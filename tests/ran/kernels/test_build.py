"""Building the kernels: once, anywhere a compiler is; without one a reason and PyTorch's own operations."""

import concurrent.futures
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ran.config import ConfigError, RunConfig, override
from ran.engine.device import Arithmetic, DeviceCapabilities, resolve
from ran.kernels import build

ROOT = Path(__file__).parents[3]
SHOW = """
import torch
from ran.kernels import build
from ran.models.zoo import create_model
network = create_model("attention56", num_classes=5, width=0.125).to(memory_format=torch.channels_last)
print(network(torch.zeros(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)).shape[1], build.why_not())
"""


def said(tmp_path, **environment):
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def unbuilt(tmp_path, monkeypatch):
    """A cache folder that is empty, and nothing loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build._found.cache_clear()
    yield tmp_path
    build._found.cache_clear()


def compiler(folder, text):
    path = folder / "cxx"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.slow
def test_a_network_without_them(tmp_path):
    assert said(tmp_path / "cache", RAN_KERNELS="0") == "5 RAN_KERNELS=0"
    assert not (tmp_path / "cache").exists()


def test_without_a_compiler(unbuilt, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    assert "no C++ compiler" in build.why_not()


@pytest.mark.parametrize(("text", "words"), [
    ('[ "$1" = --version ] || { echo "x.cpp:1: error: no such thing" >&2; exit 1; }', "error: no such thing"),
    ('[ "$1" = --version ] || exit 3', "status 3"),
    ('for last; do :; done; [ "$1" = --version ] || : > "$last"', "file too short"),
    ("exec does-not-exist", "status 127"),
])  # fmt: skip
def test_a_compiler_that_fails(text, words, unbuilt, monkeypatch):
    monkeypatch.setenv("CXX", compiler(unbuilt, text))
    assert words in build.why_not()
    assert build.library() is None


def test_a_cache_that_cannot_be_written(unbuilt, monkeypatch):
    (unbuilt / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(unbuilt / "file"))
    monkeypatch.setattr(build, "_run", lambda command: None)
    assert f"{unbuilt}/file" in build.why_not()


LOADS = 'for last; do :; done; [ "$1" = --version ] || echo built > "$last"'


@pytest.mark.parametrize("change", [
    lambda file: file.chmod(0o666), lambda file: file.chmod(0o620), lambda file: file.parent.chmod(0o777),
    lambda file: file.symlink_to(file.rename(file.with_suffix(".elsewhere"))),
], ids=["all", "group", "folder", "link"])  # fmt: skip
def test_what_others_can_write_is_not_loaded(change, unbuilt, monkeypatch):
    """To load a library is to execute it."""
    monkeypatch.setenv("CXX", compiler(unbuilt, LOADS))
    file = build._built()
    assert build._built() == file
    change(file)
    with pytest.raises(build.KernelError, match=r"others can write|is a link"):
        build._built()


def test_what_belongs_to_another_user_is_not_loaded(unbuilt, monkeypatch):
    monkeypatch.setenv("CXX", compiler(unbuilt, LOADS))
    build._built()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(build.KernelError, match="belongs to another user"):
        build._built()


def test_a_damaged_library_is_built_again(unbuilt, monkeypatch):
    monkeypatch.setenv("CXX", compiler(unbuilt, LOADS))
    file = build._built()
    file.write_text("damaged")
    assert build._cached([str(unbuilt / "cxx")]) is None
    assert build._built().read_text() == "built\n"


@pytest.mark.parametrize("home", ["/proc/1/root/x", "/dev/null"])
def test_a_home_folder_that_cannot_be_read_is_one_line(home, unbuilt, monkeypatch):
    monkeypatch.setenv("CXX", compiler(unbuilt, LOADS))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", home)

    def refused(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)  # the superuser is refused nothing
    assert "Permission denied" in build.why_not()
    assert "\n" not in build.why_not()


@pytest.mark.slow
@pytest.mark.skipif(build.library() is None, reason=f"no kernels here: {build.why_not()}")
def test_built_once_by_several_at_once(tmp_path):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert set(pool.map(lambda _: said(tmp_path), range(3))) == {"5"}
    (kept,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = kept.stat().st_mtime_ns
    assert said(tmp_path) == "5"
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize(("settings", "reason", "kernels"), [
    ({}, "", "fused"),
    ({}, "no C++ compiler", "eager"),
    ({"train.channels_last": False}, "", "eager"),
    ({"train.compile": True}, "", "eager"),
    ({"train.kernels": "fused"}, "", "fused"),
    ({"train.kernels": "eager"}, "", "eager"),
])  # fmt: skip
def test_the_kernels_of_a_run_are_the_fastest_that_are_here(settings, reason, kernels, monkeypatch):
    monkeypatch.setattr(build, "why_not", lambda: reason)
    train = override(RunConfig(), {"train.precision": "float32", **settings}).train
    assert Arithmetic.of(train, torch.device("cpu")).kernels == kernels


def test_kernels_that_are_asked_for_and_not_there():
    with pytest.raises(ConfigError, match=r"train\.kernels=fused: no C\+\+ compiler"):
        resolve(override(RunConfig(), {"train.kernels": "fused"}), DeviceCapabilities(no_kernels="no C++ compiler"))


def test_kernels_that_are_asked_for_and_not_on_this_device(monkeypatch):
    train = override(RunConfig(), {"train.precision": "float32", "train.kernels": "fused"}).train
    with pytest.raises(ConfigError, match=r"train\.kernels=fused: they are for the CPU and for CUDA"):
        Arithmetic.of(train, torch.device("mps"))
    monkeypatch.setattr(build, "why_not", lambda: "no C++ compiler")
    with pytest.raises(ConfigError, match=r"train\.kernels=fused: no C\+\+ compiler"):
        Arithmetic.of(train, torch.device("cpu"))


def test_the_key_knows_the_processor():
    assert "flags" in build._processor() or "Features" in build._processor()
    assert "MHz" not in build._processor(), "else it is another one each time"


def test_another_processor_has_kernels_of_its_own(monkeypatch):
    """A home folder may be shared: what one machine built stops another with an illegal instruction."""
    compiler = [sys.executable]
    key = build._key(compiler)
    assert build._key(compiler) == key
    monkeypatch.setattr(build, "_processor", lambda: "another")
    assert build._key(compiler) != key
