"""Locks of files: of the kernel, or none where the file system has none."""

import errno
import fcntl
from pathlib import Path

import pytest

from experiments.runner.run_dir import LOCK, locked
from records.files import WriteError, locked_file


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre without its option flock, an NFS without its lock daemon, and others."""

    def flock(*_: object) -> None:
        raise OSError(request.param, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("without_locks")
def test_without_locks_the_block_runs_and_leaves_nothing_that_blocks_another(tmp_path: Path) -> None:
    for _ in range(2):  # the first one's process may have been killed
        with locked_file(tmp_path / "launch.lock"):
            pass
        with locked(tmp_path / "run") as alone:
            assert alone is None, "the lease in the store decides"
            with locked(tmp_path / "run") as again:
                assert again is None
    assert {path.name for path in tmp_path.rglob("*")} <= {"launch.lock", "run", LOCK}


def test_another_error_of_a_lock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(WriteError, match="the disk is broken"), locked_file(tmp_path / "launch.lock"):
        pass
