"""A search from the command line to its table: what it leaves, resumes, prunes and shares, and what ends it early."""

import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess

import optuna
import pytest
import searchlab
import torch
from lab import ROOT, Lab, main, mine, wait_for
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE
from searchlab import NAME, by_rate, optuna_study, pretend, record, search, start, states, tiny, trials

from analysis import archive, make_figures, make_report, make_tables
from experiments import estimate, relocate, search_spec
from experiments.plan import network_cost
from experiments.runner import execute
from experiments.search import sampler
from experiments.search_spec import width_for_macs
from ran.config import RunConfig, override
from ran.data.datasets import open_source
from records import names

TWO_SEEDS = tiny(('derived=("steps",)', 'derived=("steps",), seeds=(0, 1)'))


@pytest.fixture
def made_up(monkeypatch):
    """Puts training that is made up in the place of the real."""

    def put(error=by_rate, **more):
        monkeypatch.setattr(execute, "train", pretend(error, **more))
        monkeypatch.setattr(execute, "log_probes", lambda *arguments: None)
        monkeypatch.setattr(estimate, "_measured_rate", lambda *arguments: 1e9)  # takes a second

    return put


@pytest.fixture(scope="module")
def done(tmp_path_factory, migrated_store):
    """Two trials, really trained; tests that change nothing read it."""
    torch.set_num_threads(1)
    lab = Lab(tmp_path_factory.mktemp("search"))
    shutil.copy(migrated_store, lab.store)
    return lab, search(lab, "--trials", "2")


# What a search leaves


def test_it_ends_well_and_prints_its_trials(done):
    lab, said = done
    assert said.status == 0, said.err
    lines = said.err.splitlines()
    assert lines[0].startswith("tiny: profile smoke-1 (the study's own), data cluttershapes, cpu; 0 of 2 trials done, ")
    assert lines[0].endswith("; pruned by median")
    assert [line.split(": ")[0] for line in lines[1:]] == ["[1/2] t0 s0", "[1/2] t0 s0", "[2/2] t1 s0", "[2/2] t1 s0"]
    assert "validation error" in lines[2]
    assert "A tiny search: the best trials (smoke-1, cluttershapes, n = 1 seed per trial)" in said.out
    for trial in trials(lab):
        row = next(line for line in said.out.splitlines() if line.split()[0] == str(trial.number))
        assert f"{trial.value:.2f}" in row.split()
    assert f"--search {lab.folder}/tiny.py --confirm" in said.out.splitlines()[-1]


def test_the_table_says_what_its_values_rest_on(done):
    _, said = done
    lines = said.out.splitlines()
    headers = [header.strip() for header in lines[1].split("  ") if header.strip()]
    row = dict(zip(headers, lines[3].split(), strict=True))
    assert row.pop("MACs (G)") != "0.0000"
    assert row == {"trial": "base", "val. error (%)": "\N{EN DASH}", "lr": "0.1", "batch_size": "16", "steps": "6"}
    notes = " ".join(lines)
    assert "Error: on 32 validation images (one image is 3.1 points), seed 0." in notes
    assert "derived from the base: train.steps, as many steps as see the base's number of images." in notes
    assert "Figures: python analysis/make_figures.py --search tiny --profile smoke --data cluttershapes" in lines
    assert max(map(len, lines[3:-1])) <= 100


def test_the_base_has_its_error_if_a_study_trained_it(lab, made_up):
    made_up()
    study = mine([0.1])  # a cell of the search's base, at its seed
    assert lab.launch(study=lab.study(study)).status == 0
    (run,) = lab.children().values()
    said = search(lab, "--trials", "1")
    assert said.status == 0, said.err
    assert said.out.splitlines()[3].split()[:2] == ["base", f"{run.data.metrics[names.FINAL_VAL_ERR]:.2f}"]
    assert record(lab)["base_error"] == run.data.metrics[names.FINAL_VAL_ERR]
    assert "The base's error is that of its runs in a study." in said.out.replace("\n", " ")


def test_the_command_of_the_figures_draws_them(done, tmp_path, monkeypatch, capsys, made_up):
    """Also those of a search with overrides, beside one without."""
    lab = Lab(tmp_path / "both")
    shutil.copytree(done[0].folder, lab.folder)
    assert relocate.main(["--tracking-uri", lab.uri]) == 0
    made_up()
    said = search(lab, "--trials", "2", "--train.steps", "8")
    (command,) = [line for line in said.out.splitlines() if line.startswith("Figures: ")]
    words = shlex.split(command.removeprefix("Figures: "))
    assert words[:2] == ["python", "analysis/make_figures.py"]
    status = make_figures.main([*words[2:], "--figure", "history", "--formats", "png", "--tracking-uri", lab.uri])
    assert status == 0, capsys.readouterr().err
    assert "train.steps = 8" in capsys.readouterr().out


def test_trials_are_ordinary_runs(done):
    lab, _ = done
    (parent,) = [run for run in lab.all_runs() if names.SEARCH in run.data.tags]
    assert lab.parents() == []
    assert parent.info.status == "FINISHED"
    assert parent.data.tags[MLFLOW_RUN_NOTE] == "What the user wrote about it."
    assert sorted(lab.children()) == ["t0 s0", "t1 s0"]
    for trial in trials(lab):
        run = lab.children()[f"t{trial.number} s0"]
        tags = run.data.tags
        assert tags[MLFLOW_PARENT_RUN_ID] == parent.info.run_id
        assert (tags[names.TRIAL], tags[names.STUDY], tags[names.OUTCOME]) == (str(trial.number), "tiny", "finished")
        assert tags[names.CELL] == ",".join(f"{name}={value}" for name, value in trial.params.items())
        assert tags[names.FINGERPRINT] in trial.user_attrs["fingerprints"]
        assert float(run.data.params["optim.lr"]) == trial.params["optim.lr"]
        assert int(run.data.params["train.steps"]) * trial.params["train.batch_size"] == 96, "the base's images"
        assert run.data.metrics[names.FINAL_VAL_ERR] == trial.value, "never the test error"
    assert parent.data.metrics == {
        names.SUMMARY_TRIALS: 2.0, names.SUMMARY_BEST: min(t.value for t in trials(lab)),
    }  # fmt: skip


def test_search_json_holds_everything(done):
    lab, _ = done
    content = record(lab)
    best = min(trials(lab), key=lambda t: (t.value, t.number))
    assert content["best"] == best.number
    assert [e["values"] for e in content["trials"]] == [[t.value] for t in trials(lab)]
    assert content["space"]["optim.lr"] == {"type": "float", "low": 0.01, "high": 1.0, "log": True, "step": None}
    entry = content["trials"][best.number]
    assert entry["settings"].keys() == {"optim.lr", "train.batch_size", "train.steps"}
    assert list(entry["intermediate"]) == ["1", "2"]
    assert entry["intermediate"]["2"] == best.value


def test_git_ignores_the_storage():
    files = ["mlflow.db-wal", "optuna.journal", "optuna.journal.lock"]
    said = subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout.split() == files


def test_nothing_but_the_lock_is_left_of_the_checkpoints(done):
    lab, _ = done
    assert [p.name for p in lab.checkpoints.iterdir()] == ["launch.lock"]


@pytest.mark.slow
def test_analysis_reads_a_store_with_a_search(done, tmp_path, capsys, monkeypatch):
    lab, _ = done
    smoke = Lab(tmp_path / "both")
    shutil.copytree(lab.folder, smoke.folder)
    assert relocate.main(["--tracking-uri", smoke.uri]) == 0
    assert smoke.launch("--cells", "learning=arl").status == 0
    places = ["--tracking-uri", smoke.uri, "--archive", "none", "--out", str(tmp_path / "out")]
    assert make_tables.main(places) == 0, capsys.readouterr().err
    assert "Smoke test" in capsys.readouterr().out
    assert make_report.main(places) == 0, capsys.readouterr().err
    flags = ["--profile", "smoke-1", "--data", "cluttershapes", "--out", str(tmp_path / "archive")]
    assert archive.main(["export", "--tracking-uri", smoke.uri, *flags]) == 0, capsys.readouterr().err


def test_a_store_with_nothing_but_a_search_has_no_tables(done, tmp_path, capsys):
    lab, _ = done
    status = make_tables.main(["--tracking-uri", lab.uri, "--archive", "none", "--out", str(tmp_path / "out")])
    err = capsys.readouterr().err
    assert (status, err.count("\n")) == (2, 1)
    assert "launch one" in err


# What is not done again


def test_a_dry_run_writes_nothing(empty_lab, made_up):
    said = search(empty_lab, "--trials", "3", "--dry-run")
    assert (said.status, said.err) == (0, "")
    assert "0 of 3 trials done, 3 to do" in said.out
    assert "0.01 to 1, logarithmic" in said.out
    assert "as many steps as see the base's number of images" in said.out
    assert os.listdir(empty_lab.folder) == ["tiny.py"]


def test_the_same_total_again_trains_nothing(done, monkeypatch):
    lab, first = done
    monkeypatch.setattr(execute, "train", None)
    before = lab.all_runs(), trials(lab)
    again = search(lab, "--trials", "2")
    assert (again.status, again.out) == (0, first.out)
    assert "2 of 2 trials done" in again.err
    assert "2 of 2 trials done" in search(lab, "--trials", "1", "--dry-run").out, "more than are asked for"
    assert [run.to_dictionary() for run in before[0] if names.FINGERPRINT in run.data.tags] == [
        run.to_dictionary() for run in lab.all_runs() if names.FINGERPRINT in run.data.tags
    ]
    assert trials(lab) == before[1]


@pytest.mark.slow
def test_a_search_in_parts_draws_what_one_in_a_piece_draws(lab, tmp_path, migrated_store, made_up, monkeypatch):
    """Those that are drawn at random, before the interruption, and those of TPE behind it."""
    made_up()
    monkeypatch.setattr(sampler, "STARTUP", 3)
    for total in ("2", "6"):
        assert search(lab, "--trials", total).status == 0
    whole = Lab(tmp_path / "whole")
    whole.folder.mkdir()
    shutil.copy(migrated_store, whole.store)
    assert search(whole, "--trials", "6").status == 0
    drawn = [t.params["optim.lr"] for t in trials(lab)]
    assert drawn == [t.params["optim.lr"] for t in trials(whole)]
    assert len(set(drawn)) == 6, "no draw is repeated"
    assert [t.value for t in trials(lab)] == [t.value for t in trials(whole)]


def test_what_another_study_has_trained_is_taken(lab, done, monkeypatch):
    """The same configurations in a new storage cost nothing: runs are found by what they compute."""
    first, _ = done
    monkeypatch.setattr(execute, "train", None)
    storage = str(lab.folder / "other.journal")
    said = main(*searchlab.arguments(first, "--trials", "2", storage=storage))
    assert said.status == 0, said.err
    assert [t.value for t in trials(lab, storage)] == [t.value for t in trials(first)]


# Pruning


def test_pruning_ends_bad_trials_and_says_so(lab, made_up, monkeypatch):
    made_up()
    monkeypatch.setattr(search_spec, "UNPRUNED", 2)
    said = search(lab, "--trials", "6", content=tiny(("(0.01, 1.0,", "(1e-4, 1.0,")))
    assert said.status == 0, said.err
    found = trials(lab)
    pruned = [t for t in found if t.state.name == "PRUNED"]
    assert pruned
    assert f"6 trials: {6 - len(pruned)} finished, {len(pruned)} pruned." in said.out
    finished = [t for t in found if t.state.name == "COMPLETE"]
    assert min(t.intermediate_values[1] for t in pruned) > statistics.median(t.intermediate_values[1] for t in finished)
    for t in pruned:
        assert list(t.intermediate_values) == [1], "the first of two evaluations"
        run = lab.children()[f"t{t.number} s0"]
        assert run.info.status == "KILLED"
        assert run.data.tags[names.REASON] == t.user_attrs["reason"]
        assert t.user_attrs["reason"].startswith("pruned at step ")
    assert [p.name for p in lab.checkpoints.iterdir()] == ["launch.lock"], "nobody goes on with them"


def test_pruning_over_seeds(lab, made_up, monkeypatch):
    """Evaluations are counted on over the seeds; a trial that is bad at its first seed has no second."""
    made_up()
    monkeypatch.setattr(search_spec, "UNPRUNED", 2)
    content = TWO_SEEDS.replace("(0.01, 1.0,", "(1e-4, 1.0,")
    assert search(lab, "--trials", "5", content=content).status == 0
    found = trials(lab)
    complete = [t for t in found if t.state.name == "COMPLETE"]
    assert {tuple(t.intermediate_values) for t in complete} == {(1, 2, 3, 4)}
    pruned = [t for t in found if t.state.name == "PRUNED"]
    assert pruned
    assert all(f"t{t.number} s1" not in lab.children() for t in pruned)
    assert {t.user_attrs["reason"].split(" of ")[-1] for t in pruned} == {"seed 0"}


@pytest.mark.slow
def test_hyperband_prunes_too(lab, made_up):
    made_up()
    content = tiny(('derived=("steps",)', 'derived=("steps",), pruner="hyperband"'))
    said = search(lab, "--trials", "4", "--train.evals", "6", content=content)
    assert said.status == 0, said.err
    assert "pruned by hyperband" in said.err.splitlines()[0]
    assert "PRUNED" in states(trials(lab))


def test_a_value_is_the_mean_over_seeds(lab, made_up):
    made_up(lambda config, share: 40.0 + 20 * config.seed)
    assert search(lab, "--trials", "1", content=TWO_SEEDS).status == 0
    (trial,) = trials(lab)
    assert (trial.value, trial.intermediate_values) == (50.0, {1: 40.0, 2: 40.0, 3: 50.0, 4: 50.0})


# Two objectives


def test_error_and_macs(lab, made_up):
    made_up()
    content = tiny(('derived=("steps",)', 'derived=("width", "steps"), width_range=(0.5, 1.5, 0.25)'))
    said = search(lab, "--trials", "5", "--objectives", "error,macs", content=content)
    assert said.status == 0, said.err
    assert "no pruning (Optuna has none for two objectives)" in said.err.splitlines()[0]
    name = f"{NAME} error,macs"
    found = optuna_study(lab, name=name)
    assert {t.params["model.width"] for t in found.trials} <= {0.0625, 0.09375, 0.125, 0.15625, 0.1875}
    content = record(lab)
    front = {tuple(t.values) for t in found.best_trials}
    values = [tuple(content["trials"][number]["values"]) for number in content["front"]]
    assert set(values) == front
    assert values == sorted(values), "the lowest error first"
    assert [line.split()[0] for line in said.out.splitlines()[4 : 4 + len(values)]] == list(map(str, content["front"]))


def test_the_width_keeps_within_the_budget():
    base = override(RunConfig(), {"data.name": "cluttershapes", "model.width": 0.25})
    source = open_source(base.data)
    budget = network_cost(base, source).macs
    assert width_for_macs(base, base, source) == {"model.width": 0.25}
    big = override(base, {"model.p": 2, "model.t": 3})
    width = width_for_macs(big, base, source)["model.width"]
    assert network_cost(override(big, {"model.width": width}), source).macs <= budget
    assert network_cost(override(big, {"model.width": width + 0.25 / 32}), source).macs > budget


# What goes wrong


def test_a_trial_that_diverges_has_the_worst_value(lab, made_up):
    made_up(lambda config, share: float("nan") if config.optim.lr > 0.03 else by_rate(config, share))
    said = search(lab, "--trials", "3")
    assert said.status == 0, said.err
    found = trials(lab)
    diverged = [t for t in found if t.params["optim.lr"] > 0.03]
    assert diverged
    assert {(t.state.name, t.value) for t in diverged} == {("COMPLETE", 100.0)}
    assert all("not finite" in t.user_attrs["reason"] for t in diverged)
    assert f"{len(diverged)} diverged" in said.out
    assert record(lab)["best"] not in [t.number for t in diverged]


@pytest.mark.slow
def test_a_trial_that_fails_is_told_and_tried_again_when_asked(lab, made_up):
    def error(config, share):
        if config.optim.lr < 0.02:
            raise RuntimeError("no luck")
        return by_rate(config, share)

    made_up(error)
    said = search(lab, "--trials", "4")
    failed = [t for t in trials(lab) if t.params["optim.lr"] < 0.02]
    assert said.status == 1
    assert {(t.state.name, t.user_attrs["reason"]) for t in failed} == {("FAIL", "RuntimeError: no luck")}
    assert f"trial {failed[0].number}: failed: RuntimeError: no luck" in said.err
    assert search(lab, "--trials", "4").status == 1
    assert len(trials(lab)) == 4, "not tried again unasked"

    made_up()
    said = search(lab, "--trials", "4", "--retry-failed")
    assert said.status == 0, said.err
    again = trials(lab)[4:]
    assert [t.params for t in again] == [t.params for t in failed]
    assert [t.user_attrs["retry_of"] for t in again] == [t.number for t in failed]
    assert record(lab)["trials"][failed[0].number]["replaced"]
    assert search(lab, "--trials", "4").status == 0


def test_ctrl_c_leaves_no_trial_running(lab, made_up):
    def interrupt(config, step):
        if len(trials(lab)) == 3 and step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    made_up(meanwhile=interrupt)
    said = search(lab, "--trials", "5")
    assert said.status == 130
    assert states(trials(lab)) == ["COMPLETE", "COMPLETE", "FAIL", "WAITING"]
    assert "3 of 5 trials are left; the same command continues" in said.err
    made_up()
    assert search(lab, "--trials", "5").status == 0
    found = trials(lab)
    assert states(found) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert found[3].params == found[2].params
    assert found[3].intermediate_values == {1: by_rate(_of(found[3]), 0.5), 2: by_rate(_of(found[3]), 1)}
    names_ = sorted(lab.children())
    assert names_ == ["t0 s0", "t1 s0", "t2 s0", "t4 s0", "t5 s0"], "trial 3 went on in the run of trial 2"


def _of(trial):
    return override(RunConfig(), trial.params)


def dead(lab, **attributes):
    """Leaves a running trial, as a launch that died has."""
    study = optuna_study(lab)
    trial = study.ask(
        {"optim.lr": optuna.distributions.FloatDistribution(0.01, 1.0, log=True),
         "train.batch_size": optuna.distributions.CategoricalDistribution((8, 16))}
    )  # fmt: skip
    for key, value in attributes.items():
        trial.set_user_attr(key, value)
    return trial


@pytest.mark.parametrize("owner", [{"launch": "searcher-0123456789abcdef"}, {}], ids=["signed", "not yet signed"])
def test_what_a_dead_launch_left_is_tried_again(owner, lab, made_up):
    made_up()
    assert search(lab, "--trials", "1").status == 0
    left = dead(lab, **owner)
    assert search(lab, "--trials", "3").status == 0
    found = trials(lab)
    assert states(found) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert found[1].user_attrs["reason"] == "its launch died"
    assert (found[2].params, found[2].user_attrs["retry_of"]) == (left.params, 1)


def test_a_trial_that_kills_its_launch_three_times_is_given_up(lab, made_up):
    made_up()
    assert search(lab, "--trials", "1").status == 0
    dead(lab, deaths=2)
    said = search(lab, "--trials", "3")
    assert said.status == 1
    assert states(trials(lab)) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "trial 1: failed: its launch died 3 times in a row" in said.err


def test_a_trial_that_drew_nothing_counts_for_nothing(lab, made_up):
    made_up()
    assert search(lab, "--trials", "1").status == 0
    optuna_study(lab).ask()
    assert search(lab, "--trials", "2").status == 0
    assert states(trials(lab)) == ["COMPLETE", "FAIL", "COMPLETE"]


def test_half_a_line_in_the_journal_is_cut_off(lab, made_up):
    made_up()
    assert search(lab, "--trials", "1").status == 0
    with open(lab.folder / "optuna.journal", "ab") as file:
        file.write(b'{"op_code": 4, "worker_id": "dea')
    assert search(lab, "--trials", "2").status == 0
    assert states(trials(lab)) == ["COMPLETE", "COMPLETE"]


@pytest.mark.slow
def test_a_sqlite_storage(lab, made_up):
    made_up()
    storage = f"sqlite:///{lab.folder}/optuna.db"
    for total in ("1", "2"):
        assert search(lab, "--trials", total, storage=storage).status == 0
    assert states(trials(lab, storage)) == ["COMPLETE", "COMPLETE"]


# In processes of their own

SLOW = """
import time
import experiments.search.launch
from experiments.console.progress import PlainReporter
from experiments.runner import settings

class Slow(PlainReporter):
    def step(self, name, step):
        super().step(name, step)
        time.sleep(0.1)

settings.CHECKPOINT_SECONDS = 0.0
experiments.search.launch.reporter = Slow
"""
# One that stays at its third step, for good.
HELD = (
    SLOW
    + """
from pathlib import Path

class Held(Slow):
    def step(self, name, step):
        super().step(name, step)
        if step == 3:
            Path("held").touch()
            time.sleep(3600)

experiments.search.launch.reporter = Held
"""
)
STEPS = ("--train.steps", "20", "--train.evals", "4")


def running(lab, storage=None):
    try:
        return [t for t in trials(lab, storage) if t.state.name == "RUNNING" and "launch" in t.user_attrs]
    except (AssertionError, KeyError):
        return []


NAMED = f'{NAME} {{"train.steps": 20}}'


@pytest.mark.slow
def test_two_launches_one_killed(lab, monkeypatch):
    """All trials accounted for, none running, none twice; and the best value is reproduced by its configuration."""
    monkeypatch.setattr(searchlab, "NAME", NAMED)
    launch = ("--trials", "5", *STEPS)
    first, second = (start(lab, *launch, before=before) for before in (HELD, SLOW))

    def both():
        found = _trials(lab)
        return len({t.user_attrs.get("launch") for t in found if t.state.name == "RUNNING"} - {None}) == 2

    wait_for(lambda: (lab.folder / "held").exists(), first)
    wait_for(both, first)
    first.kill()
    first.wait()
    _, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    found = _trials(lab)
    assert set(states(found)) <= {"COMPLETE", "PRUNED", "FAIL"}
    (killed,) = [t for t in found if t.state.name == "FAIL"]
    assert killed.user_attrs["reason"] == "its launch died"
    (again,) = [t for t in found if t.user_attrs.get("retry_of") == killed.number]
    assert again.params == killed.params
    counted = [t for t in found if t.number != killed.number]
    assert len(counted) == 5
    assert len({json.dumps(t.params) for t in counted}) == 5, "none twice"
    children = lab.children()
    assert len(children) == 5
    assert all(lab.each_point_once(name) for name in children)
    taken = children[f"t{killed.number} s0"]
    assert taken.data.tags[names.RESUMES] == "1", "it went on from the checkpoint"

    best = min((t for t in counted if t.value is not None), key=lambda t: t.value)
    other = Lab(lab.folder / "other")
    other.folder.mkdir()
    settings = {**best.user_attrs["settings"], "train.steps": best.user_attrs["settings"]["train.steps"]}
    axes = f'axes=(axis("config", {{"best": {settings!r}}}),)'
    content = f"""from experiments.study import Study, axis
STUDY = Study(name="again", title="Again", profile="smoke", seeds=(0,), {axes})
"""
    assert other.launch("--train.evals", "4", study=other.study(content)).status == 0
    (run,) = other.children().values()
    assert run.data.tags[names.FINGERPRINT] == best.user_attrs["fingerprints"][0]
    assert run.data.metrics[names.FINAL_VAL_ERR] == best.value


def _trials(lab, storage=None):
    try:
        return trials(lab, storage, name=NAMED)
    except (AssertionError, KeyError):
        return []


@pytest.mark.long
@pytest.mark.slow
def test_sigint_and_the_same_command_again(lab):
    launch = ("--trials", "2", *STEPS)
    process = start(lab, *launch, before=SLOW)
    wait_for(lambda: any(step > 5 for step in lab.steps()), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 130, err
    assert states(_trials(lab)) == ["FAIL", "WAITING"]
    said = search(lab, *launch)
    assert said.status == 0, said.err
    assert "t1 s0: resume at step" in said.err
    found = _trials(lab)
    assert states(found) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert list(found[1].intermediate_values) == [1, 2, 3, 4], "the evaluations before the stop are its own too"


@pytest.mark.slow
def test_workers_share_the_trials(lab):
    """Asking, pruning and abort_on_error stay with the parent; Ray's workers train."""
    pytest.importorskip("ray", reason="pip install -e '.[cluster]'")
    (lab.folder / "made_up.py").write_text(searchlab.MADE_UP)
    launch = ("--trials", "10", "--workers", "2", "--import", "made_up", "--train.steps", "40")
    process = start(lab, *launch, content=TWO_SEEDS.replace("(0.01, 1.0,", "(1e-4, 1.0,"))
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "2 workers of" in err.splitlines()[0]
    found = trials(lab, name=f'{NAME} {{"train.steps": 40}}')
    assert len(found) == 10
    assert set(states(found)) == {"COMPLETE", "PRUNED"}
    children = lab.children()
    for t in found:
        done = sorted(name for name in children if name.startswith(f"t{t.number} "))
        assert done == [f"t{t.number} s0", f"t{t.number} s1"][: len(done)]
        if t.state.name == "COMPLETE":
            assert t.value == pytest.approx(by_rate(override(RunConfig(), t.params), 1.0))
    assert [p.name for p in lab.checkpoints.iterdir()] == ["launch.lock"]


# The comparison at the end


def test_confirm_compares_the_best_trial_with_the_base(lab, made_up):
    made_up()
    assert search(lab, "--trials", "3").status == 0
    best = min(trials(lab), key=lambda t: t.value)
    said = search(lab, "--confirm")
    assert said.status == 0, said.err
    assert f"tiny_trial{best.number}: " in said.err.splitlines()[0]
    assert "10 of 10 runs to do" in said.err.splitlines()[0]
    (parent,) = lab.parents()
    study = json.loads(lab.artifact(parent, names.STUDY_JSON).read_text())
    assert study["axes"][0]["values"] == ["base", f"trial{best.number}"]
    assert study["compare"] == {"axis": "config", "baseline": "base"}
    assert sorted({run["seed"] for run in study["runs"]}) == [1, 2, 3, 4, 5], "none that the search used"
    run = lab.children()[f"t{best.number} s3"]
    assert float(run.data.params["optim.lr"]) == best.params["optim.lr"]
    assert float(lab.children()["base s3"].data.params["optim.lr"]) == 0.1
    assert study["command"] == (f"python run_ablation.py --search {lab.folder}/tiny.py --confirm --trial {best.number}")
    assert f"trial {best.number}" in said.out
    again = search(lab, "--confirm", "--trial", str(best.number))
    assert (again.status, again.out) == (0, said.out)


@pytest.mark.slow
def test_confirm_takes_the_budget_that_the_search_had(lab, made_up):
    made_up()
    assert search(lab, "--trials", "1", "--train.steps", "10").status == 0
    said = search(lab, "--confirm", "--seeds", "7", "--train.steps", "10")
    assert said.status == 0, said.err
    assert sorted(lab.children()) == ["base s7", "t0 s0", "t0 s7"]
    assert {int(run.data.params["train.steps"]) * int(run.data.params["train.batch_size"])
            for run in lab.children().values()} == {160}  # fmt: skip


CONFIRM = {
    "no search": ((), [], "has no search"),
    "a seed that it chose by": (("--trials", "1"), ["--seeds", "0,9"], "the search chose by seed 0"),
    "a trial that is not there": (("--trials", "1"), ["--trial", "5"], "the search has trials 0 to 0"),
}


@pytest.mark.parametrize(("before", "flags", "says"), CONFIRM.values(), ids=CONFIRM)
def test_confirm_refuses(before, flags, says, lab, made_up):
    made_up()
    if before:
        assert search(lab, *before).status == 0
    said = search(lab, "--confirm", *flags)
    assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
    assert says in said.err


# What is refused

FILES = {
    "field": (tiny(("optim.lr", "optim.rate")), ["search tiny", "unknown config field 'optim.rate'", "optim.lr"]),
    "type": (tiny(("(8, 16)", "(8, 'many')")), ["search tiny", "train.batch_size takes int", "'many'"]),
    "range": (tiny(("(0.01, 1.0, log=True)", "(-1.0, 1.0)")), "optim.lr must be above 0"),
    "name": (tiny(('"optim.lr": F', '"model.mask_activation": CategoricalDistribution(("mixd",)), "optim.lr": F')),
             ["Did you mean 'mixed'?", "give --import MODULE"]),
    "schedule": (tiny(('"optim.lr": F', '"optim.schedule": CategoricalDistribution(("cosin",)), "optim.lr": F')),
                 "Did you mean 'cosine'?"),
    "data": (tiny(('"optim.lr": F', '"data.noise": FloatDistribution(0, 0.5), "optim.lr": F')), "data.noise"),
    "seed": (tiny(('"optim.lr": F', '"seed": IntDistribution(0, 5), "optim.lr": F')), "seed cannot be searched"),
    "without effect": (tiny(('"optim.lr": F', '"train.threads": IntDistribution(1, 2), "optim.lr": F')), "threads"),
    "drawn and derived": (tiny(('"optim.lr": F', '"train.steps": IntDistribution(4, 8), "optim.lr": F')), "both"),
    "not a distribution": (tiny(("CategoricalDistribution((8, 16))", "(8, 16)")), "takes an optuna distribution"),
    "derived": (tiny(('("steps",)', '("stpes",)')), "Did you mean 'steps'?"),
    "pruner": (tiny(('("steps",)', '("steps",), pruner="medium"')), "Did you mean 'median'?"),
    "no SEARCH": ("x = 1", "has no global SEARCH"),
    "raises": ("raise KeyError('x')", "search file"),
}  # fmt: skip


def refused(lab, *more, says, **options):
    said = search(lab, *more, **options)
    assert (said.status, said.out) == (2, ""), said
    assert len(said.err.splitlines()) == 1, said.err
    for text in (says,) if isinstance(says, str) else says:
        assert text in said.err
    return said.err


@pytest.mark.parametrize(("content", "says"), FILES.values(), ids=FILES)
def test_search_files(content, says, empty_lab):
    refused(empty_lab, "--trials", "2", content=content, says=says)
    assert {p for p in os.listdir(empty_lab.folder) if p != "__pycache__"} == {"tiny.py"}


FLAGS = {
    "no trials": ([], "--trials is missing"),
    "trials 0": (["--trials", "0"], "--trials must be at least 1"),
    "trials, a word": (["--trials", "many"], "many"),
    "objectives": (["--trials", "2", "--objectives", "macs"], ["error or error,macs", "'macs'"]),
    "study too": (["--trials", "2", "--study", "smoke"], "exclude each other"),
    "cells": (["--trials", "2", "--cells", "a=b"], "--cells goes with --study"),
    "trial without confirm": (["--trials", "2", "--trial", "1"], "--trial goes with --confirm"),
    "trials and confirm": (["--trials", "2", "--confirm"], "--trials and --confirm"),
    "what it draws": (["--trials", "2", "--optim.lr", "0.1"], "is what search tiny draws"),
    "no validation": (["--trials", "2", "--data.val-images", "0"], "--data.val_images must be above 0"),
    "profile": (["--trials", "2", "--profile", "quick"], "search tiny always uses the profile smoke"),
}


@pytest.mark.parametrize(("flags", "says"), FLAGS.values(), ids=FLAGS)
def test_flags(flags, says, empty_lab):
    refused(empty_lab, *flags, says=says)


@pytest.mark.parametrize("flag", [["--trials", "2"], ["--confirm"], ["--storage", "x"], ["--objectives", "error,macs"]])
def test_flags_of_a_search_alone(flag, empty_lab):
    said = empty_lab.launch(*flag)
    assert (said.status, len(said.err.splitlines())) == (2, 1)
    assert f"{flag[0]} goes with --search NAME" in said.err


def test_an_unknown_search():
    said = main("--search", "atention56", "--trials", "2")
    assert (said.status, len(said.err.splitlines())) == (2, 1)
    assert "unknown search 'atention56'. Did you mean 'attention56'? Valid: attention56, noise_robust" in said.err


STORAGES = {
    "a folder that is not there": ("nowhere/optuna.journal", "there is no folder nowhere"),
    "a folder": (".", "it is a folder"),
    "no such kind": ("oracel://host/db", "oracel"),
    "nothing listens": ("postgresql://u:hunter2@127.0.0.1:9/db", ["postgresql://u:***@127.0.0.1:9/db", "refused"]),
    "no driver": ("mysql+pymysql://u:hunter2@127.0.0.1:9/db", ["driver is missing", "pip install pymysql"]),
}


@pytest.mark.parametrize(("storage", "says"), STORAGES.values(), ids=STORAGES)
def test_storages(storage, says, empty_lab):
    if storage.startswith("postgresql"):
        pytest.importorskip("psycopg2")
    err = refused(empty_lab, "--trials", "2", storage=storage, says=says)
    assert "hunter2" not in err
    refused(empty_lab, "--trials", "2", "--dry-run", storage=storage, says=says)


def test_another_programs_files_as_storage(lab):
    (lab.folder / "notes.txt").write_text("these are my notes\n" * 10)
    refused(lab, "--trials", "2", storage=str(lab.folder / "notes.txt"), says="no journal of Optuna's")
    refused(lab, "--trials", "2", storage=lab.uri, says="MLflow's tables")


def test_the_storage_of_another_search(lab, made_up):
    made_up()
    assert search(lab, "--trials", "1").status == 0
    refused(
        lab, "--trials", "2", content=tiny(("0.01, 1.0", "0.01, 2.0")),
        says=["holds another search", NAME, "space (optim.lr)", "another --storage"],
    )  # fmt: skip
    refused(lab, "--trials", "2", "--seeds", "3", says=["seeds ([0], not [3])"])
    assert search(lab, "--trials", "1", "--train.steps", "10").status == 0, "overrides make another search"


def test_the_lists_name_searches():
    said = main("--list")
    assert said.status == 0
    assert "attention56" in said.out
    assert "noise_robust" in said.out


def test_a_value_outside_the_space_is_not_trained(lab, monkeypatch):
    """Optuna only warns if such a value is enqueued, as from its dashboard or a notebook."""
    monkeypatch.setattr(execute, "train", pretend(by_rate))
    monkeypatch.setattr(execute, "log_probes", lambda *arguments: None)
    assert search(lab, "--trials", "1").status == 0
    optuna_study(lab).enqueue_trial({"optim.lr": 50.0, "train.batch_size": 8})
    said = search(lab, "--trials", "3")
    assert (
        "trial 1: failed: optim.lr = 50.0 lies outside the space of the search: FloatDistribution(high=1.0" in said.err
    )
    assert states(trials(lab)) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert sorted(lab.children()) == ["t0 s0", "t2 s0"]
