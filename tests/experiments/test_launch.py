"""A launch from the command line to the table: what is stored, what is not done twice, and every way to be cut off."""

import contextlib
import datetime
import json
import os
import platform
import re
import shlex
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from lab import FAILING, ROOT, SLOW, STEPS, Lab, main, mine, same_bits, wait_for
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE, MLFLOW_USER

from experiments import launch as launching
from experiments.console.progress import PlainReporter
from experiments.executors import run_plan
from experiments.runner import execute
from experiments.studies import smoke
from experiments.tracking import provenance, system_metrics
from experiments.tracking.store import Store
from ran import tensor_file
from ran.config import RunConfig, flatten, unflatten
from ran.data.datasets import load_splits, open_source
from ran.fingerprints import SCHEMA_VERSION, fingerprint
from ran.kernels.build import why_not
from records import names


def in_the_repository() -> list[str]:
    return [name for name in ("mlflow.db", "mlruns", "checkpoints") if (ROOT / name).exists()]


BEFORE = in_the_repository()
CHILD_TAGS = [
    names.STUDY, names.CELL, names.SEED, names.FINGERPRINT, names.PROFILE, names.DATASET, names.OVERRIDES,
    names.OUTCOME, names.RESUMES, names.GIT_DIRTY, names.HOST, names.HOW,
    names.SCHEMA, MLFLOW_GIT_COMMIT, MLFLOW_USER, MLFLOW_PARENT_RUN_ID,
]  # fmt: skip
PARENT_TAGS = [
    names.PARENT, names.STUDY, names.PROFILE, names.DATASET, names.OVERRIDES, names.GIT_DIRTY, MLFLOW_GIT_COMMIT,
    MLFLOW_RUN_NOTE,
]  # fmt: skip
# The smoke profile: 6 steps, a point a step, one evaluation between and one at the end.
POINTS = {
    names.TRAIN_LOSS: [1, 2, 3, 4, 5, 6], names.TRAIN_ERR: [1, 2, 3, 4, 5, 6], names.LR: [1, 2, 3, 4, 5, 6],
    names.VAL_LOSS: [3, 6], names.VAL_ERR: [3, 6],
    **{names.RESPONSE.format(stage): [3, 6] for stage in (1, 2, 3)},
    names.FINAL_VAL_ERR: [6], names.FINAL_VAL_LOSS: [6], names.FINAL_TEST_ERR: [6], names.FINAL_TEST_LOSS: [6],
    names.FINAL_TEST_ERR5: [6],
    names.COST_HOURS: [6], names.COST_CPU_HOURS: [6], names.COST_IMAGES_PER_S: [6],
}  # fmt: skip


class _NoTraining:
    """Put in the place of the training loop: a launch that trains is a failure."""

    def __call__(self, *args, **options):
        raise AssertionError("this launch should train nothing")


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(execute, "train", _NoTraining())


@pytest.fixture(scope="module")
def done(tmp_path_factory, migrated_store):
    """The smoke study, launched once; tests that change nothing read it."""
    torch.set_num_threads(1)
    lab = Lab(tmp_path_factory.mktemp("done"))
    shutil.copy(migrated_store, lab.store)
    return lab, lab.launch()


# What a launch leaves


def test_smoke_ends_well_and_prints_its_table(done):
    _, said = done
    assert said.status == 0
    assert "Smoke test" in said.out
    assert "Profile: smoke-1" in said.out
    assert "cluttershapes (built-in, synthetic)" in said.out
    lines = said.err.splitlines()
    assert lines[0].startswith("smoke: profile smoke-1 (the study's own), data cluttershapes, cpu; 2 of 2 runs to do")
    assert [line.split(", test")[0] for line in lines[1:-1]] == [
        "[1/2] arl s0: start", "[1/2] arl s0: finished", "[2/2] nal s0: start", "[2/2] nal s0: finished",
    ]  # fmt: skip
    assert lines[-1].startswith("in a browser: mlflow ui --backend-store-uri sqlite:///")
    assert re.search(
        r", then http://127\.0\.0\.1:5000/#/experiments/\d+/runs\?workflowType=machine_learning$", lines[-1]
    )


def test_the_table_shows_what_the_store_holds(done):
    lab, said = done
    for learning in ("arl", "nal"):
        err = lab.children()[f"{learning} s0"].data.metrics[names.FINAL_TEST_ERR]
        row = next(line for line in said.out.splitlines() if line.startswith(learning.upper()))
        assert f"{err:.2f}" in row.split()


def test_two_levels(done):
    lab, _ = done
    (parent,) = lab.parents()
    assert sorted(lab.children()) == ["arl s0", "nal s0"]
    assert {run.data.tags[MLFLOW_PARENT_RUN_ID] for run in lab.children().values()} == {parent.info.run_id}
    assert len(lab.all_runs()) == 3


@pytest.mark.parametrize("learning", ["arl", "nal"])
def test_a_child_carries_everything(learning, done):
    lab, _ = done
    run = lab.children()[f"{learning} s0"]
    tags = run.data.tags
    assert [tag for tag in CHILD_TAGS if not tags.get(tag)] == []
    assert {tag: tags[tag] for tag in CHILD_TAGS[:9] if tag != names.FINGERPRINT} == {
        names.STUDY: "smoke", names.CELL: f"learning={learning}", names.SEED: "0", names.PROFILE: "smoke-1",
        names.DATASET: "cluttershapes", names.OVERRIDES: "{}", names.OUTCOME: names.FINISHED, names.RESUMES: "0",
    }  # fmt: skip
    assert run.info.status == "FINISHED"
    assert names.REASON not in tags

    config = unflatten(json.loads(lab.artifact(run, names.CONFIG_JSON).read_text()))
    digest = open_source(config.data).digest
    assert tags[names.FINGERPRINT] == fingerprint(config, digest)
    assert run.data.params == {key: str(value) for key, value in flatten(config).items()} | {
            "data.digest": digest, "data.official_images": "10000",
            "network.params": "18064", "network.macs": "492192",
        }  # fmt: skip
    more = {"data.digest", "data.official_images", *names.COUNTS.values()}
    assert run.data.params.keys() - more == flatten(RunConfig()).keys()
    assert config.model.learning == learning

    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("cluttershapes", digest)
    assert {a.path for a in lab.client.list_artifacts(run.info.run_id)} >= {
        names.CONFIG_JSON, names.SPEC_JSON, names.WEIGHTS, names.TEST_CORRECT, names.PROVENANCE_JSON,
    }  # fmt: skip
    assert json.loads(lab.artifact(run, names.SPEC_JSON).read_text())["learning"] == learning


@pytest.mark.parametrize("learning", ["arl", "nal"])
def test_each_metric_has_its_steps_once(learning, done):
    lab, _ = done
    points = lab.points(lab.children()[f"{learning} s0"])
    assert {key: [step for step, _ in values] for key, values in points.items()} == POINTS
    assert all(0 <= value <= 100 for _, value in points[names.TRAIN_ERR] + points[names.VAL_ERR])


def test_the_weights_are_those_of_the_network(done):
    lab, _ = done
    from ran.models.network import build
    from ran.models.zoo import config_spec

    run = lab.children()["arl s0"]
    config = unflatten(json.loads(lab.artifact(run, names.CONFIG_JSON).read_text()))
    build(config_spec(config.model), num_classes=10).load_state_dict(lab.weights("arl s0"))
    arl, nal = lab.weights("arl s0"), lab.weights("nal s0")
    assert not same_bits(arl, nal)
    hashes = [lab.children()[f"{n} s0"].data.tags[names.WEIGHTS_SHA256] for n in ("arl", "nal")]
    assert hashes == [tensor_file.tensors_sha256(weights) for weights in (arl, nal)]
    parameters = build(config_spec(config.model), num_classes=10).parameters()
    assert run.data.params[names.COUNTS[names.COST_PARAMS]] == str(sum(p.numel() for p in parameters))
    assert not {names.COST_PARAMS, names.COST_MACS} & run.data.metrics.keys(), "a count has no chart"


def test_the_results_by_image_have_the_mean_that_the_metric_says(done):
    lab, _ = done
    for run in lab.children().values():
        with np.load(lab.artifact(run, names.TEST_CORRECT)) as found:
            bits = np.unpackbits(found["correct"], count=int(found["count"]))
        config = unflatten(json.loads(lab.artifact(run, names.CONFIG_JSON).read_text()))
        assert len(bits) == len(load_splits(config.data, 0).test)
        assert run.data.metrics[names.FINAL_TEST_ERR] == 100 * int((1 - bits.astype(int)).sum()) / len(bits)


def test_the_parent_carries_the_study(done):
    lab, _ = done
    (parent,) = lab.parents()
    tags = parent.data.tags
    assert [tag for tag in PARENT_TAGS if not tags.get(tag)] == []
    assert tags[MLFLOW_RUN_NOTE].endswith(f"\n\n---\n\n{smoke.__doc__.strip()}")
    assert parent.info.status == "FINISHED"
    study = json.loads(lab.artifact(parent, names.STUDY_JSON).read_text())
    assert {key: study[key] for key in ("study", "profile", "dataset", "overrides", "compare")} == {
        "study": "smoke", "profile": "smoke-1", "dataset": "cluttershapes", "overrides": {},
        "compare": {"axis": "learning", "baseline": "arl"},
    }  # fmt: skip
    assert study["planned_seeds"] == list(smoke.STUDY.seeds)
    assert [a["values"] for a in study["axes"]] == [["arl", "nal"]]
    assert [(run["cell"], run["seed"]) for run in study["runs"]] == [
        ({"learning": "arl"}, 0), ({"learning": "nal"}, 0),
    ]  # fmt: skip
    assert [run["fingerprint"] for run in study["runs"]] == [
        lab.children()[f"{learning} s0"].data.tags[names.FINGERPRINT] for learning in ("arl", "nal")
    ]


def test_the_parents_page_shows_the_table(done):
    lab, said = done
    (parent,) = lab.parents()
    note = parent.data.tags[MLFLOW_RUN_NOTE]
    assert note.startswith("**Smoke test")
    for learning in ("arl", "nal"):
        error = f"{lab.children()[f'{learning} s0'].data.metrics[names.FINAL_TEST_ERR]:.2f}"
        assert f"| {learning.upper()} |" in note
        assert error in note
    assert lab.artifact(parent, "results/table.txt").read_text().strip() == said.out.strip()
    assert lab.artifact(parent, "results/table.html").read_text().startswith("<!doctype html>")
    assert lab.points(parent) == {}, "means over the runs so far would look like a learning curve"


def test_the_list_of_runs_shows_errors(done):
    lab, _ = done
    runs = {run.info.run_name: run for run in lab.children().values()}
    for name, run in runs.items():
        assert name.endswith(f" \N{MIDDLE DOT} {run.data.metrics[names.FINAL_TEST_ERR]:.2f} %")
        assert names.without_result(name) in ("arl s0", "nal s0")


def test_nothing_but_the_lock_is_left_of_the_checkpoints(done):
    lab, _ = done
    assert [p.name for p in lab.checkpoints.iterdir()] == ["launch.lock"]


@pytest.mark.slow
def test_system_metrics_of_a_run_that_lasts(lab, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    monkeypatch.setattr(system_metrics, "START_SECONDS", 0.0)
    deadline = time.monotonic() + 60

    def logged():
        return [key for run in lab.children().values() for key in run.data.metrics if key.startswith("system/")]

    class Lasting(PlainReporter):
        def step(self, name, step):
            while not logged() and time.monotonic() < deadline:
                time.sleep(0.05)

    monkeypatch.setattr(launching, "reporter", Lasting)
    assert lab.launch("--cells", "learning=arl").status == 0
    assert "system/cpu_utilization_percentage" in logged()


def attempts_of(lab, run):
    return json.loads(lab.artifact(run, names.PROVENANCE_JSON).read_text())["attempts"]


def test_a_run_says_who_computed_it_and_how(done):
    lab, _ = done
    run = lab.children()["arl s0"]
    tags, (attempt,) = run.data.tags, attempts_of(lab, run)
    capability, torch_version = torch.backends.cpu.get_cpu_capability(), torch.__version__.partition("+")[0]
    kernels = "eager" if why_not() else "fused"
    assert tags[names.HOST] == platform.node() == attempt["machine"]["host"]
    way = f"cpu {capability}, 1 thread, {kernels}, channels_last, torch {torch_version}, {provenance.processor()}"
    assert tags[names.HOW] == way
    assert tags[names.SCHEMA] == str(SCHEMA_VERSION)
    assert attempt["how"] == tags[names.HOW]
    assert attempt["command"] == shlex.join(sys.argv)
    assert attempt["planned_seeds"] == list(smoke.STUDY.seeds)
    assert (attempt["commit"], attempt["dirty"]) == (tags[MLFLOW_GIT_COMMIT], tags[names.GIT_DIRTY])
    assert (attempt["first_step"], attempt["outcome"]) == (0, names.FINISHED)
    begun, ended = (datetime.datetime.fromisoformat(attempt[key]).timestamp() for key in ("started", "ended"))
    assert run.info.start_time / 1000 - 5 <= begun <= ended <= run.info.end_time / 1000
    assert attempt["wall_seconds"] >= 3600 * run.data.metrics[names.COST_HOURS] > 0
    assert attempt["cpu_seconds"] >= 3600 * run.data.metrics[names.COST_CPU_HOURS] > 0


def test_a_run_continued_on_another_processor_says_so(lab, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run_ablation.py", "--storage", "postgresql://me:hunter2@db/ran", "--seeds", "0"])
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", signal_at(7, signal.SIGTERM))
        assert lab.launch(*STEPS).status == 143
    run = lab.children()["arl s0"]
    first = run.data.tags[names.HOW]
    assert [attempt["outcome"] for attempt in attempts_of(lab, run)] == [names.KILLED]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX9999")
    provenance.machine.cache_clear()
    assert lab.launch(*STEPS).status == 0
    provenance.machine.cache_clear()
    run = lab.children()["arl s0"]
    one, two = attempts_of(lab, run)
    assert run.data.tags[names.HOW] == f"{first}; {two['how']}"
    assert two["how"].startswith("cpu AVX9999, ")
    assert two["machine"]["instruction_set"] == "AVX9999" != one["machine"]["instruction_set"]
    assert (one["first_step"], two["first_step"]) == (0, 7)
    assert one["command"] == "run_ablation.py --storage postgresql://me:***@db/ran --seeds 0"


@pytest.mark.slow
def test_without_artifacts_there_are_tags_only(lab):
    assert lab.launch("--cells", "learning=arl", "--keep", "none").status == 0
    run = lab.children()["arl s0"]
    assert lab.client.list_artifacts(run.info.run_id) == []
    assert {names.HOST, names.HOW, names.SCHEMA, names.WEIGHTS_SHA256} <= run.data.tags.keys()


# What a launch does not do


def test_a_second_launch_trains_nothing_and_prints_the_same(done, no_training):
    lab, first = done
    runs = {name: run.to_dictionary() for name, run in lab.children().items()}
    again = lab.launch()
    assert (again.status, again.out) == (0, first.out)
    assert again.err.splitlines() == [
        "smoke: profile smoke-1 (the study's own), data cluttershapes, cpu; 0 of 2 runs to do",
        first.err.splitlines()[-1],
    ]
    assert {name: run.to_dictionary() for name, run in lab.children().items()} == runs
    assert len(lab.parents()) == 1


def test_a_dry_run_creates_nothing(empty_lab, no_training):
    said = empty_lab.launch("--dry-run")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[0].endswith(("s", "min"))
    assert [line.split()[:3] for line in said.out.splitlines()[3:]] == [["arl", "s0", "new"], ["nal", "s0", "new"]]
    assert empty_lab.listing() == {}
    assert os.listdir(".") == ["lab"], "nor in the folder it was started from"


def test_a_dry_run_beside_a_store_changes_nothing(done, no_training):
    lab, _ = done
    before = lab.listing()
    said = lab.launch("--dry-run")
    assert [line.split()[:3] for line in said.out.splitlines()[3:]] == [["arl", "s0", "done"], ["nal", "s0", "done"]]
    assert lab.listing() == before
    assert os.listdir(".") == []


def test_list_creates_nothing(empty_lab):
    said = main("--list")
    assert (said.status, said.err) == (0, "")
    expected = ("smoke", "arl_vs_nal", "Table 3", "quick-3; 3 seeds", "short-2; 5 seeds", "paper-1")
    assert all(word in said.out for word in expected)
    assert empty_lab.listing() == {}
    assert os.listdir(".") == ["lab"]


# Which runs


def test_seeds_and_cells(lab):
    first = lab.launch("--seeds", "3,4", "--cells", "learning=nal")
    assert first.status == 0
    assert sorted(lab.children()) == ["nal s3", "nal s4"]
    said = lab.launch("--seeds", "3", "--cells", "learning=arl")
    assert said.status == 0
    assert sorted(lab.children()) == ["arl s3", "nal s3", "nal s4"]
    (parent,) = lab.parents()
    study = json.loads(lab.artifact(parent, names.STUDY_JSON).read_text())
    assert sorted({run["seed"] for run in study["runs"]}) == [3, 4], "what an earlier launch listed stays listed"
    row = next(line for line in first.out.splitlines() if line.startswith("NAL"))
    errors = [lab.children()[f"nal s{seed}"].data.metrics[names.FINAL_TEST_ERR] for seed in (3, 4)]
    assert f"{statistics.fmean(errors):.2f}" in row
    ours = next(line for line in said.out.splitlines() if line.startswith("ARL"))
    assert " 1/2 " in ours, "of the two that were launched; of the plan there is none"
    assert not [line for line in said.out.splitlines() if line.startswith("NAL")]
    assert "Not shown: 1 of 2 cells, which --cells did not choose." in " ".join(said.out.split())
    whole = lab.artifact(parent, "results/table.txt").read_text()
    assert "NAL" in whole
    assert "Not shown" not in whole


def costless(table):
    """A table without the minutes that it cost."""
    return re.sub(r"Cost: \S+ \w+", "", " ".join(table.split()))


@pytest.mark.slow
def test_two_shards_complete_the_study(lab, done):
    first = lab.launch("--shard", "1/2")
    assert (first.status, sorted(lab.children())) == (0, ["arl s0"])
    assert "\N{EN DASH}" in first.out, "what is missing is a dash"
    second = lab.launch("--shard", "2/2")
    assert (second.status, sorted(lab.children())) == (0, ["arl s0", "nal s0"])
    assert costless(second.out) == costless(done[1].out)
    assert len(lab.parents()) == 1


@pytest.mark.slow
def test_rerun_replaces_what_was_done_and_only_what_is_chosen(lab):
    lab.launch()
    before = lab.children()
    weights = lab.weights("arl s0")
    said = lab.launch("--rerun", "--cells", "learning=arl")
    assert said.status == 0
    after = lab.children()
    assert after["arl s0"].info.run_id != before["arl s0"].info.run_id
    assert after["nal s0"].info.run_id == before["nal s0"].info.run_id
    assert after["arl s0"].data.tags[names.RESUMES] == "0"
    assert same_bits(lab.weights("arl s0"), weights)


@pytest.mark.slow
def test_overrides_make_another_parent_and_never_mix(lab):
    arl = ("--cells", "learning=arl")
    plain = lab.launch(*arl)
    other = lab.launch("--optim.lr", "0.05", *arl)
    assert other.status == 0
    assert len(lab.parents()) == 2
    assert {p.data.tags[names.OVERRIDES] for p in lab.parents()} == {"{}", '{"optim.lr": 0.05}'}
    runs = [run for run in lab.all_runs() if names.FINGERPRINT in run.data.tags]
    assert len({run.data.tags[names.FINGERPRINT] for run in runs}) == len(runs) == 2
    assert "0.05" in other.out, "the caption names the overrides"
    assert costless(lab.launch(*arl).out) == costless(plain.out)
    # One that stays outside the fingerprint is none.
    assert "0 of 1 runs" in lab.launch("--train.evals", "3", *arl).err
    assert len(lab.parents()) == 2
    # Nor is the value that the profile has anyway.
    assert "0 of 1 runs" in lab.launch("--train.steps", "6", *arl).err
    assert len(lab.parents()) == 2


@pytest.mark.slow
def test_a_users_own_study_shares_its_runs_with_others(lab, monkeypatch):
    path = lab.study(mine())
    said = lab.launch(study=path)
    assert said.status == 0
    assert "A study of my own" in said.out
    assert sorted(lab.children()) == ["0.1 s0", "0.2 s0"]
    (parent,) = lab.parents()
    assert parent.data.tags[MLFLOW_RUN_NOTE].endswith("\n\n---\n\nWhat the user wrote about it.")
    assert lab.children()["0.2 s0"].data.params["optim.lr"] == "0.2"

    # smoke's ARL cell has the default rate, 0.1: it is trained already.
    monkeypatch.setattr(execute, "train", _NoTraining())
    said = lab.launch("--cells", "learning=arl")
    assert "0 of 1 runs to do" in said.err
    assert said.status == 0
    assert sorted(lab.children()) == ["0.1 s0", "0.2 s0"]
    assert len(lab.parents()) == 2
    err = lab.children()["0.1 s0"].data.metrics[names.FINAL_TEST_ERR]
    assert f"{err:.2f}" in next(line for line in said.out.splitlines() if line.startswith("ARL"))


@pytest.mark.slow
def test_any_short_name_will_do(lab):
    """MLflow refuses some characters in the names of metrics; a study's author need not know."""
    study = mine().replace('"optim.lr"', '"optim.lr", short={0.1: "10 % @[x]", 0.2: "a=1,b=../é"}.get')
    said = lab.launch(study=lab.study(study))
    assert said.status == 0, said.err
    assert sorted(lab.children()) == ["10 % @[x] s0", "a=1,b=../é s0"]


# Failures and divergences

RAISES = """
import os

from ran.models.masks import MASK_ACTIVATIONS

@MASK_ACTIVATIONS.register("raises")
def raises(z):
    if not (z.is_meta or os.environ.get("MENDED")):
        raise RuntimeError("the user's mistake\\nwith more lines")
    return z.sigmoid()
"""


def test_a_failing_cell_leaves_the_others_alone(lab, user_module, monkeypatch):
    path, module = lab.study(FAILING), user_module("users_masks", RAISES)
    said = lab.launch("--import", module, study=path)
    assert said.status == 1
    failed, fine = lab.children()["raises s0"], lab.children()["mixed s0"]
    assert (failed.data.tags[names.OUTCOME], failed.info.status) == (names.FAILED, "FAILED")
    assert failed.data.tags[names.REASON] == "RuntimeError: the user's mistake"
    assert "the user's mistake" in lab.artifact(failed, "traceback.txt").read_text()
    assert fine.data.tags[names.OUTCOME] == names.FINISHED
    assert "raises s0: failed: RuntimeError: the user's mistake" in said.err.splitlines()
    assert "users_masks.py:9 in raises: raise RuntimeError(" in said.err
    assert said.err.splitlines()[-1] == "1 of 2 runs are left; the same command continues"
    assert not failed.data.metrics.keys() & {names.TRAIN_LOSS}
    assert "Traceback" not in said.err
    assert "failed 1/1" in next(line for line in said.out.splitlines() if line.startswith("raises"))

    with monkeypatch.context() as patch:  # it is not tried again by itself
        patch.setattr(execute, "train", _NoTraining())
        again = lab.launch("--import", module, study=path)
    assert again.status == 1
    assert "0 of 2 runs to do" in again.err
    assert "raises s0: failed before: RuntimeError: the user's mistake (--retry-failed tries it again)" in again.err

    monkeypatch.setenv("MENDED", "1")  # what failed was not the code, whose change would make another run
    retried = lab.launch("--import", module, "--retry-failed", study=path)
    assert retried.status == 0, retried.err
    run = lab.children()["raises s0"]
    assert run.info.run_id == failed.info.run_id
    assert (run.data.tags[names.OUTCOME], run.info.status) == (names.FINISHED, "FINISHED")
    assert names.REASON not in run.data.tags
    assert lab.each_point_once("raises s0")


def test_a_cell_that_cannot_be_built_is_refused_at_once(lab, user_module):
    module = user_module(
        "users_broken",
        RAISES.replace('not (z.is_meta or os.environ.get("MENDED"))', "True").replace("raises", "broken"),
    )
    before = lab.listing()
    said = lab.launch("--import", module, study=lab.study(FAILING.replace("raises", "broken")))
    assert said.status == 2
    assert len(said.err.splitlines()) == 1
    assert "the user's mistake" in said.err
    assert before.keys() <= lab.listing().keys()
    assert not lab.checkpoints.exists()


def test_divergence_is_a_result(lab, monkeypatch):
    path = lab.study(mine([1e30, 0.1]))
    said = lab.launch(study=path)
    assert said.status == 0
    run = lab.children()["1e+30 s0"]
    assert (run.data.tags[names.OUTCOME], run.info.status) == (names.DIVERGED, "FINISHED")
    assert run.data.tags[names.REASON].startswith("loss not finite by step ")
    assert run.data.metrics[names.DIVERGED_STEP] == int(run.data.tags[names.REASON].split()[-1])
    assert names.FINAL_TEST_ERR not in run.data.metrics
    assert all(abs(value) < 1e300 for values in lab.points(run).values() for _, value in values)
    assert "div. 1/1" in next(line for line in said.out.splitlines() if line.startswith("1e+30"))
    monkeypatch.setattr(execute, "train", _NoTraining())
    for flags in ((), ("--retry-failed",)):
        again = lab.launch(*flags, study=path)
        assert (again.status, again.out) == (0, said.out)


# Cut off and continued


def start_slowly(lab: Lab, *arguments: str, steps: int = 3):
    """A launch in a process of its own, which has taken a few steps of its run, and soon waits for `lab.go()`."""
    (lab.folder / "slow_steps.py").write_text(SLOW)
    lab.hold(steps + 2)
    process = lab.start(*STEPS, "--import", "slow_steps", *arguments)
    wait_for(lambda: lab.steps() and lab.steps()[-1] >= steps, process)
    return process


def finish(lab: Lab, whole: Lab, resumes: str = "1") -> None:
    """Continues the run and compares it with the one that was not interrupted."""
    said = lab.launch(*STEPS)
    assert said.status == 0, said.err
    run = lab.children()["arl s0"]
    assert run.data.tags[names.RESUMES] == resumes
    assert run.data.tags[names.OUTCOME] == names.FINISHED
    assert names.REASON not in run.data.tags
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))
    assert lab.comparable("arl s0") == whole.comparable("arl s0")
    assert lab.each_point_once("arl s0")
    assert lab.steps() == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [
    (signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_signal_stops_after_a_checkpoint(number, status, lab, whole):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and so by what is started
    process = start_slowly(lab)
    signal.signal(signal.SIGHUP, before)
    process.send_signal(number)
    lab.go()
    out, err = process.communicate(timeout=180)
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert "stopping after a checkpoint; a second Ctrl-C or SIGTERM stops at once" in err
    assert err.splitlines()[-1] == "1 of 1 runs are left; the same command continues"
    assert ("Smoke test" in out) is (status == 130), "who sends SIGTERM waits for no table"
    run = lab.children()["arl s0"]
    assert (run.data.tags[names.OUTCOME], run.info.status) == (names.KILLED, "KILLED")
    step = int(run.data.tags[names.REASON].removeprefix("stopped at step ").removesuffix("/20"))
    assert 3 <= step < 20
    dry = lab.launch(*STEPS, "--dry-run")
    assert f"resumable at step {step}" in dry.out
    finish(lab, whole)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_run(lab, whole):
    process = start_slowly(lab)
    process.kill()
    process.communicate(timeout=180)
    run = lab.children()["arl s0"]
    assert (names.OUTCOME in run.data.tags, run.info.status) == (False, "RUNNING")
    finish(lab, whole)


def signal_at(step: int, *numbers: int):
    """A reporter that sends this process signals at a step, as the kernel would."""

    class Signals(PlainReporter):
        def step(self, name, now):
            super().step(name, now)
            if now == step:
                for number in numbers:
                    os.kill(os.getpid(), number)

    return Signals


def test_a_hangup_writes_a_checkpoint_unless_nohup_ignores_it(lab, whole, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started the tests
    try:
        with monkeypatch.context() as patch:
            patch.setattr(launching, "reporter", signal_at(7, signal.SIGHUP))
            assert lab.launch(*STEPS).status == 129
            assert lab.children()["arl s0"].data.tags[names.REASON] == "stopped at step 7/20"
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            patch.setattr(launching, "reporter", signal_at(9, signal.SIGHUP))
            assert lab.launch(*STEPS).status == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 7, pytest.param(19, marks=pytest.mark.slow)])
def test_sigterm(step, lab, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", signal_at(step, signal.SIGTERM))
        said = lab.launch(*STEPS)
    assert said.status == 143
    assert said.err.splitlines()[-1] == "1 of 1 runs are left; the same command continues"
    assert lab.children()["arl s0"].data.tags[names.REASON] == f"stopped at step {step}/20"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the handlers of before are back"
    finish(lab, whole)


@pytest.mark.slow
def test_a_signal_in_the_last_step_leaves_the_evaluation_to_the_next_launch(lab, whole, monkeypatch):
    """An evaluation can take longer than Slurm or Kubernetes wait."""
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", signal_at(20, signal.SIGINT))
        said = lab.launch(*STEPS)
    assert said.status == 130
    run = lab.children()["arl s0"]
    assert run.data.tags[names.REASON] == "stopped in the evaluation after step 20/20"
    assert lab.steps()[-1] == 20
    finish(lab, whole)


@pytest.mark.slow
def test_a_second_signal_stops_at_once(lab, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", signal_at(5, signal.SIGINT, signal.SIGINT))
        said = lab.launch(*STEPS)
    assert said.status == 130
    assert said.err.splitlines()[-1].startswith("run_ablation: stopped at once; the same command continues")
    run = lab.children()["arl s0"]
    assert (run.data.tags[names.OUTCOME], run.info.status) == (names.KILLED, "KILLED")
    assert lab.steps() == []
    finish(lab, whole)


def test_a_signal_between_two_runs_starts_no_other(lab, monkeypatch):
    class AfterTheFirst(PlainReporter):
        def run_ends(self, name, text):
            super().run_ends(name, text)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(launching, "reporter", AfterTheFirst)
    said = lab.launch()
    assert said.status == 130
    assert list(lab.children()) == ["arl s0"]
    assert said.err.splitlines()[-1] == "1 of 2 runs are left; the same command continues"
    said = lab.launch("--rerun")
    assert said.status == 130
    assert said.err.splitlines()[-1] == (
        "1 of 2 runs are left; the same command trains all of them anew, and without --rerun it goes on with what was "
        "begun"
    )


@pytest.mark.slow
def test_a_finished_run_whose_checkpoint_was_left_is_done(lab, whole, monkeypatch):
    """Killed after the outcome was written and before the folder was removed."""
    monkeypatch.setattr(execute, "tidy", lambda *args: None)
    lab.launch(*STEPS)
    assert lab.steps()[-1] == 20
    assert "0 of 1 runs to do" in lab.launch(*STEPS).err


# Two at once


@pytest.mark.slow
@pytest.mark.parametrize("store", ["migrated", "fresh"])
def test_two_launches_at_once(store, empty_lab, migrated_store):
    if store == "migrated":
        shutil.copy(migrated_store, empty_lab.store)
    (empty_lab.folder / "slow_steps.py").write_text(SLOW)
    processes = [empty_lab.start("--import", "slow_steps") for _ in range(2)]
    ended = [process.communicate(timeout=240) for process in processes]
    for process, (_, err) in zip(processes, ended, strict=True):
        assert "Traceback" not in err
        assert process.returncode == 0, err
    assert ended[0][0] == ended[1][0], "both wait for the last run and print the whole table"
    children = empty_lab.children()  # each name once
    assert sorted(children) == ["arl s0", "nal s0"]
    assert {run.data.tags[names.OUTCOME] for run in children.values()} == {names.FINISHED}
    assert {run.data.tags[names.RESUMES] for run in children.values()} == {"0"}
    assert len(empty_lab.parents()) == 1
    started = sum(err.count(": start") for _, err in ended)
    assert started == 2, "no run trains twice"
    assert empty_lab.launch().status == 0


def test_a_look_at_a_store_that_is_being_created_waits_for_it(tmp_path, monkeypatch):
    """Else MLflow makes the tables that are not there yet a second time, and both fail."""
    path, order = tmp_path / "new.db", []
    monkeypatch.setattr(Store, "__init__", lambda self, uri: order.append("is looked at"))
    with FileLock(f"{path}.lock", is_singleton=False):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        look = threading.Thread(target=Store.peek, args=(f"sqlite:///{path}",))
        look.start()
        look.join(0.5)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript("CREATE TABLE experiments (name TEXT); INSERT INTO experiments VALUES ('Default')")
        order.append("is whole")
    look.join()
    assert order == ["is whole", "is looked at"]


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["dies", pytest.param("finishes", marks=pytest.mark.slow)])
def test_a_run_that_another_launch_holds_is_waited_for(ends, lab, whole, monkeypatch):
    """The lock of its folder, which the kernel releases with its process, and its result, if it comes to one."""
    folder = lab.checkpoints / whole.children()["arl s0"].data.tags[names.FINGERPRINT][:16]
    folder.mkdir(parents=True)
    lock = FileLock(folder / "lock", is_singleton=False)
    lock.acquire()
    polls = []

    def pause(seconds, stop):
        polls.append(seconds)
        if len(polls) == 3:
            if ends == "finishes":
                elsewhere = ("--checkpoints", str(lab.folder / "elsewhere"))
                assert main("--study", "smoke", *lab.places(), *STEPS, *elsewhere).status == 0
            lock.release()

    monkeypatch.setattr(run_plan, "pause", pause)
    said = lab.launch(*STEPS)
    assert said.status == 0, said.err
    assert len(polls) == 3
    assert said.err.count(": start") == (1 if ends == "dies" else 0)
    assert list(lab.children()) == ["arl s0"]
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))


def test_nothing_is_left_in_the_repository(done):
    assert in_the_repository() == BEFORE


def test_what_a_dry_run_waits_for(tmp_path):
    """Seconds of imports that it has no use for: MLflow without a store, and torch's compiler."""
    code = (
        "import sys, run_ablation; "
        "status = run_ablation.main(['--study', 'smoke', '--dry-run']); "
        "print(status, [name for name in ('mlflow', 'torch._dynamo', 'optuna', 'pandas') if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )  # fmt: skip
    assert said.stdout.splitlines()[-1] == "0 []", said.stderr
    assert list(tmp_path.iterdir()) == [], "no kernels are built where none are asked for"


@pytest.mark.slow
@pytest.mark.parametrize("behind", ["2>&1 | head -1", "| head -1", "<&- >&- 2>&-", "<&-"])
def test_a_launch_ends_well_whatever_becomes_of_its_streams(behind, lab):
    """Piped into head, which leaves before anything is trained, or without streams, as by cron."""
    command = shlex.join([sys.executable, str(ROOT / "run_ablation.py"), "--study", "smoke", *lab.places()])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"}
    shell = ["bash", "-o", "pipefail", "-c", f"{command} --workers 1 {behind}"]
    done = subprocess.run(shell, cwd=lab.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1 or "| head" not in behind
    assert {run.data.tags[names.OUTCOME] for run in lab.children().values()} == {names.FINISHED}
    assert len(lab.children()) == 2


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user")
@pytest.mark.parametrize("home", ["HOME", "HOME=/"])
def test_a_user_without_a_name_and_a_home(home):
    """As of `docker run --user 12345`; reading is allowed, since the tests' own Python may lie in a folder of root's.

    no_setuid_fixup: access(2), which Alembic asks, would drop what is allowed for a user who is not root.
    """
    changed = [word for name in ("USER", "LOGNAME", *([home] if home == "HOME" else [])) for word in ("-u", name)]
    behind = ["env", *changed, *([home] if "=" in home else []), "setpriv", "--reuid=12345", "--regid=12345"]
    behind += ["--clear-groups", "--securebits=+no_setuid_fixup"]
    behind += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are private
        os.chown(folder, 12345, 12345)
        lab = Lab(Path(folder))
        launch = lab.start("--workers", "1", behind=behind)
        _, err = launch.communicate()
        assert launch.returncode == 0, err
        assert {run.data.tags[MLFLOW_USER] for run in lab.children().values()} == {"uid12345"}
