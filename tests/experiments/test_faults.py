"""Faults of one run, of the disk and of the store's file: told in one line, and nothing lost."""

import contextlib
import functools
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import psutil
import pytest
from lab import FAILING, STEPS, Lab, mine, same_bits, wait_for
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from experiments import launch as launching
from experiments.console.progress import PlainReporter
from experiments.runner import run_dir, settings
from experiments.runner.run_dir import ATTEMPT
from experiments.tracking import parents, provenance, run_log
from experiments.tracking.errors import StoreUnavailable
from experiments.tracking.spool import SPOOL
from experiments.tracking.store import Store
from ran import tensor_file
from records import names


@pytest.fixture
def often(monkeypatch):
    """A checkpoint, and so a delivery, at every step."""
    monkeypatch.setattr(settings, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(run_log, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(launching, "LAST_WAIT", 0.0)


def at_step(number, action):
    class Acts(PlainReporter):
        def step(self, name, step):
            super().step(name, step)
            if step == number:
                action()

    return Acts


def as_undisturbed(lab, whole, resumes="0"):
    run = lab.children()["arl s0"]
    assert (run.data.tags[names.OUTCOME], run.info.status) == (names.FINISHED, "FINISHED")
    assert run.data.tags[names.RESUMES] == resumes
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))
    assert lab.comparable("arl s0") == whole.comparable("arl s0")
    assert lab.each_point_once("arl s0")
    # A finished study's folder is small.
    assert [(path.name, path.stat().st_size) for path in lab.checkpoints.iterdir()] == [("launch.lock", 0)]


# One run


@pytest.mark.parametrize(("error", "says"), [
    ("torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')", "OutOfMemoryError: CUDA out of"),
    pytest.param("MemoryError()", "MemoryError", marks=pytest.mark.slow),
], ids=["cuda", "python"])  # fmt: skip
def test_out_of_memory_fails_its_run_alone(error, says, lab, user_module):
    module = user_module(
        "users_masks",
        f"""
import logging, torch
from ran.models.masks import MASK_ACTIVATIONS
calls = []

@MASK_ACTIVATIONS.register("raises")
def raises(z):
    calls.append(1)
    if not z.is_meta and len(calls) > 22:
        logging.getLogger("mine").warning("it is getting tight")
        raise {error}
    return z.sigmoid()
""",
    )
    said = lab.launch("--import", module, study=lab.study(FAILING))
    assert said.status == 1
    assert "Traceback" not in said.err
    run = lab.children()["raises s0"]
    assert (run.data.tags[names.OUTCOME], run.info.status) == (names.FAILED, "FAILED")
    assert run.data.tags[names.REASON].startswith(says)
    tail = lab.artifact(run, "log_tail.txt").read_text()
    assert "it is getting tight" in tail
    assert "step 1: train/loss" in tail
    assert names.TRAIN_LOSS not in run.data.metrics, "no checkpoint has these steps: mended code computes them anew"
    lines = said.err.splitlines()
    place = lines[next(i for i, line in enumerate(lines) if line.startswith("raises s0: failed")) + 1]
    assert "users_masks.py:11 in raises: raise " in place
    assert lab.children()["mixed s0"].data.tags[names.OUTCOME] == names.FINISHED


DEADLY = """
import os
import signal

import experiments.launch
from experiments.console.progress import PlainReporter


class Deadly(PlainReporter):
    def step(self, name, step):
        super().step(name, step)
        if step == {step}:
            os.kill(os.getpid(), signal.SIGKILL)


experiments.launch.reporter = Deadly
"""


def die_in(lab, step):
    """A launch whose process is killed at a step."""
    (lab.folder / "deadly.py").write_text(DEADLY.format(step=step))
    process = lab.start(*STEPS, "--import", "deadly")
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, err


@pytest.mark.slow
def test_a_run_that_kills_its_process_each_time_fails_and_lets_others_go_on(lab, whole):
    """As one that is too large for the machine: the kernel leaves no exception behind."""
    for deaths in range(run_dir.MAX_DEATHS):
        die_in(lab, 5)
        (path,) = lab.checkpoints.glob(f"*/{ATTEMPT}")
        assert json.loads(path.read_text()).items() >= {"step": 0, "deaths": deaths}.items()
    said = lab.launch("--train.steps", "20", "--train.evals", "4")
    assert said.status == 1
    run = lab.children()["arl s0"]
    assert run.data.tags[names.OUTCOME] == names.FAILED
    assert run.data.tags[names.REASON] == (
        "DiedError: 3 processes in a row died in it without a step of progress; out of memory?"
    )
    assert lab.children()["nal s0"].data.tags[names.OUTCOME] == names.FINISHED
    assert lab.launch(*STEPS, "--retry-failed").status == 0
    as_undisturbed(lab, whole, resumes="4")


def test_deaths_with_progress_between_them_are_no_failure(tmp_path):
    for step in (0, 10, 20, 30, 40):
        assert run_dir.begin_attempt(tmp_path, step, launch="l", again=False) == min(step, 1)
    run_dir.end_attempt(tmp_path)
    assert run_dir.begin_attempt(tmp_path, 40, launch="l", again=False) == 0
    assert [run_dir.begin_attempt(tmp_path, 40, launch="l", again=False) for _ in range(3)] == [1, 2, 3]
    assert run_dir.begin_attempt(tmp_path, 40, launch="other", again=True) == 0
    (tmp_path / ATTEMPT).write_text("{")
    assert run_dir.begin_attempt(tmp_path, 40, launch="l", again=False) == 1


def test_deaths_count_in_a_launch_that_tries_failed_runs_again(tmp_path):
    """--retry-failed and --rerun forget those of other launches; a deadly run still ends after three."""
    assert [run_dir.begin_attempt(tmp_path, 0, launch="l", again=False) for _ in range(3)] == [0, 1, 2]
    assert [run_dir.begin_attempt(tmp_path, 0, launch="m", again=True) for _ in range(4)] == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_parent_deleted_while_its_runs_train_stops_none_of_them(lab, monkeypatch):
    delete = at_step(3, lambda: [lab.client.delete_run(parent.info.run_id) for parent in lab.parents()])
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", delete)
        said = lab.launch()
    assert said.status == 0, said.err
    assert "no table: " in said.err
    assert {run.data.tags[names.OUTCOME] for run in lab.children().values()} == {names.FINISHED}
    assert "ARL" in lab.launch().out, "the next launch makes another"


@pytest.mark.slow
def test_a_right_that_is_taken_away_and_given_back_loses_nothing(lab, whole, often, monkeypatch):
    """As a token that runs out in a long run: MLflow answers, and refuses for now."""
    denied = MlflowException("no right", error_code=PERMISSION_DENIED)
    mends = []
    actions = {7: lambda: mends.append(break_store(denied)), 14: lambda: mends.pop()()}

    class Acts(PlainReporter):
        def step(self, name, step):
            super().step(name, step)
            actions.get(step, lambda: None)()

    monkeypatch.setattr(launching, "reporter", Acts)
    said = lab.launch(*STEPS)
    assert said.status == 0, said.err
    as_undisturbed(lab, whole)


# Signals


def children_seconds() -> float:
    """What the processors have spent on this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 1.3, 3.7])
def test_sigterm_is_obeyed_within_ten_seconds(after, lab):
    """Of the deepest network of the profile quick, while it trains and evaluates. Slurm and Kubernetes wait 30 s.

    To the ten seconds comes the step or the evaluation batch that is under way, up to 5 s on a slow core. The process's
    own time is taken, for this may be a busy machine.
    """
    one = ("--profile", "quick", "--cells", "depth=164,learning=arl", "--seeds", "0", "--train.evals", "50", "--yes")
    process = lab.start(*one, study="arl_vs_nal")
    wait_for(lambda: list(lab.checkpoints.glob(f"*/{ATTEMPT}")), process)
    time.sleep(after)
    used = psutil.Process(process.pid).cpu_times()
    before = used.user + used.system + children_seconds()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert children_seconds() - before < 15
    assert "the same command continues" in err


# The store's file


def test_a_study_json_that_cannot_be_read_is_never_overwritten(lab, monkeypatch):
    """What it lists (seeds of earlier launches) would be lost."""
    path = lab.study(mine())
    assert lab.launch("--seeds", "0", study=path).status == 0
    (parent,) = lab.parents()
    before = lab.artifact(parent, names.STUDY_JSON).read_text()

    def away(self, run_id, name, folder):
        raise StoreUnavailable("the tracking store is away")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "download", away)
        said = lab.launch("--seeds", "1", study=path)
    assert (said.status, "the tracking store is away" in said.err) == (2, True)
    assert lab.artifact(parent, names.STUDY_JSON).read_text() == before


@pytest.mark.slow
def test_a_busy_store_is_waited_for(lab, whole, often, monkeypatch):
    """SQLite's write lock is held for a second from the moment that a run wants to write."""
    waits, log_points = threading.Event(), Store.log_points

    def lock():
        connection = sqlite3.connect(lab.store, check_same_thread=False, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")

        def release():
            assert waits.wait(60)
            time.sleep(1)
            connection.execute("ROLLBACK")
            connection.close()

        def waiting(*arguments):
            waits.set()
            log_points(*arguments)

        monkeypatch.setattr(Store, "log_points", waiting)
        threading.Thread(target=release).start()

    monkeypatch.setattr(launching, "reporter", at_step(7, lock))
    said = lab.launch(*STEPS)
    assert said.status == 0, said.err
    assert waits.is_set()
    as_undisturbed(lab, whole)


def break_store(error):
    """From now on each write to the store fails; returns what mends it."""
    patch = pytest.MonkeyPatch()

    def fail(*arguments, **options):
        raise error

    for method in ("log_batch", "log_artifact", "set_terminated", "create_run", "update_run"):
        patch.setattr(f"mlflow.MlflowClient.{method}", fail)
    return patch.undo


ERRORS = [sqlite3.OperationalError("attempt to write a readonly database"), OSError(28, "No space left on device")]


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS, ids=["read-only", "full"])
def test_a_store_that_cannot_be_written_for_a_while(error, lab, whole, often, monkeypatch):
    mends = []
    actions = {7: lambda: mends.append(break_store(error)), 14: lambda: mends.pop()()}

    class Acts(PlainReporter):
        def step(self, name, step):
            super().step(name, step)
            actions.get(step, lambda: None)()

    monkeypatch.setattr(launching, "reporter", Acts)
    said = lab.launch(*STEPS)
    assert said.status == 0, said.err
    as_undisturbed(lab, whole)


@pytest.mark.slow
@pytest.mark.parametrize("error", [
    ERRORS[0], pytest.param(ERRORS[1], marks=pytest.mark.slow),
], ids=["read-only", "full"])  # fmt: skip
def test_a_store_that_cannot_be_written_to_the_end(error, lab, whole, often, monkeypatch):
    mends = []
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", at_step(7, lambda: mends.append(break_store(error))))
        said = lab.launch(*STEPS)
    mends.pop()()
    assert said.status == 1
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith("the tracking store does not answer: the logs of 1 run(s) are kept in ")
    assert list(lab.checkpoints.glob(f"*/{SPOOL}"))
    again = lab.launch(*STEPS)
    assert again.status == 0, again.err
    assert "0 of 1 runs to do" in again.err
    as_undisturbed(lab, whole)


@pytest.mark.slow
def test_answers_that_are_lost_write_nothing_twice(lab, whole, often, monkeypatch):
    """Three writes in ten are done and then reported as failed, as by a server that dies before it answers."""
    chance, lost = random.Random(1), []
    for method in ("log_batch", "log_artifact", "set_terminated", "create_run"):
        real = getattr(launching.Store.open(lab.uri).client.__class__, method)

        def loses(*arguments, _real=real, **options):
            result = _real(*arguments, **options)
            if chance.random() < 0.3:
                lost.append(1)
                raise ConnectionResetError("Connection reset by peer")
            return result

        monkeypatch.setattr(f"mlflow.MlflowClient.{method}", loses)
    monkeypatch.setattr(launching, "LAST_WAIT", 60.0)
    monkeypatch.setattr("experiments.runner.delivery.RETRY_SECONDS", 0.0)
    monkeypatch.setattr(parents, "open_study", functools.partial(_until_it_answers, parents.open_study))
    said = lab.launch(*STEPS)
    assert said.status == 0, said.err
    assert len(lost) > 5
    as_undisturbed(lab, whole)


def _until_it_answers(function, *arguments, **options):
    while True:
        try:
            return function(*arguments, **options)
        except StoreUnavailable:
            continue


# The disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system of its own needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("places", ["checkpoints", pytest.param("all", marks=pytest.mark.slow)])
def test_a_full_disk_stops_the_launch_and_loses_nothing(
    places, small_disk, lab, whole, often, migrated_store, monkeypatch
):
    """Checkpoints alone, or with the store and its artifacts, on a disk that fills up at step 7."""
    if places == "all":
        lab = Lab(small_disk)
        shutil.copy(migrated_store, lab.store)
    arguments = (*STEPS, "--checkpoints", str(small_disk / "checkpoints"))
    filler = small_disk / "filler"

    def fill():
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)

    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", at_step(7, fill))
        said = lab.launch(*arguments)
    assert said.status == 1
    assert "Traceback" not in said.err
    assert "No space left on device" in said.err
    assert said.err.splitlines()[-1].startswith(("1 of 1 runs are left", "the tracking store is away"))
    kept = [int(path.stem[5:]) for path in small_disk.glob("checkpoints/*/step-*")]
    assert max(kept) == 6, "the last one written before"
    assert sqlite3.connect(lab.store).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    filler.unlink()
    said = lab.launch(*arguments)
    assert said.status == 0, said.err
    run = lab.children()["arl s0"]
    assert run.data.tags[names.RESUMES] == "1"
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))
    assert lab.comparable("arl s0") == whole.comparable("arl s0")
    assert lab.each_point_once("arl s0")


# What stays


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "steps"), [("last", [20, 19]), ("all", list(range(20, 0, -1)))])
def test_retention(keep, steps, lab, often):
    assert lab.launch(*STEPS, "--keep", keep).status == 0
    assert lab.steps() == sorted(steps)
    assert not list(lab.checkpoints.glob("*/artifacts"))
    assert lab.launch(*STEPS).status == 0
    assert lab.steps() == sorted(steps), "a later launch leaves what was to stay"
    run = lab.children()["arl s0"]
    weights = lab.artifact(run, names.WEIGHTS)
    assert tensor_file.read_metadata(weights).keys() == {"fingerprint", "sha256", names.CONFIG_JSON, names.MODEL_JSON}
    assert run.data.tags[names.WEIGHTS_SHA256] == tensor_file.tensors_sha256(tensor_file.read_tensors(weights))


def test_an_unknown_retention_is_refused(lab):
    said = lab.launch("--keep", "some")
    assert (said.status, len(said.err.splitlines())) == (2, 1)
    assert "Valid: final, last, all" in said.err


# What cadence has to do with it: nothing


@pytest.mark.parametrize("changes", [
    ("--train.evals", "7"), ("--train.evals", "0"), ("--keep", "all"), ("--shard", "1/1"),
], ids=" ".join)  # fmt: skip
@pytest.mark.slow
def test_continued_in_another_way_the_weights_are_the_same(changes, lab, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", at_step(7, lambda: os.kill(os.getpid(), signal.SIGTERM)))
        assert lab.launch(*STEPS).status == 143
    assert lab.launch(*STEPS, *changes).status == 0
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))


# Secrets


def test_a_password_in_the_uri_is_never_shown(lab, caplog):
    uri = "http://me:hunter2@127.0.0.1:9"
    said = lab.launch("--tracking-uri", uri)
    assert said.status == 2
    assert "http://me:***@127.0.0.1:9" in said.err
    assert "hunter2" not in said.err + said.out + caplog.text


@pytest.mark.slow
def test_reasons_and_tracebacks_carry_no_secrets(lab, user_module):
    module = user_module(
        "users_masks",
        """
from ran.models.masks import MASK_ACTIVATIONS

@MASK_ACTIVATIONS.register("raises")
def raises(z):
    if not z.is_meta:
        raise RuntimeError("cannot reach postgresql://me:hunter2@db/x with token=abcdef123")
    return z.sigmoid()
""",
    )
    said = lab.launch("--import", module, study=lab.study(FAILING))
    run = lab.children()["raises s0"]
    texts = [lab.artifact(run, name).read_text() for name in sorted(lab.files(run)) if name.endswith((".txt", ".json"))]
    everything = "\n".join([said.out, said.err, *texts, *run.data.tags.values(), *run.data.params.values()])
    assert "me:***@db" in everything
    assert "hunter2" not in everything
    assert "abcdef123" not in everything


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository in the place of the project's."""
    root = tmp_path / "project"
    root.mkdir()

    def git(*arguments):
        who = ["-c", "user.name=me", "-c", "user.email=me@here"]
        subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)

    (root / provenance.OWN).parent.mkdir(parents=True)
    (root / provenance.OWN).touch()
    (root / "code.py").write_text("rate = 1\n")
    (root / ".gitignore").write_text(".env\n")
    (root / ".env").write_text("KEY=old\n")
    git("init")
    git("add", "-f", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(provenance, "ROOT", root)
    provenance.own.cache_clear()
    yield root
    provenance.own.cache_clear()


def test_a_clean_tree_leaves_no_diff(repository):
    assert provenance.diff() == b""
    assert provenance.tags()[names.GIT_DIRTY] == "false"


def test_the_diff_holds_what_was_changed_and_no_secret(repository, lab):
    (repository / "code.py").write_text('rate = 2\nurl = "https://me:hunter2@host"\napi_key = "abcdef123456"\n')
    (repository / ".env").write_text("KEY=hidden\n")
    (repository / "notes.txt").write_text("untracked\n")
    lab.launch("--cells", "learning=arl")
    run = lab.children()["arl s0"]
    assert run.data.tags[names.GIT_DIRTY] == "true"
    diff = lab.artifact(run, names.GIT_DIFF).read_text()
    assert "-rate = 1\n+rate = 2\n" in diff
    for secret in ("hunter2", "abcdef123456", "hidden", "untracked", "notes.txt", ".env"):
        assert secret not in diff, secret


def test_without_git_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    provenance.own.cache_clear()
    assert provenance.tags()[names.GIT_DIRTY] == "unknown"
    assert provenance.diff() == b""
    provenance.own.cache_clear()
