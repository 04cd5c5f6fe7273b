"""The patch of a working tree applies byte for byte, and only a repository that tracks the program is its own."""

import os
import subprocess

import pytest
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from experiments.tracking import provenance, working_tree
from records import names

BEFORE = {
    "code.py": b"import os\n\n\nrate = 1\n\n\nprint(rate)\n\n",
    "windows.py": b"rate = 1\r\nname = 2\r\n\r\n",
    "latin.py": "# -*- coding: latin-1 -*-\nname = 'Müller'\nrate = 1\n".encode("latin-1"),
    "notes with spaces & ümlaut.txt": b"one\ntwo",
    "feed.txt": b"a\x0cb\nc\n\xe2\x80\xa8d\n\n",
    "picture.bin": bytes(range(256)),
    "removed.py": b"gone = True\n",
}
AFTER = {
    "code.py": b"import os\n\n\nrate = 2\n\n\nprint(rate)\n\n",
    "windows.py": b"rate = 1\r\nname = 3\r\n\r\n",
    "latin.py": "# -*- coding: latin-1 -*-\nname = 'Müller'\nrate = 2 # ±\n".encode("latin-1"),
    "notes with spaces & ümlaut.txt": b"one\ntwo\n  \nthree",
    "feed.txt": b"a\x0cb\nC\n\xe2\x80\xa8d\n\n",
    "picture.bin": bytes(range(256)) * 2,
}


def git(folder, *arguments):
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.fixture
def repository(tmp_path):
    """A repository with BEFORE in a commit and AFTER in its working tree."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init")
    write(root, BEFORE)
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    write(root, AFTER)
    (root / "removed.py").unlink()
    return root


CONFIGURATIONS = {
    "plain": {},
    "no prefix": {"diff.noprefix": "true"},
    "other prefixes": {"diff.mnemonicPrefix": "true"},
    "colours": {"color.ui": "always", "color.diff": "always"},
    "no context": {"diff.context": "0"},
    "another program": {"diff.external": "echo"},
    "names as they are": {"core.quotePath": "false"},
}


@pytest.mark.parametrize("settings", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_the_patch_applies_byte_for_byte(repository, tmp_path, settings):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", str(repository), str(clone))
    for key, value in settings.items():
        git(repository, "config", key, value)
    (tmp_path / "git.diff").write_bytes(working_tree.patch(repository))
    git(clone, "apply", str(tmp_path / "git.diff"))
    expected = AFTER | {"picture.bin": BEFORE["picture.bin"]}
    assert {path.name: path.read_bytes() for path in clone.iterdir() if path.is_file()} == expected


def test_the_patch_says_what_it_leaves_out(repository, monkeypatch):
    assert working_tree.patch(repository).startswith(b"# left out, because it is binary: picture.bin\n")
    monkeypatch.setattr(working_tree, "DIFF_BYTES", 300)
    text = working_tree.patch(repository).decode(errors="replace")
    assert "# left out, because the patch would be too large: diff --git a/windows.py b/windows.py\n" in text


def test_a_masked_secret_of_the_change_leaves_a_patch_that_applies(repository, tmp_path):
    git(repository, "checkout", ".")
    (repository / "code.py").write_bytes(BEFORE["code.py"] + b"password =\n\ntoken = 'abc123'\n")
    patch = working_tree.patch(repository)
    assert b"abc123" not in patch
    (tmp_path / "git.diff").write_bytes(patch)
    git(repository, "checkout", ".")
    git(repository, "apply", str(tmp_path / "git.diff"))
    assert (repository / "code.py").read_bytes() == BEFORE["code.py"] + b"password =\n\ntoken = '***'\n"


def test_a_masked_secret_of_the_commit_is_named(repository):
    (repository / "code.py").write_bytes(b"token = 'abc123'\n")
    git(repository, "commit", "-am", "a secret")
    (repository / "code.py").write_bytes(b"token = os.environ\n")
    patch = working_tree.patch(repository)
    assert b"abc123" not in patch
    assert patch.startswith(b"# does not apply, because a secret of the commit is masked: diff --git a/code.py b/code")


@pytest.fixture
def known():
    """What a process knows of its commit, forgotten before and after."""
    provenance.own.cache_clear()
    yield provenance.tags
    provenance.own.cache_clear()


def test_another_repository_around_the_program_is_not_its_own(repository, known, monkeypatch):
    """As after pip install --target inside a repository: it tracks other files than ours."""
    packages = repository / "packages"
    (packages / provenance.OWN).parent.mkdir(parents=True)
    (packages / provenance.OWN).touch()
    monkeypatch.setattr(provenance, "ROOT", packages)
    assert MLFLOW_GIT_COMMIT not in known()
    assert known()[names.GIT_DIRTY] == "unknown"
    assert provenance.diff() == b""


def test_variables_of_git_do_not_name_another_repository(repository, known, monkeypatch):
    """As in a hook of another repository, or after `export GIT_DIR`."""
    expected = dict(known())
    provenance.own.cache_clear()
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    monkeypatch.setenv("GIT_INDEX_FILE", os.devnull)
    assert known() == expected
    assert provenance.is_committed(provenance.ROOT / "pyproject.toml")
