"""Folders that only their user can write, also where everybody can write beside them."""

import os
import stat

import pytest

from records.files import write_whole
from records.private_folder import ForeignError, check_own, make_private


def test_a_folder_is_made_for_its_user_alone(tmp_path):
    folder = tmp_path / "new" / "folder"
    make_private(folder)
    make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_somebody_has_put_there_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "victim").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name, reason in (("link", "is a link"), ("open", "others can write")):
        with pytest.raises(ForeignError, match=reason):
            make_private(tmp_path / name)
    (tmp_path / "theirs").mkdir(mode=0o755)
    check_own(tmp_path / "theirs")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ForeignError, match="belongs to another user"):
        make_private(tmp_path / "theirs")


def test_a_temporary_name_that_is_a_link_overwrites_nothing(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to(victim)
    write_whole(tmp_path / "file", "new")
    assert (victim.read_text(), (tmp_path / "file").read_text()) == ("kept", "new")
    assert not (tmp_path / "file").is_symlink()
