"""How a command ends, and how it refuses arguments."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from records.command import OneLineParser

ROOT = Path(__file__).parents[2]
CODE = """
import tempfile, time
from records.command import entry

def main():
    with tempfile.TemporaryDirectory(dir=DIR):
        print("ready", flush=True)
        time.sleep(60)

entry("x", main)
"""


def test_a_command_that_is_terminated_removes_its_temporary_folder(tmp_path):
    code = CODE.replace("DIR", repr(str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "ready\n"
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("program", "name"), [("plan", "plan"), ("python -m experiments.evaluate", "evaluate")])
def test_a_refusal_begins_with_the_name_of_the_command(program, name, capsys):
    with pytest.raises(SystemExit) as ended:
        OneLineParser(program).parse_args(["--no-such-option"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{name}: unrecognized arguments: --no-such-option\n"
