"""Signals that ask a launch to stop."""

import os
import signal
import sys

from experiments.console.signals import STOPPING, stop_request


class Interrupted:
    """A stderr in the middle of a write, as Python finds it in the handler of a signal."""

    def write(self, text):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    flush = write


def test_a_signal_within_a_write_to_stderr_stops_the_launch_and_fails_nothing(monkeypatch):
    with stop_request() as stop, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Interrupted())
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
    assert stop.exit_status == 143


def test_the_first_signal_says_what_a_second_does(capsys):
    with stop_request() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
    assert capsys.readouterr().err == f"\n{STOPPING}\n"
