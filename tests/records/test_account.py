"""A user without a name, or without a home folder, gets one for the command."""

import getpass
import os
import pwd
import stat
from pathlib import Path

import pytest

from records.account import prepare_account

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user id without an entry, in an environment without HOME; returns the temporary folder."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in (*NAMES, "HOME"):
        monkeypatch.setenv(name, "")  # so that it is set back
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_stranger_gets_a_name_and_a_home(stranger: Path) -> None:
    with pytest.raises(RuntimeError):
        Path.home()
    prepare_account()
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert Path.home().parent == stranger
    assert stat.S_IMODE(Path.home().stat().st_mode) == 0o700
    first = Path.home()
    del os.environ["HOME"]
    prepare_account()
    assert Path.home() == first, "what is cached there is found again"


def test_the_folder_of_another_is_not_taken(stranger: Path) -> None:
    (stranger / f"home-of-{os.getuid()}").mkdir(mode=0o755)
    prepare_account()
    assert Path.home().parent == stranger
    assert Path.home().name != f"home-of-{os.getuid()}"


@pytest.mark.parametrize("home", ["/", "/proc/nowhere"])
def test_a_home_that_cannot_be_used(home: str, stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    prepare_account()
    assert Path.home().parent == stranger


def test_other_users_keep_what_they_have(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stranger / "me").mkdir()
    monkeypatch.setenv("HOME", str(stranger / "me"))
    monkeypatch.setenv("LOGNAME", "me")
    prepare_account()
    assert (getpass.getuser(), Path.home()) == ("me", stranger / "me")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    prepare_account()
    assert Path.home() == stranger / "me", "a read-only one has the user's settings"
