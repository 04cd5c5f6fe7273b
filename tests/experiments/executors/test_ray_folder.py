"""Ray's session lies in a folder with a short name, whatever the temporary folder is called."""

import os

import pytest

from experiments.executors.ray_folder import LONGEST, session_folder
from experiments.placement import PlacementError

SOCKET = "ray/session_2026-11-29_17-14-06_457863_4194304/sockets/plasma_store"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Sets a temporary folder with a name of this length."""

    def make(length):
        folder = tmp_path / ("x" * (length - len(str(tmp_path)) - 1))
        folder.mkdir()
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        return folder

    return make


def test_a_short_name_is_left_to_ray(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert session_folder() is None


@pytest.mark.parametrize("length", [110, 150])
def test_a_long_name_is_replaced(length, temporary, tmp_path):
    temporary(length)
    folder = session_folder(short=("/nowhere", str(tmp_path)))
    assert os.path.dirname(folder) == str(tmp_path)
    assert os.listdir(folder) == []


def test_the_longest_name_that_ray_takes(temporary, monkeypatch):
    fits = LONGEST - len(SOCKET) - 1
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * (fits - 1))
    assert session_folder(short=()) is None
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * fits)
    with pytest.raises(PlacementError, match=f"set RAY_TMPDIR to a folder with a name of at most {fits} characters"):
        session_folder(short=())


@pytest.mark.cluster
@pytest.mark.slow
def test_a_launch_with_a_long_temporary_folder(lab, tmp_path):
    folder = tmp_path / ("x" * 70)
    folder.mkdir()
    launch = lab.start("--workers", "2", behind=["env", f"TMPDIR={folder}"])
    _, err = launch.communicate()
    assert launch.returncode == 0, err
    assert len(lab.children()) == 2
