"""A real MLflow server that asks for a name and a password, and what users with other rights can do there."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode

import pytest
from lab import ROOT, Said
from searchlab import tiny
from server import Server, ServerLab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("flask_wtf") is None, reason="the extra mlflow[auth] is not installed"),
]
PASSWORD = "a-password-of-tests"  # of all users

SETTINGS = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = admin
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 600
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with the users `reader`, who may only read what others made, and `editor`; `admin` has made a study."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "basic_auth.ini").write_text(SETTINGS.format(folder=folder, password=PASSWORD))
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "key"}
    server = Server(folder, arguments=("server", "--app-name", "basic-auth"), environment=environment)
    server.start()
    for user in ("reader", "editor"):
        ask(server, "2.0/mlflow/users/create", {"username": user, "password": PASSWORD})
    said = launch(server, "admin")
    assert said.status == 0, said.err
    experiment = re.search(r"/experiments/(\d+)/", said.err).group(1)
    ask(server, "3.0/mlflow/users/permissions/grant", {
        "username": "editor", "resource_type": "experiment", "resource_id": experiment, "permission": "EDIT",
    })  # fmt: skip
    yield server
    server.stop()


def ask(server, path, content):
    """Sends a request as admin."""
    token = b64encode(f"admin:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.uri}/api/{path}", json.dumps(content).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def launch(server, user, *arguments, password=PASSWORD, what=("--study", "smoke"), folder=None):
    """A launch in a process of its own, of the smoke study unless `what` names something else."""
    lab = ServerLab(server.folder / (folder or f"lab-{user}"), server)
    lab.folder.mkdir(exist_ok=True)
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password,
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "run_ablation.py"), *what, *lab.places(), *arguments]
    done = subprocess.run(command, cwd=lab.folder, env=environment, capture_output=True, text=True, timeout=300)
    return Said(done.returncode, done.stdout, done.stderr)


def refused(said):
    """The line of a launch that was refused and has trained nothing."""
    assert (said.status, said.out) == (2, ""), said.err
    (line,) = said.err.splitlines()
    return line


def test_a_reader_gets_the_table_of_a_finished_study(server):
    of_admin = launch(server, "admin")
    said = launch(server, "reader")
    assert (said.status, said.out) == (0, of_admin.out)
    assert "NAL" in said.out
    first, second = said.err.splitlines()
    assert "0 of 2 runs to do" in first
    assert second == f"in a browser: {server.uri}/#/experiments/1/runs?workflowType=machine_learning"


def test_a_reader_is_refused_before_training(server):
    began = time.monotonic()
    line = refused(launch(server, "reader", "--seeds", "1"))
    assert f"the tracking store {server.uri} does not permit this" in line
    assert line.endswith("; ask its administrator for the permission EDIT, or name another store with --tracking-uri")
    assert time.monotonic() - began < 60, "at once, but for the imports of a slow machine"


def test_an_editor_trains(server):
    said = launch(server, "editor", "--seeds", "0,1")
    assert said.status == 0, said.err
    assert said.err.count("finished") == 2, "the runs of the other seed"


def test_a_reader_gets_the_table_of_a_finished_search_and_no_more_trials(server):
    (server.folder / "tiny.py").write_text(tiny())

    def search(user, trials):
        what = ("--search", str(server.folder / "tiny.py"), "--trials", trials)
        return launch(server, user, what=what, folder="lab-search")

    of_admin = search("admin", "1")
    assert of_admin.status == 0, of_admin.err
    of_reader = search("reader", "1")
    assert (of_reader.status, of_reader.out) == (0, of_admin.out), of_reader.err
    assert "1 of 1 trials done" in of_reader.err.splitlines()[0]
    line = refused(search("reader", "2"))
    assert line.startswith(f"run_ablation: the tracking store {server.uri} does not permit this: ")
    assert line.endswith("; ask its administrator for the permission EDIT, or name another store with --tracking-uri")


@pytest.mark.parametrize("options", [(), ("--seeds", "1"), ("--dry-run",)])
def test_a_wrong_password_is_refused_in_one_line(server, options):
    line = refused(launch(server, "reader", *options, password="wrong"))
    assert line.startswith(f"run_ablation: cannot use the tracking store {server.uri}: ")
    assert "You are not authenticated" in line
