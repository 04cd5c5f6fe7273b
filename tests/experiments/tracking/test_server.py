"""The tracking server goes away: before, for a while, for good; and two machines that share one.

Against a real `mlflow server` on loopback, which the tests kill and start again.
"""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from lab import BOTH, SLOW, STEPS, Lab, main, same_bits, wait_for
from server import Server, ServerLab

from experiments import launch as launching
from experiments.console.progress import PlainReporter
from experiments.executors import run_plan
from experiments.runner import delivery, settings
from experiments.runner.run_dir import REFUSED
from experiments.tracking import leases, run_log
from experiments.tracking.spool import SPOOL
from records import names

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory, migrated_store):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(migrated_store, folder / "server.db")
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture
def lab(server, migrated_store, tmp_path, monkeypatch):
    """A server with an empty store, and checkpoints at every step, so that each step tries to deliver."""
    server.stop()
    for side in ("", "-wal", "-shm"):
        (server.folder / f"server.db{side}").unlink(missing_ok=True)
    shutil.copy(migrated_store, server.folder / "server.db")
    server.start()
    monkeypatch.setattr(run_log, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(delivery, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(launching, "LAST_WAIT", 1.0)
    monkeypatch.setattr(settings, "CHECKPOINT_SECONDS", 0.0)
    folder = tmp_path / "lab"
    folder.mkdir()
    return ServerLab(folder, server)


def on_steps(actions):
    """A reporter that does something at a step of a run: {(run, step): action}."""

    class Acts(PlainReporter):
        def step(self, name, step):
            super().step(name, step)
            if action := actions.get((name, step)):
                action()

    return Acts


def as_undisturbed(lab: Lab, whole: Lab, *runs: str) -> None:
    """Asserts that the store holds what it would hold had nothing happened."""
    assert sorted(lab.children()) == sorted(runs)
    for name in runs:
        run, other = lab.children()[name], whole.children()[name]
        assert (run.data.tags[names.OUTCOME], run.info.status) == (names.FINISHED, "FINISHED")
        assert same_bits(lab.weights(name), whole.weights(name))
        assert lab.comparable(name) == whole.comparable(name)
        assert lab.each_point_once(name)
        assert run.data.params.keys() == other.data.params.keys()
        files = [
            {file.path for file in a.client.list_artifacts(r.info.run_id)} for a, r in ((lab, run), (whole, other))
        ]
        assert files[0] == files[1]
    assert [path.name for path in lab.checkpoints.iterdir()] == ["launch.lock"]


def waiting(lab: Lab) -> list[Path]:
    return list(lab.checkpoints.glob(f"*/{SPOOL}"))


def test_a_server_that_is_up(lab, whole):
    assert lab.launch(*BOTH).status == 0
    as_undisturbed(lab, whole, "arl s0", "nal s0")


def test_down_at_the_start(lab):
    lab.server.stop()
    began = time.monotonic()
    said = lab.launch(*STEPS)
    assert (said.status, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert said.err.startswith(f"run_ablation: cannot use the tracking store {lab.uri}")
    assert time.monotonic() - began < 10
    assert lab.listing() == {}


def test_away_for_a_while(lab, whole, monkeypatch):
    """In the middle of the first run, with its evaluation at step 10; RAN_OUTAGE makes it as many seconds longer."""
    longer = float(os.environ.get("RAN_OUTAGE", "0"))
    actions = {
        ("arl s0", 7): lab.server.stop, ("arl s0", 12): lambda: time.sleep(longer), ("arl s0", 14): lab.server.start,
    }  # fmt: skip
    monkeypatch.setattr(launching, "reporter", on_steps(actions))
    said = lab.launch(*BOTH)
    assert said.status == 0, said.err
    as_undisturbed(lab, whole, "arl s0", "nal s0")
    assert {run.data.tags[names.RESUMES] for run in lab.children().values()} == {"0"}


def test_away_while_one_run_ends_and_the_next_begins(lab, whole, monkeypatch):
    actions = {("arl s0", 15): lab.server.stop, ("nal s0", 10): lab.server.start}
    monkeypatch.setattr(launching, "reporter", on_steps(actions))
    said = lab.launch(*BOTH)
    assert said.status == 0, said.err
    as_undisturbed(lab, whole, "arl s0", "nal s0")


def test_stays_away_and_the_next_launch_delivers(lab, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", on_steps({("arl s0", 7): lab.server.stop}))
        said = lab.launch(*BOTH)
    assert said.status == 1
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1] == (
        f"the tracking store does not answer: the logs of 2 run(s) are kept in {lab.checkpoints}; "
        "the same command delivers them"
    )
    assert "no table: " in said.err
    assert len(waiting(lab)) == 2

    assert lab.launch(*BOTH).status == 2, "still away"
    assert len(waiting(lab)) == 2
    lab.server.start()
    said = lab.launch(*BOTH)
    assert said.status == 0, said.err
    assert said.err.startswith("delivered the logs of 2 run(s), which the tracking store had missed")
    assert "0 of 2 runs to do" in said.err
    as_undisturbed(lab, whole, "arl s0", "nal s0")
    assert "ARL" in said.out


def test_any_later_launch_delivers(lab, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(launching, "reporter", on_steps({("arl s0", 7): lab.server.stop}))
        lab.launch(*STEPS)
    lab.server.start()
    said = lab.launch("--seeds", "5", "--cells", "learning=nal")
    assert said.status == 0
    assert sorted(lab.children()) == ["arl s0", "nal s5"]
    assert same_bits(lab.weights("arl s0"), whole.weights("arl s0"))


def test_killed_while_the_server_is_away(lab, whole, monkeypatch):
    """Points wait on disk alone when the process dies."""
    (lab.folder / "slow_steps.py").write_text(
        SLOW + "\nimport experiments.tracking.run_log\nexperiments.tracking.run_log.RETRY_SECONDS = 0.3\n"
    )
    lab.hold(6)
    process = lab.start(*STEPS, "--import", "slow_steps")
    wait_for(lambda: lab.steps() and lab.steps()[-1] >= 4, process)
    lab.server.stop()
    lab.hold(12)
    wait_for(lambda: waiting(lab) and lab.steps()[-1] >= 9, process)
    process.kill()
    process.communicate(timeout=180)
    lab.server.start()
    said = lab.launch(*STEPS)
    assert said.status == 0, said.err
    as_undisturbed(lab, whole, "arl s0")
    assert lab.children()["arl s0"].data.tags[names.RESUMES] == "1"


def test_sigterm_while_the_server_is_away(lab, whole, monkeypatch):
    (lab.folder / "slow_steps.py").write_text(SLOW)
    lab.hold(6)
    process = lab.start(*STEPS, "--import", "slow_steps")
    wait_for(lambda: lab.steps() and lab.steps()[-1] >= 4, process)
    lab.server.stop()
    process.send_signal(signal.SIGTERM)
    lab.go()
    began = time.monotonic()
    _, err = process.communicate(timeout=180)
    assert process.returncode == 143, err
    assert time.monotonic() - began < 30, "docs/reliability.md says 10 s, of a machine that is not busy"
    assert "Traceback" not in err
    lab.server.start()
    assert lab.launch(*STEPS).status == 0
    as_undisturbed(lab, whole, "arl s0")


def test_a_server_that_hangs(lab, whole, monkeypatch):
    """It takes connections and does not answer: stopped, not killed."""
    pid = lab.server.process.pid
    actions = {
        ("arl s0", 7): lambda: os.killpg(pid, signal.SIGSTOP), ("arl s0", 14): lambda: os.killpg(pid, signal.SIGCONT),
    }  # fmt: skip
    monkeypatch.setattr(launching, "reporter", on_steps(actions))
    monkeypatch.setattr(launching, "LAST_WAIT", 30.0)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        said = lab.launch(*STEPS)
    assert said.status == 0, said.err
    as_undisturbed(lab, whole, "arl s0")


def test_a_run_deleted_while_it_trains(lab, monkeypatch):
    """In the page, by hand. The store refuses; nothing of it is kept against the user's will, and others go on."""

    def delete():
        lab.client.delete_run(lab.children()["arl s0"].info.run_id)

    monkeypatch.setattr(launching, "reporter", on_steps({("arl s0", 7): delete}))
    said = lab.launch(*BOTH)
    assert said.status == 1
    assert "arl s0: killed: the tracking store" in said.err
    assert list(lab.children()) == ["nal s0"]
    assert len(list(lab.checkpoints.glob(f"*/{REFUSED}"))) == 1, "nor is it thrown away"


# Several machines


def test_two_machines_share_a_study(lab, whole):
    """Two processes with checkpoints of their own have nothing in common but the store."""
    (lab.folder / "slow_steps.py").write_text(SLOW)
    folders = [lab.folder / name for name in ("one", "two")]
    processes = [lab.start(*BOTH, "--import", "slow_steps", "--checkpoints", str(folder)) for folder in folders]
    ended = [process.communicate(timeout=240) for process in processes]
    for process, (_, err) in zip(processes, ended, strict=True):
        assert process.returncode == 0, err
        assert "Traceback" not in err
    assert sum(err.count(": start") for _, err in ended) == 2, "no run trains twice"
    assert ended[0][0] == ended[1][0]
    assert len(lab.parents()) == 1
    assert {run.data.tags[names.RESUMES] for run in lab.children().values()} == {"0"}
    assert [model.name for model in lab.client.search_registered_models()] == [], "no claim is left"
    lab.checkpoints.mkdir()
    (lab.checkpoints / "launch.lock").touch()
    as_undisturbed(lab, whole, "arl s0", "nal s0")


def test_the_run_of_a_machine_that_died_is_taken_over_and_that_of_a_living_one_is_not(lab, whole, monkeypatch):
    (lab.folder / "slow_steps.py").write_text(SLOW)
    lab.hold(3)  # for good
    process = lab.start(*STEPS, "--import", "slow_steps", "--checkpoints", str(lab.folder / "dead"))
    wait_for(lambda: list(lab.folder.glob("dead/*/step-*")), process)
    polls = []

    def pause(seconds, stop):
        polls.append(seconds)
        if len(polls) == 2:
            process.kill()
            process.communicate(timeout=180)
            monkeypatch.setattr(leases, "LEASE_SECONDS", 0.5)
        time.sleep(1)

    monkeypatch.setattr(run_plan, "pause", pause)
    said = main("--study", "smoke", *lab.places(), *STEPS)
    assert said.status == 0, said.err
    assert len(polls) >= 2, "while it lived its run was left to it"
    as_undisturbed(lab, whole, "arl s0")
    assert lab.children()["arl s0"].data.tags[names.RESUMES] == "1"
