"""A search on a real PostgreSQL, and Optuna's dashboard on its storage."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from postgres import PASSWORD, binaries, postgres
from searchlab import MADE_UP, MEET, NAME, search, start, states, trials

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database():
    pytest.importorskip("psycopg2", reason="pip install psycopg2-binary")
    if binaries() is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with postgres() as url:
        yield url


def test_two_launches_at_once_on_an_empty_database(lab, database):
    """Both find no tables and make them; they share the trials, and both end well."""
    both = [start(lab, "--trials", "8", before=MADE_UP + MEET, storage=database) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found = trials(lab, database)
    assert len(found) == 8
    assert set(states(found)) <= {"COMPLETE", "PRUNED"}
    assert len({t.user_attrs["launch"] for t in found}) == 2, "each had some"
    assert len({json.dumps(t.params) for t in found}) == 8, "none twice"
    assert sorted(lab.children()) == [f"t{n} s0" for n in range(8)]
    assert all(lab.each_point_once(name) for name in lab.children())
    assert PASSWORD not in json.dumps([run.to_dictionary() for run in lab.all_runs()])
    assert PASSWORD not in "".join(out + err for out, err in said)


@pytest.mark.long
def test_a_launch_that_is_killed_there(lab, database):
    """SIGKILL: what it had is tried again by the next launch of the same command."""
    launch = ("--trials", "4", "--train.steps", "40")
    name = f'{NAME} {{"train.steps": 40}}'
    process = start(lab, *launch, before=MADE_UP, storage=database)

    def running():
        try:
            return any(t.state.name == "RUNNING" and t.number == 1 for t in trials(lab, database, name))
        except KeyError:
            return False

    end = time.monotonic() + 240
    while not running():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    again = start(lab, *launch, before=MADE_UP, storage=database)
    _, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    found = trials(lab, database, name)
    assert "RUNNING" not in states(found)
    (killed,) = [t for t in found if t.state.name == "FAIL"]
    assert killed.user_attrs["reason"] == "its launch died"
    assert len(found) == 5


def test_a_wrong_password_is_one_line(lab, database):
    url = database.replace(PASSWORD, "guessed-it")
    said = search(lab, "--trials", "2", storage=url)
    assert (said.status, len(said.err.splitlines())) == (2, 1), said.err
    assert "password authentication failed" in said.err
    assert "guessed-it" not in said.err


def test_the_dashboard_shows_a_journal(lab):
    program = shutil.which("optuna-dashboard")
    if program is None:
        pytest.skip("no optuna-dashboard here: pip install optuna-dashboard")
    process = start(lab, "--trials", "2", before=MADE_UP)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "optuna.journal", "--port", str(port), "--server", "wsgiref"]
    with open(lab.folder / "dashboard.log", "w") as log:
        dashboard = subprocess.Popen(command, cwd=lab.folder, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=10) as answer:
                    content = json.loads(answer.read())
                break
            except (urllib.error.URLError, OSError):
                assert dashboard.poll() is None, (lab.folder / "dashboard.log").read_text()
                assert time.monotonic() < end, "the dashboard does not start"
                time.sleep(0.2)
    finally:
        dashboard.kill()
        dashboard.wait()
    (study,) = content["study_summaries"]
    assert study["study_name"] == NAME
