"""One thread for the session, no CUDA but for the tests that ask for it, MLflow as the library sets it, an MLflow store
that is migrated once and copied, and property tests without a deadline: a busy machine is no failure."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: spinning threads make the suite 20 times slower
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_configure(config: pytest.Config) -> None:
    """Hides CUDA, whose bits are not the CPU's, unless `-m` selects the tests of tests/gpu."""
    selected = config.option.markexpr.replace("not gpu", "").replace("not two_gpus", "")
    if "gpu" not in selected:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What CI does not come to in its twenty minutes is skipped. RAN_DEADLINE: seconds since 1970."""
    deadline = os.environ.get("RAN_DEADLINE")
    if deadline is not None and time.time() > float(deadline):
        pytest.skip("the time that CI has is over")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread before and after; for the folders that train."""
    import torch

    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow sqlite file without any experiment of ours, to be copied: a fresh one costs 2 to 8 s."""
    from experiments.tracking.store import Store

    path = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    Store.open(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path
