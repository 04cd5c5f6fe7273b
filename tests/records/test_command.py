"""How a command ends."""

import signal
import subprocess
import sys
from pathlib import Path

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
