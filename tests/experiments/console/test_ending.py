"""The collector's pause, and the end of a process."""

import gc
import os
import subprocess
import sys

import pytest

from records.collector import collector_paused


def test_the_collector_pauses_in_the_block_only():
    assert gc.isenabled()
    with collector_paused():
        with collector_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        collector_paused()(lambda: 1 / 0)()
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", f"from experiments.console.ending import leave\n{code}"],
        env={**os.environ, "PYTHONUNBUFFERED": ""}, text=True, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def test_leaving_writes_everything_and_calls_what_is_registered():
    code = "import atexit\natexit.register(print, 'registered')\nprint('printed')\nleave(3)"
    said = run(code, stdout=subprocess.PIPE)
    assert (said.returncode, said.stdout, said.stderr) == (3, "printed\nregistered\n", "")


def test_leaving_waits_for_threads():
    code = """
import threading, time
threading.Thread(target=lambda: (time.sleep(0.2), print('ended'))).start()
leave(2)
"""
    said = run(code, stdout=subprocess.PIPE)
    assert (said.returncode, said.stdout) == (2, "ended\n")


def test_leaving_with_a_closed_pipe_is_reported_as_python_does():
    reader, writer = os.pipe()
    os.close(reader)
    said = run("print('lost')\nleave(0)", stdout=writer)
    os.close(writer)
    assert said.returncode == 120
    assert "BrokenPipeError" in said.stderr
