"""What cannot be used is refused: exit 2, one line that names the remedy, and nothing is made or changed."""

import io
import os
import pickle
import shutil
import sqlite3
import sys

import numpy as np
import pytest
import torch
from lab import main, mine
from safetensors.torch import save_file

import run_ablation
from experiments import cli
from ran.engine.checkpoint import read_header

FAKE_CIFAR = 40  # images a file


def refused(lab, *arguments, study="smoke", says=()):
    """Launches, and asserts that it was refused and that the folder, but for study files, is what it was."""
    before, here = lab.listing(), sorted(os.listdir("."))
    said = lab.launch(*arguments, study=study)
    assert said.status == 2, (said.out, said.err)
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    assert said.err.startswith("run_ablation: ")
    assert "Traceback" not in said.err
    for text in (says,) if isinstance(says, str) else says:
        assert text in said.err, said.err
    after = {path: size for path, size in lab.listing().items() if not path.startswith("__pycache__")}
    assert after == before
    assert sorted(os.listdir(".")) == here
    return said.err


# Every line: the arguments after `--study smoke`, and what the answer must say.
FLAGS = {
    "profile": (["--profile", "quik"], ["unknown profile 'quik'", "Did you mean 'quick'?", "smoke, quick, short"]),
    "profile of a study that has its own": (["--profile", "paper"], "always uses the profile smoke"),
    "network": (["--model.name", "attention65"], ["unknown network", "Did you mean 'attention56'?"]),
    "data set": (["--data.name", "cifar11"], ["unknown data set", "Did you mean 'cifar10'?", "cluttershapes"]),
    "mask activation": (["--model.mask-activation", "mixd"], ["unknown mask activation", "Did you mean 'mixed'?"]),
    "mask structure": (["--model.mask_structure", "encoder"], ["unknown mask structure", "'encoder_decoder'"]),
    "schedule": (["--optim.schedule", "cosin"], ["unknown schedule", "Did you mean 'cosine'?"]),
    "override key": (["--optim.lrr", "0.1"], ["--optim.lrr", "--optim.lr"]),
    "override key of a wrong group": (["--model.lr", "0.1"], "--model.lr"),
    "override key without a group": (["--lr", "0.1"], "--lr"),
    "flag": (["--dry-ruin"], "--dry-ruin"),
    "value without a flag": (["quick"], "quick"),
    "flag without a value": (["--seeds"], ["'--seeds'", "Expected 1 values. See"]),
    "override without a value": (["--train.steps"], "--train.steps"),
    "word for a number": (["--train.steps", "many"], "--train.steps takes a whole number, got 'many'."),
    "fraction for a count": (["--train.steps", "1.5"], "--train.steps takes a whole number, got '1.5'."),
    "word for a switch": (["--train.compile", "perhaps"], "perhaps"),
    "word for a factor": (["--model.width", "wide"], "--model.width takes a number, got 'wide'."),
    "word for a number that may be absent": (["--workers", "x"], "--workers takes a whole number, got 'x'."),
    "precision": (["--train.precision", "fp16"], ["train.precision", "auto, bf16, float32"]),
    "a flag misspelt": (["--seed", "1"], "Did you mean --seeds?"),
    "a flag misspelt, whose field has another name": (["--imports", "a"], "Did you mean --import?"),
    "seeds, a word": (["--seeds", "a"], ["--seeds", "'a'"]),
    "seeds, empty": (["--seeds", ""], "--seeds"),
    "seeds, negative": (["--seeds=-1"], "--seeds"),
    "seeds, negative, apart": (["--seeds", "-1"], "--seeds"),
    "seeds, a gap": (["--seeds", "1,,2"], "--seeds"),
    "seeds, a fraction": (["--seeds", "1.0"], "--seeds"),
    "seeds, a range": (["--seeds", "0-2"], "--seeds"),
    "seeds, too large": (["--seeds", str(2**63)], "seed must lie in"),
    "seeds, apart": (["--seeds", "0", "1"], "'1' belongs to no option. Lists have commas, as --seeds 0,1,2"),
    "cells, axis": (["--cells", "depth=56"], ["--cells", "axes: learning"]),
    "cells, value": (["--cells", "learning=both"], ["--cells", "arl, nal"]),
    "cells, no value": (["--cells", "learning"], ["--cells", "axis=value"]),
    "cells, empty": (["--cells", ""], "--cells"),
    "cells, one axis twice": (["--cells", "learning=arl,learning=nal"], "--cells"),
    "cells, apart": (["--cells", "learning=arl", "learning=nal"], ["'learning=nal'", "a second --cells is OR"]),
    "shard 0/2": (["--shard", "0/2"], "--shard takes i/n"),
    "shard 3/2": (["--shard", "3/2"], "--shard takes i/n"),
    "shard x": (["--shard", "x"], "--shard takes i/n"),
    "shard -1/2": (["--shard=-1/2"], "--shard takes i/n"),
    "shard 1": (["--shard", "1"], "--shard takes i/n"),
    "device": (["--device", "gpu"], ["--device", "auto, cpu, cuda"]),
    "device of another kind": (["--device", "meta"], "--device"),
    "import": (["--import", "no_such_module"], ["--import no_such_module", "ModuleNotFoundError"]),
    "import of a file": (["--import", "./my_parts.py"], ["--import ./my_parts.py", "--import my_parts, in the folder"]),
    "import of a path": (["--import", "parts/mine"], ["--import parts/mine", "--import mine, in the folder parts"]),
    "import of a relative name": (["--import", ".mine"], ["--import .mine", "--import mine"]),
    "the study's axis": (["--model.learning", "nal"], ["--model.learning", "--cells learning=..."]),
    "the study's axis, with =": (["--model.learning=nal"], "--cells learning=..."),
    "lr nan": (["--optim.lr", "nan"], "optim.lr"),
    "lr inf": (["--optim.lr", "inf"], "optim.lr"),
    "lr 0": (["--optim.lr", "0"], "optim.lr"),
    "lr negative": (["--optim.lr=-0.1"], "optim.lr"),
    "momentum nan": (["--optim.momentum", "nan"], "optim.momentum"),
    "momentum 1": (["--optim.momentum", "1"], "optim.momentum"),
    "weight decay inf": (["--optim.weight-decay", "inf"], "optim.weight_decay"),
    "label smoothing nan": (["--optim.label-smoothing", "nan"], "optim.label_smoothing"),
    "an own mask without --import": (
        ["--model.mask-activation", "mine"], ["unknown mask activation 'mine'", "give --import MODULE"],
    ),
    "an own data set without --import": (["--data.name", "mine"], ["unknown data set 'mine'", "give --import MODULE"]),
    "width nan": (["--model.width", "nan"], "model.width"),
    "width inf": (["--model.width", "inf"], "model.width"),
    "width 0": (["--model.width", "0"], "model.width"),
    "p 0": (["--model.p", "0"], "model.p"),
    "a network of a million units": (["--model.t", "1000000"], "model.t must lie in 1..100"),
    "threads without end": (["--train.threads", "1000000000"], "train.threads must lie in 1..1024"),
    "difficulty nan": (["--data.difficulty", "nan"], "data.difficulty"),
    "steps 0": (["--train.steps", "0"], "train.steps"),
    "batch of 1": (["--train.batch-size", "1"], "train.batch_size"),
    "micro batch that does not divide": (["--train.micro-batch", "5"], "train.micro_batch"),
    "threads 0": (["--train.threads", "0"], "train.threads"),
    "threads negative": (["--train.threads=-1"], "train.threads"),
    "evals negative": (["--train.evals=-1"], "train.evals"),
    "more images than there are": (["--data.train-images", "1000000"], "1000000"),
    "more test images than there are": (["--data.test-images", "1000000"], "1000000"),
    "no images": (["--data.train-images", "0"], "data.train_images"),
    "data that are not there": (["--data.name", "cifar10"], ["cifar10", "--data.root", "--data.download"]),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), FLAGS.values(), ids=FLAGS)
def test_flags(arguments, says, empty_lab):
    refused(empty_lab, *arguments, says=says)


def test_a_refusal_is_the_same_line_in_any_encoding(empty_lab, monkeypatch):
    """tyro draws its boxes by the encoding of stdout, which is none if stdout is closed."""
    expected = refused(
        empty_lab, "--dry-ruin", says="run_ablation: Unrecognized options: --dry-ruin. Did you mean --dry-run?"
    )
    for encoding in ("ascii", "cp1252", "UTF-8"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        assert run_ablation.main(["--study", "smoke", "--dry-ruin"]) == 2
        assert sys.stderr.getvalue() == expected


AT_ONCE = {case: flags for case, (flags, _) in FLAGS.items() if case != "more test images than there are"}
"""those that a dry run can tell, which reads no data"""


@pytest.mark.parametrize("arguments", AT_ONCE.values(), ids=AT_ONCE)
def test_a_dry_run_refuses_the_same(arguments, empty_lab):
    said = empty_lab.launch(*arguments, "--dry-run")
    assert (said.status, said.out, len(said.err.splitlines())) == (2, "", 1), said
    assert empty_lab.listing() == {}


STUDIES = {
    "name": ("smok", ["unknown study", "Did you mean 'smoke'?", "arl_vs_nal"]),
    "empty name": ("", "unknown study"),
    "missing file": ("nowhere/mine.py", "there is no study file nowhere/mine.py"),
}


@pytest.mark.parametrize(("study", "says"), STUDIES.values(), ids=STUDIES)
def test_studies(study, says, empty_lab):
    refused(empty_lab, study=study, says=says)


def test_no_study(empty_lab):
    from lab import main

    said = main(*empty_lab.places())
    assert (said.status, len(said.err.splitlines())) == (2, 1)
    assert "--study is missing" in said.err
    assert "smoke" in said.err


FILES = {
    "syntax error": ("STUDY = (", "SyntaxError"),
    "no STUDY": ("x = 1", "has no global STUDY"),
    "a STUDY of another type": ("STUDY = {}", "has no global STUDY"),
    "raises": ("raise KeyError('x')", "KeyError"),
    "raises without a message": ("raise ValueError", "ValueError"),
    "leaves": ("raise SystemExit(0)", "SystemExit"),
    "imports what is not there": ("import no_such_module", "no_such_module"),
    "not Python": ("\x00\x01", "mine.py"),
    "two axes of one name": (mine().replace("axes=(", "axes=(axis('rate', [1], field='optim.momentum'), "), "two axes"),
    "a field that does not exist": (mine().replace("optim.lr", "optim.rate"), ["optim.rate", "optim.lr"]),
    "a value of a wrong type": (mine(["fast"]), ["optim.lr", "'fast'"]),
    "a value out of range": (mine([-1.0]), "optim.lr"),
    "a profile that does not exist": (mine().replace('profile="smoke"', 'profile="huge"'), "unknown profile 'huge'"),
    "an axis without values": (mine([]), "rate"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "says"), FILES.values(), ids=FILES)
def test_study_files(content, says, empty_lab):
    refused(empty_lab, study=empty_lab.study(content), says=says)


def test_an_imported_module_that_raises_without_a_message(lab, user_module):
    name = user_module("silent", "raise ValueError")
    refused(lab, "--import", name, says=["--import silent", "ValueError"])


# Places


def test_a_text_file_as_store(empty_lab):
    empty_lab.store.write_text("these are my notes\n" * 100)
    refused(empty_lab, says=["cannot use the tracking store", str(empty_lab.store)])
    refused(empty_lab, "--dry-run", says="cannot use the tracking store")
    assert empty_lab.store.read_text() == "these are my notes\n" * 100


def test_another_programs_database_as_store(empty_lab):
    """MLflow would add fifty tables to it."""
    with sqlite3.connect(empty_lab.store) as connection:
        connection.execute("CREATE TABLE notes (text)")
    for flags in ((), ("--dry-run",)):
        refused(empty_lab, *flags, says=["cannot use the tracking store", "another program's database"])


@pytest.mark.parametrize(("version", "says"), [
    ("'fffffffffff1'", "a newer MLflow than the installed"), ("'451aebb31d03'", "`mlflow db upgrade URI` migrates it"),
])  # fmt: skip
def test_a_store_of_another_mlflow(version, says, lab):
    with sqlite3.connect(lab.store) as connection:
        connection.execute(f"UPDATE alembic_version SET version_num = {version}")
    connection.close()
    said = lab.launch()
    assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
    assert says in said.err
    assert ("newer" in says) != ("db upgrade" in said.err)


def test_an_empty_file_is_a_store_that_does_not_exist_yet(empty_lab):
    empty_lab.store.touch()
    assert empty_lab.launch("--dry-run").status == 0
    assert empty_lab.listing() == {"mlflow.db": 0}


@pytest.mark.parametrize("uri", [
    "sqlite:///nowhere/mlflow.db", "sqlite:////nowhere/mlflow.db", "sqlite:///.", "nonsense://store", "./runs",
    "http://127.0.0.1:9",
])  # fmt: skip
def test_stores_that_cannot_be(uri, empty_lab):
    refused(empty_lab, "--tracking-uri", uri, says=["cannot use the tracking store", uri])


NO_PRIVILEGES = ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may write anywhere")
def test_a_store_and_checkpoints_that_may_not_be_written(lab):
    before = lab.listing()
    lab.folder.chmod(0o500)
    try:
        launch = lab.start(behind=["setpriv", *NO_PRIVILEGES] if os.geteuid() == 0 else ())
        out, err = launch.communicate()
    finally:
        lab.folder.chmod(0o700)
    assert (launch.returncode, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("run_ablation: cannot use the tracking store")
    assert line.endswith("is not writable")
    assert lab.listing() == before


def test_checkpoints_that_are_a_file(lab):
    lab.checkpoints.write_text("notes")
    refused(lab, says=["--checkpoints", "is not a folder"])
    refused(lab, "--checkpoints", str(lab.checkpoints / "deeper" / "still"), says="is not a folder")


@pytest.fixture
def stopped(lab, monkeypatch):
    """A run that was stopped half way; returns the path of its checkpoint."""
    import signal

    from experiments import launch as launching
    from experiments.console.progress import PlainReporter

    class Stop(PlainReporter):
        def step(self, name, step):
            if step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", Stop)
        assert lab.launch("--cells", "learning=arl").status == 143
    (path,) = lab.checkpoints.glob("*/step-*.safetensors")
    return path


def test_a_checkpoint_of_another_configuration(lab, stopped):
    study = lab.launch("--dry-run", "--cells", "learning=nal")
    assert study.status == 0
    other = stopped.parent.with_name(_fingerprint(lab, "learning=nal")[:16])
    other.mkdir()
    shutil.copy(stopped, other / stopped.name)
    owner = read_header(stopped).fingerprint[:12]
    refused(lab, says=[str(other / stopped.name), "of another configuration", owner])
    refused(lab, "--dry-run", says="of another configuration")
    assert lab.launch("--cells", "learning=arl").status == 0, "the cell that it does not concern goes on"


def _fingerprint(lab, cell):
    import json

    from records import names

    study = json.loads(lab.artifact(lab.parents()[0], names.STUDY_JSON).read_text())
    name, _, value = cell.partition("=")
    return next(run["fingerprint"] for run in study["runs"] if run["cell"] == {name: value})


@pytest.mark.slow
def test_a_checkpoint_of_another_program(lab, stopped):
    save_file({"weight": torch.zeros(2)}, stopped)
    refused(lab, says=[str(stopped), "not a checkpoint of this version"])
    stopped.unlink()
    assert lab.launch("--cells", "learning=arl").status == 0, "as the message promises"


KINDS = ("half", "empty", "random", "pickle")


@pytest.mark.parametrize("damage", ["a bit", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS)])
def test_a_damaged_checkpoint_is_passed_over(damage, lab, stopped, caplog):
    content = stopped.read_bytes()
    flipped = bytearray(content)
    flipped[-9] ^= 1
    if damage == "pickle":
        torch.save({"step": 3}, stopped)
    else:
        kinds = {
            "half": content[: len(content) // 2],
            "empty": b"",
            "random": os.urandom(5000),
            "a bit": bytes(flipped),
        }
        stopped.write_bytes(kinds[damage])
    said = lab.launch("--cells", "learning=arl")
    assert said.status == 0, said.err
    assert [str(stopped) in message and "is damaged" in message for message in caplog.messages] == [True]
    assert "arl s0: start" in said.err, "there is none before it"


@pytest.fixture
def cifar(empty_lab):
    """A small CIFAR-10 that is not the official one; returns its folder."""
    folder = empty_lab.folder / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (FAKE_CIFAR, 3072), dtype=np.uint8)
        content = {"data": pixels, "labels": rng.integers(0, 10, FAKE_CIFAR).tolist()}
        (folder / name).write_bytes(pickle.dumps(content, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}, 2))
    return folder


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing"])
def test_damaged_images(name, damage, empty_lab, cifar, caplog):
    path = cifar / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 20 if damage == "truncated" else 0])
    sizes = ("--data.train-images", "64", "--data.val-images", "32", "--data.test-images", "32")
    refused(empty_lab, "--data.name", "cifar10", *sizes, says=str(path))
    assert caplog.messages == [], "nor a warning beside it"


# Machines and hours


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_no_cuda(device, empty_lab):
    refused(empty_lab, "--device", device, says=[f"--device {device}", "0 CUDA devices", "--device cpu"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("more", [(), ("--workers", "4", "--gpus-per-run", "0.25"), ("--train.precision", "auto")])
def test_a_dry_run_plans_for_cuda_elsewhere(more, empty_lab):
    said = empty_lab.launch("--device", "cuda", "--dry-run", *more)
    assert (said.status, said.err) == (0, "")
    head, remark, *plan = said.out.splitlines()
    assert head.endswith(", cuda; 2 of 2 runs to do")
    assert "no CUDA device: the plan assumes one with bfloat16" in remark
    assert "how long the runs take" in remark
    assert [(line.split()[0], line.split()[2], line.split()[-1]) for line in plan[2:]] == [
        ("arl", "new", "-"), ("nal", "new", "-"),
    ]  # fmt: skip
    assert list(empty_lab.folder.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_dry_run_of_a_search_plans_for_cuda_elsewhere(empty_lab):
    said = main(
        *("--search", "attention56", "--trials", "3", "--profile", "smoke", "--device", "cuda:0", "--dry-run"),
        *empty_lab.places(), "--storage", str(empty_lab.folder / "optuna.journal"),
    )  # fmt: skip
    assert (said.status, said.err) == (0, "")
    head, remark = said.out.splitlines()[:2]
    assert "cuda:0; 0 of 3 trials done, 3 to do; 1 seed per trial; pruned by median" in head
    assert "was not measured" in remark


def test_an_empty_part_of_the_runs_is_said(empty_lab):
    """A job array may have more tasks than a study has runs; the ones too many have nothing to do."""
    said = empty_lab.launch("--shard", "9/9", "--dry-run")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[0].endswith("; no run is in this part (--shard)")


def test_more_than_an_hour_needs_a_yes(empty_lab):
    """There is no terminal here to ask at. The summary that names the hours comes before the refusal."""
    before = empty_lab.listing()
    said = empty_lab.launch("--train.steps", "10000000")
    assert said.status == 2
    summary, refusal = said.err.splitlines()
    assert "2 of 2 runs to do, about" in summary
    assert refusal.startswith("run_ablation: this takes about ")
    assert "--yes" in refusal
    assert empty_lab.listing() == before


def test_a_yes_and_a_short_launch_start(lab, monkeypatch):
    monkeypatch.setattr(cli, "ASK_SECONDS", 0)
    assert lab.launch("--cells", "learning=arl").status == 2
    assert lab.launch("--cells", "learning=arl", "--yes").status == 0
    assert lab.launch("--cells", "learning=arl").status == 0, "nothing to do takes no time"


@pytest.mark.parametrize(
    "make", [os.mkdir, lambda path: os.symlink("nowhere/x", path)], ids=["folder", "dangling link"]
)
def test_a_lock_that_is_no_file(make, lab):
    lab.checkpoints.mkdir()
    make(lab.checkpoints / "launch.lock")
    said = lab.launch("--cells", "learning=arl")
    assert said.status == 2
    assert len(said.err.splitlines()) == 2, said.err  # what is to be done, and why not
    assert "launch.lock" in said.err


def test_a_value_of_thousands_of_letters_is_not_echoed(lab):
    said = refused(lab, "--profile", "x" * 5_000, says="unknown profile")
    assert len(said) < 2_000
