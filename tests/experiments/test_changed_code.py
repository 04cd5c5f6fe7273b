"""A user's own code is part of a run: kept with it, and a changed text trains it anew and says so."""

import importlib
import json

import pytest

from experiments.runner import execute
from ran.models.masks import MASK_ACTIVATIONS
from records import names

MASKS = '''"""My masks."""

from torch.nn import functional as F

from ran.models.masks import MASK_ACTIVATIONS


@MASK_ACTIVATIONS.register("mine")
def mine(x):
    return F.hardsigmoid(x)
'''
FLAGS = ("--import", "my_masks", "--model.mask-activation", "mine", "--cells", "learning=arl")


@pytest.fixture
def write(user_module):
    """Returns a function that writes my_masks.py, to be imported as by a new process."""

    def writes(text):
        MASK_ACTIVATIONS._entries.pop("mine", None)
        user_module("my_masks", text)

    return writes


def test_a_changed_mask_is_trained_anew_and_said(lab, write):
    write(MASKS)
    assert lab.launch(*FLAGS).status == 0
    (run,) = lab.children().values()
    assert lab.artifact(run, "my_masks.py").read_text() == MASKS
    assert run.data.tags[names.GIT_DIRTY] == "true", "nobody has committed it"
    assert list(json.loads(run.data.tags[names.USER_CODE])) == ["my_masks.py"]

    write(MASKS.replace("My masks", "My own masks"))
    assert "0 of 1 runs to do" in lab.launch(*FLAGS, "--dry-run").out, "a docstring computes nothing"

    write(MASKS.replace("hardsigmoid", "relu6"))
    planned = lab.launch(*FLAGS, "--dry-run").out
    assert "1 of 1 runs to do" in planned
    assert "1 run was trained with another my_masks.py" in planned
    assert lab.launch(*FLAGS).status == 0
    assert len({r.data.tags[names.FINGERPRINT] for r in lab.all_runs() if names.FINGERPRINT in r.data.tags}) == 2

    write(MASKS)
    assert "0 of 1 runs to do" in lab.launch(*FLAGS, "--dry-run").out, "the first is still there"


def test_code_that_is_changed_after_the_plan_trains_nothing_under_the_plans_name(lab, write, monkeypatch):
    """As a worker finds it that starts, or starts again, after the user has gone on editing."""
    write(MASKS)
    begin = execute.begin_attempt

    def edited(*arguments, **options):
        write(MASKS.replace("hardsigmoid", "relu6"))
        importlib.import_module("my_masks")
        return begin(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(execute, "begin_attempt", edited)
        said = lab.launch(*FLAGS)
    assert said.status == 1
    assert "my_masks.py was changed after the launch had begun; the same command trains the new code" in said.err
    assert lab.launch(*FLAGS).status == 0
    outcomes = {run.data.tags[names.OUTCOME] for run in lab.all_runs() if names.FINGERPRINT in run.data.tags}
    assert outcomes == {names.FAILED, names.FINISHED}


def test_runs_of_an_earlier_schema_are_said_and_not_used(lab):
    assert lab.launch("--cells", "learning=arl").status == 0
    (run,) = lab.children().values()
    lab.client.delete_tag(run.info.run_id, names.SCHEMA)
    lab.client.set_tag(run.info.run_id, names.FINGERPRINT, "0" * 64)
    planned = lab.launch("--cells", "learning=arl", "--dry-run").out
    assert "1 of 1 runs to do" in planned
    assert "also holds 1 run(s) of an earlier schema" in planned
