"""Whatever is typed or lies on disk: exit 0, 1 or 2, no traceback, no hang, no file outside the chosen folders.

A few hundred inputs by default. The long form, with as many in process and in processes of their own as are asked for:

    RAN_FUZZ=5000 RAN_FUZZ_PROCESSES=200 pytest -m "slow or not slow" tests/experiments/test_fuzz.py
"""

import functools
import json
import os
import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import ROOT, STUDY, Lab, Said, main, make_cifar10, make_image_folder

from experiments import estimate
from experiments import launch as launching
from experiments.runner import execute
from experiments.studies import smoke
from experiments.study import Study
from ran.config import RunConfig, flatten
from ran.engine.train import train
from records import names

INPUTS = int(os.environ.get("RAN_FUZZ", "240"))
PROCESSES = int(os.environ.get("RAN_FUZZ_PROCESSES", "8"))
SECONDS = 60
tried: Counter[str] = Counter()


def fuzz(share: float):
    """A test of so great a share of the inputs, drawn anew only in the long form."""
    return settings(
        max_examples=max(4, round(share * INPUTS)), deadline=None, derandomize=INPUTS <= 240, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def _train(config, splits, hooks, **options):
    """The training loop, for runs of a second; a larger one fails as for want of memory."""
    if config.train.steps > 6 or config.train.batch_size > 16 or len(splits.train) > 200 or config.model.width > 0.13:
        raise MemoryError("a run of the fuzz should be small")
    return train(config, splits, hooks, **options)


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setattr(execute, "train", _train)
    monkeypatch.setattr(estimate, "_measured_rate", lambda plan, device, measure: 1e9)
    monkeypatch.setattr(launching, "LAST_WAIT", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory, migrated_store) -> Lab:
    """A store with the finished smoke study, and a checkpoint of a run that was stopped."""
    torch.set_num_threads(1)
    lab = Lab(tmp_path_factory.mktemp("whole"))
    shutil.copy(migrated_store, lab.store)
    assert lab.launch("--keep", "last").status == 0
    with sqlite3.connect(lab.store) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return lab


class Hangs(BaseException):
    """Not an Exception, so that nothing takes it for the fault of a user's code."""


class Sandbox:
    """A fresh lab for each input, in a folder beside which nothing may appear."""

    def __init__(self, folder: Path):
        self.folder = folder / "sandbox"

    def lab(self) -> Lab:
        shutil.rmtree(self.folder, ignore_errors=True)
        lab = Lab(self.folder / "a" / "b" / "lab")
        lab.folder.mkdir(parents=True)
        os.chdir(lab.folder)
        return lab


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory) -> Iterator[Sandbox]:
    before = Path.cwd()
    yield Sandbox(tmp_path_factory.mktemp("fuzz"))
    os.chdir(before)


def entries() -> dict[Path, list[str]]:
    """What lies in the repository and at home, but for what other processes may leave there meanwhile."""
    others = (".", "mlflow.db", "__pycache__")
    return {
        folder: sorted(path.name for path in folder.iterdir() if not path.name.startswith(others))
        for folder in (ROOT, ROOT / "tests", Path.home())
    }


def survives(lab: Lab, *arguments: str, command=main, kind: str) -> Said:
    """Launches; asserts what the module's docstring promises."""
    outside = lab.folder.parent.parent
    home = entries()

    def hangs(*_: object) -> None:
        raise Hangs(f"no answer after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    try:
        said = command(*arguments)
    except SystemExit as left:  # of --help
        said = Said(int(left.code or 0), "", "")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    tried[f"{kind} (exit {said.status})"] += 1
    assert said.status in (0, 1, 2), said
    assert "Traceback" not in said.out + said.err, said.err
    if said.status == 2:
        refusals = [line for line in said.err.splitlines() if line.startswith("run_ablation: ")]
        assert len(refusals) == 1, said.err
    assert [path.name for path in outside.iterdir()] == ["b"], "a file outside the chosen folders"
    assert [path.name for path in (outside / "b").iterdir()] == ["lab"], "a file outside the chosen folders"
    assert entries() == home, "a file in the repository or at home"
    return said


# What is typed

LEAVES = flatten(RunConfig())
FLAGS = [
    "--study", "--list", "--dry-run", "--profile", "--seeds", "--cells", "--shard", "--retry-failed", "--rerun",
    "--yes", "--device", "--deterministic", "--keep", "--import", "--help",
]  # fmt: skip
WORDS = [
    "", " ", "-", "--", "0", "1", "-1", "2", "0,1", "1/1", "1/2", "2/2", "0/0", "nan", "inf", "-inf", "1e309", "1e-309",
    "99999999999999999999999", "0x10", "1_0", "٣", "true", "True", "None", "null", "[]", "{}", "auto", "cpu", "cuda",
    "smoke", "quick", "short", "paper", "arl", "nal", "learning=arl", "learning=nal,learning=arl", "learning",
    "=", "=,=", "a=b",
    "mixed", "channel", "spatial", "se", "none", "attention56", "resnet164", "cifar10", "cluttershapes", "imagenet",
    "float32", "bf16", "final", "last", "all", "../../x", "/etc/passwd", "~", "$HOME", "`id`", "x" * 5000, "\x00",
    "\n", "💥", "'; DROP TABLE runs; --", "%s%n", "${jndi:x}", "os", "this_is_not_a_module", "smoke.py",
]  # fmt: skip
texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=12), st.integers().map(str), st.floats().map(str))
flags = st.sampled_from(FLAGS)
overrides = st.sampled_from([f"--{key}" for key in LEAVES if key not in ("data.root", "data.download", "seed")])
tokens = st.one_of(flags, overrides, texts, st.tuples(st.one_of(flags, overrides), texts).map("=".join))
pairs = st.tuples(st.one_of(flags, overrides), texts).map(list)
command_lines = st.lists(st.one_of(pairs, tokens.map(lambda token: [token])), max_size=5).map(
    lambda parts: list(chain(*parts))
)


def _harmless(arguments: list[str]) -> bool:
    """Not a walk through the file system, nor a module that does things when it is imported."""
    return "--import" not in " ".join(arguments) or "this" not in arguments


@fuzz(0.45)
@given(command_lines.filter(_harmless), st.booleans())
def test_command_lines(sandbox, arguments, dry):
    lab = sandbox.lab()
    study = [] if "--study" in arguments else ["--study", "smoke"]
    survives(lab, *study, *arguments, *lab.places(), *(["--dry-run"] if dry else []), kind="command lines")


plausible = {
    "model.width": st.floats(0.01, 0.13), "model.p": st.integers(1, 2), "model.t": st.integers(1, 2),
    "model.mask_activation": st.sampled_from(["mixed", "channel", "spatial"]),
    "model.mask_structure": st.sampled_from(["encoder_decoder", "local_conv", "none", "se", "eca", "cbam"]),
    "data.train_images": st.integers(1, 200), "data.val_images": st.integers(0, 40),
    "data.test_images": st.integers(1, 40), "data.noise": st.floats(0, 0.999), "data.difficulty": st.floats(0, 1),
    "optim.lr": st.floats(1e-9, 1e38), "optim.momentum": st.floats(0, 0.9999),
    "optim.label_smoothing": st.floats(0, 0.999),
    "optim.schedule": st.sampled_from(["step", "one_cycle", "cosine", "constant", "step_imagenet"]),
    "train.steps": st.integers(1, 6), "train.batch_size": st.integers(2, 16), "train.evals": st.integers(0, 9),
    "train.precision": st.sampled_from(["float32", "bf16", "auto"]),
}  # fmt: skip
settings_ = st.lists(st.sampled_from(sorted(plausible)), max_size=4, unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: plausible[key] for key in keys})
)


@pytest.mark.slow
@fuzz(0.08)
@given(settings_)
def test_runs_of_any_config(sandbox, migrated_store, changes):
    """Values that may well be fine: then they train."""
    lab = sandbox.lab()
    shutil.copy(migrated_store, lab.store)
    chosen = [f"--{key}={value}" for key, value in changes.items()]
    survives(lab, "--study", "smoke", *lab.places(), "--cells", "learning=arl", *chosen, kind="configs")


# What lies on disk

names_ = st.one_of(
    st.sampled_from(["mine", "../../x", "/tmp/x", "a/b", "..", "x" * 300, "", "\x00", "é", "a\nb"]), st.text()
)
fields = st.sampled_from([*LEAVES, "optim.rate", ""])
values = st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.none(), st.booleans())


@fuzz(0.15)
@given(
    st.sampled_from(["name", "axis", "values", "field", "short", "nothing", "all"]),
    *(names_, names_, st.lists(values, max_size=3), fields, names_),
    st.integers(0, 3).map(bool),  # mostly dry
)
def test_study_files(sandbox, odd, name, axis, listed, field, short, dry):
    """A file that is right but for one part of it, or for none, or for all."""
    lab = sandbox.lab()
    fine = {"name": "mine", "axis": "rate", "values": [0.1, 1e30], "field": "optim.lr", "short": ""}
    drawn = {"name": name, "axis": axis, "values": listed, "field": field, "short": short}
    part = {key: drawn[key] if odd in (key, "all") else fine[key] for key in fine}
    text = STUDY.format(rates=part["values"]).replace("nan", "float('nan')").replace("inf", "float('inf')")
    text = text.replace('"mine"', repr(part["name"])).replace('"rate"', repr(part["axis"]))
    text = text.replace('field="optim.lr"', f"field={part['field']!r}, short=lambda v: {part['short']!r} + str(v)")
    (lab.folder / "mine.py").write_text(text, errors="replace")
    survives(lab, "--study", "mine.py", *lab.places(), *(["--dry-run"] if dry else []), kind="study files")


@fuzz(0.06)
@given(st.one_of(st.text(), st.binary()))
def test_study_files_of_anything(sandbox, content):
    lab = sandbox.lab()
    (lab.folder / "mine.py").write_bytes(content if isinstance(content, bytes) else content.encode(errors="replace"))
    survives(lab, "--study", "mine.py", *lab.places(), kind="study files")


def damage(path: Path, how: str, chance: random.Random) -> None:
    """Changes a file as a disk, a program or a person might."""
    content = bytearray(path.read_bytes()) if path.is_file() else bytearray()
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "short":
            path.write_bytes(content[: chance.randrange(len(content) + 1)])
        case "long":
            path.write_bytes(content + chance.randbytes(chance.randrange(1, 2000)))
        case "bits":
            for _ in range(chance.randrange(1, 20)):
                if content:
                    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(content)
        case "random":
            path.write_bytes(chance.randbytes(chance.randrange(1, 5000)))
        case "folder":
            path.unlink()
            path.mkdir()
        case "loop":
            path.unlink()
            path.symlink_to(path)
        case "pickle":
            odd = [
                None,
                {},
                [],
                {"data": 1},
                {"data": [1], "labels": ["a"]},
                {b"data": b""},
                print,
                {"label_names": [1]},
            ]
            path.write_bytes(pickle.dumps(chance.choice(odd)))


damages = st.sampled_from(["missing", "empty", "short", "long", "bits", "random", "folder", "loop", "pickle"])
chances = st.integers(0, 2**32).map(random.Random)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_cifar10(root, train_images=100, test_images=20)
    make_image_folder(root, classes=3, train_images=4, test_images=2)
    return root


@fuzz(0.1)
@given(st.sampled_from(["cifar10", "imagenet"]), st.lists(damages, min_size=1, max_size=3), chances)
def test_data_folders(sandbox, data, name, how, chance):
    lab = sandbox.lab()
    shutil.copytree(data, lab.folder / "data")
    folder = lab.folder / "data" / ("cifar-10-batches-py" if name == "cifar10" else "imagenet")
    for kind in how:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
        damage(chance.choice(files), kind, chance)
    few = ("--data.train-images", "20", "--data.val-images", "0", "--data.test-images", "10")
    size = ("--data.image-size", "16") if name == "imagenet" else ()
    survives(lab, "--study", "smoke", *lab.places(), "--data.name", name, *few, *size, "--dry-run", kind="data folders")
    survives(lab, "--study", "smoke", *lab.places(), "--data.name", name, *few, *size, "--cells", "learning=arl",
             "--train.steps", "1", "--train.evals", "0", kind="data folders")  # fmt: skip


def copy_of(whole: Lab, lab: Lab) -> None:
    """The finished study in another folder; its artifacts stay where they are."""
    shutil.copy(whole.store, lab.store)
    shutil.copytree(whole.checkpoints, lab.checkpoints)


@pytest.mark.slow
@fuzz(0.08)
@given(st.lists(damages, min_size=1, max_size=3), chances, st.booleans())
def test_checkpoint_folders(sandbox, whole_store, how, chance, stray):
    """Checkpoints, locks, notes of attempts and what waits for the store, of runs that are not finished."""
    lab = sandbox.lab()
    copy_of(whole_store, lab)
    with sqlite3.connect(lab.store) as connection:
        connection.execute("DELETE FROM tags WHERE key = ?", (names.OUTCOME,))
    folder = chance.choice([path for path in sorted(lab.checkpoints.iterdir()) if path.is_dir()])
    (folder / "attempt.json").write_text('{"step": 6, "deaths": 1}')
    if stray:
        (folder / "spool.json").write_text('{"store": "x", "entries": []}\n0')
        (folder / "step-99999999.safetensors").write_bytes(b"")
    for kind in how:
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.is_symlink()]
        if files:
            damage(chance.choice(files), kind, chance)
    survives(lab, "--study", "smoke", *lab.places(), "--dry-run", kind="checkpoints")
    survives(lab, "--study", "smoke", *lab.places(), kind="checkpoints")


TABLES = ["tags", "params", "latest_metrics", "metrics", "runs", "experiments", "alembic_version", "registered_models"]


@pytest.mark.slow
@fuzz(0.08)
@given(st.sampled_from(["bytes", "values", "table", "json"]), damages, chances, st.text(max_size=20))
def test_stores(sandbox, whole_store, what, how, chance, text):
    """Files that are no store, and stores whose contents make no sense."""
    lab = sandbox.lab()
    copy_of(whole_store, lab)
    text = text.replace("\x00", "").encode(errors="replace").decode()
    if what == "bytes":
        damage(lab.store, how, chance)
    elif what == "json":
        for parent in lab.parents():
            anything = chance.choice(["", "{", "null", "[]", "{}", '{"runs": 3}', '{"runs": [{}]}', json.dumps(text)])
            (lab.folder / "study.json").write_text(anything)
            uri = f"{(lab.folder / 'artifacts').as_uri()}/{parent.info.run_id}"
            with sqlite3.connect(lab.store) as connection:
                connection.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (uri, parent.info.run_id))
            lab.client.log_artifact(parent.info.run_id, str(lab.folder / "study.json"))
    else:
        with sqlite3.connect(lab.store) as connection:
            table = chance.choice(TABLES)
            if what == "table":
                connection.execute("PRAGMA foreign_keys = OFF")
                connection.execute(f"DROP TABLE {table}")
            else:
                columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
                column = chance.choice(
                    [c for c in columns if c in ("value", "key", "status", "name", "is_nan")] or columns
                )
                try:
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid % 3 = 0", (text,))
                except sqlite3.IntegrityError:
                    return
    survives(lab, "--study", "smoke", *lab.places(), "--dry-run", kind="stores")
    survives(lab, "--study", "smoke", *lab.places(), kind="stores")


def test_nothing_named_by_a_user_climbs_out():
    for name in ("../x", "a/b", "", "..", ".hidden", "a\nb", "x\x00"):
        with pytest.raises(ValueError, match="study name"):
            Study(name, "title", axes=smoke.STUDY.axes)


# Processes


@pytest.mark.slow
def test_processes(tmp_path, whole_store):
    """The same strategies, each input in a process of its own: nothing that is patched above is patched there."""
    drawn: list[list[str]] = []

    @settings(
        max_examples=PROCESSES, deadline=None, derandomize=PROCESSES <= 8, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(command_lines.filter(_harmless))
    def draw(arguments):
        drawn.append(arguments)

    draw()
    sandbox = Sandbox(tmp_path)

    def process(lab: Lab, *arguments: str) -> Said:
        command = [sys.executable, str(ROOT / "run_ablation.py"), *(a.replace("\x00", "0") for a in arguments)]
        done = subprocess.run(
            [a.encode("utf-8", "surrogatepass") for a in command], cwd=lab.folder, capture_output=True, timeout=SECONDS,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Said(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    for arguments in drawn[:PROCESSES]:
        lab = sandbox.lab()
        study = [] if "--study" in arguments else ["--study", "smoke"]
        survives(
            lab, *study, *arguments, *lab.places(), "--dry-run", command=functools.partial(process, lab),
            kind="processes",
        )  # fmt: skip
    os.chdir(tmp_path)


def test_what_was_tried(capsys):
    """Last: how many inputs of which kind, and how they ended."""
    with capsys.disabled():
        print("\ninputs tried:", ", ".join(f"{count} {kind}" for kind, count in sorted(tried.items())))
    in_process = sum(count for kind, count in tried.items() if not kind.startswith("processes"))
    if len({kind.partition(" (")[0] for kind in tried} - {"processes"}) == 6:  # all tests ran
        assert in_process >= INPUTS
