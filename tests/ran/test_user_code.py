"""A user's own code is part of what a run computes: its text changes the fingerprint, a remark in it does not."""

import importlib
import linecache
import sys
from pathlib import Path

import pytest

from ran.config import RunConfig, override
from ran.fingerprints import fingerprint
from ran.models.masks import MASK_ACTIVATIONS
from ran.registry import UnknownNameError
from ran.user_code import user_modules
from records.errors import UserError

DIGEST = "0" * 32
BASE = override(RunConfig(), {"train.precision": "float32"})
MINE = override(BASE, {"model.mask_activation": "mine"})
MODULE = '''"""My masks."""

from torch.nn import functional as F

from ran.models.masks import MASK_ACTIVATIONS


@MASK_ACTIVATIONS.register("mine")
def mine(x):
    return F.hardsigmoid(x)
'''


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Returns a function that writes a module, imports it as a new process would, and returns its path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(MASK_ACTIVATIONS, "_entries", dict(MASK_ACTIVATIONS._entries))
    monkeypatch.setattr(MASK_ACTIVATIONS, "_origins", dict(MASK_ACTIVATIONS._origins))

    def write(text: str, name: str = "my_masks") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        MASK_ACTIVATIONS._entries.pop("mine", None)
        sys.modules.pop(name, None)
        linecache.clearcache()
        importlib.invalidate_caches()
        importlib.import_module(name)
        return path

    yield write
    sys.modules.pop("my_masks", None)


def test_the_packages_own_parts_are_not_a_users():
    assert user_modules(BASE) == {}
    assert fingerprint(BASE, DIGEST) == fingerprint(BASE, DIGEST, user_code=False)


def test_a_changed_text_is_another_run(written):
    path = written(MODULE)
    found = user_modules(MINE)
    assert {part: module.path for part, module in found.items()} == {"mask activation mine": path}
    assert found["mask activation mine"].text == MODULE
    before = fingerprint(MINE, DIGEST)
    written(MODULE.replace("hardsigmoid", "relu6"))
    assert fingerprint(MINE, DIGEST) != before
    assert user_modules(BASE) == {}, "a run that does not use it is what it was"


def test_the_plain_fingerprint_finds_all_versions(written):
    written(MODULE)
    plain = fingerprint(MINE, DIGEST, user_code=False)
    written(MODULE.replace("hardsigmoid", "relu6"))
    assert fingerprint(MINE, DIGEST, user_code=False) == plain != fingerprint(MINE, DIGEST)


@pytest.mark.parametrize(("old", "new"), [
    ('"""My masks."""', '"""Other words."""'),
    ("@MASK", "# a remark between two statements\n@MASK"),
    ("\n\n\n@", "\n\n\n\n@"),
])  # fmt: skip
def test_what_does_nothing_does_not_count(written, old, new):
    written(MODULE)
    before = fingerprint(MINE, DIGEST)
    written(MODULE.replace(old, new))
    assert fingerprint(MINE, DIGEST) == before


@pytest.mark.parametrize("grid", ["STUDY = {}", "SEARCH: dict = {}"])
def test_the_grid_of_a_study_file_does_not_count(written, grid):
    written(MODULE)
    before = fingerprint(MINE, DIGEST)
    written(f"{MODULE}\n\n{grid}\n")
    assert fingerprint(MINE, DIGEST) == before
    written(f"{MODULE}\n\nSCALE = 2\n")
    assert fingerprint(MINE, DIGEST) != before


def test_another_file_with_the_same_text_is_the_same_run(written):
    written(MODULE)
    before = fingerprint(MINE, DIGEST)
    written(MODULE, "my_masks_moved")
    assert fingerprint(MINE, DIGEST) == before


def test_code_without_a_file_is_refused(written):
    exec(compile(MODULE, "<typed>", "exec"), {})
    with pytest.raises(UserError, match=r"mask activation mine .* put it into a module"):
        fingerprint(MINE, DIGEST)


def test_an_unknown_name_is_named():
    with pytest.raises(UnknownNameError, match="unknown mask activation 'mine'"):
        fingerprint(MINE, DIGEST)
