"""A laboratory of its own for each test: an empty folder, entered, with a copy of a migrated store."""

import linecache
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lab import BOTH, Lab

from ran import snapshot
from ran.data.datasets import DATASETS
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES


@pytest.fixture(autouse=True)
def _alone(one_thread, monkeypatch, tmp_path):
    """Nothing reaches the repository: the folder is entered, the environment names no store. Probes see few images."""
    monkeypatch.setattr(snapshot, "FIELD_IMAGES", 2)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def empty_lab(tmp_path: Path) -> Lab:
    """A lab without a store."""
    folder = tmp_path / "lab"
    folder.mkdir()
    return Lab(folder)


@pytest.fixture
def lab(empty_lab: Lab, migrated_store: Path) -> Lab:
    shutil.copy(migrated_store, empty_lab.store)
    return empty_lab


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, migrated_store: Path) -> Lab:
    """The two runs of BOTH, not interrupted; tests read it."""
    torch.set_num_threads(1)
    lab = Lab(tmp_path_factory.mktemp("whole"))
    shutil.copy(migrated_store, lab.store)
    assert lab.launch(*BOTH).status == 0
    return lab


@pytest.fixture
def user_module(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a module that --import finds, and forgets it and what it registered at the end."""
    monkeypatch.syspath_prepend(str(lab.folder))
    for registry in (MASK_ACTIVATIONS, MASK_STRUCTURES, DATASETS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_origins", dict(registry._origins))

    def write(name: str, content: str) -> str:
        (lab.folder / f"{name}.py").write_text(content)
        linecache.clearcache()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write
