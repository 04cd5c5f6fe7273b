"""Commands whose streams are closed, of another encoding, or read to a part only."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = "import os, sys\nfrom records.command import entry\ndef main():\n    {}\n    return 0\nentry('test', main)\n"


def run(body: str, shell: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command with this body, as a process; `shell` is what a shell writes after the command."""
    text = f'"$0" -c "$1" {shell}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    arguments = ["bash", "-o", "pipefail", "-c", text, sys.executable, COMMAND.format(body)]
    return subprocess.run(arguments, capture_output=True, env=environment)


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", b"81.72 +- 2.05 -- -> M?ller ?\n"),
        ("latin-1", b"81.72 \xb1 2.05 -- -> M\xfcller ?\n"),
        ("cp1252", b"81.72 \xb1 2.05 -\x97 -> M\xfcller ?\n"),
        ("utf-8", "81.72 ± 2.05 ─— → Müller ?\n".encode()),
    ],
)
def test_characters_that_an_encoding_lacks(encoding: str, printed: bytes) -> None:
    text = "81.72 ± 2.05 ─— → Müller \\udcff"  # the last: a byte of a file's name that is no text
    done = run(f"print('{text}'); print('{text}', file=sys.stderr)", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, printed)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_leaves_early_ends_nothing(stream: str, tmp_path: Path) -> None:
    lines = f"[print('line', i, file=sys.{stream}, flush=True) for i in range(100_000)]"
    body = f"{lines}; open('{tmp_path}/end', 'w').close()"
    done = run(body, "| head -1" if stream == "stdout" else "2>&1 >/dev/null | head -1")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"line 0\n", b"")
    assert (tmp_path / "end").exists(), "what follows is done, too"


def test_a_terminal_that_is_closed_ends_nothing(tmp_path: Path) -> None:
    """SIGHUP comes with it; a launch still has to write its checkpoint, and says so on the terminal that is gone."""
    ours, theirs = os.openpty()
    body = f"sys.stdin.read(); print('one', flush=True); open('{tmp_path}/end', 'w').close()"
    command = [sys.executable, "-c", COMMAND.format(body)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environment) as process:
        time.sleep(0.5)
        os.close(theirs)
        os.close(ours)
        process.communicate()
    assert process.returncode == 0
    assert (tmp_path / "end").exists()


def test_nothing_is_held_back_if_the_user_says_so() -> None:
    done = run("print('one'); sys.stderr.write('two'); os._exit(3)", PYTHONUNBUFFERED="1")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"one\n", b"two")


def test_a_closed_stdin_is_an_empty_one() -> None:
    done = run("print(repr(sys.stdin.read()), sys.stdin.isatty(), sys.stdin.buffer.read())", "<&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"'' False b''\n", b"")


def test_closed_outputs_are_outputs_to_nowhere(tmp_path: Path) -> None:
    """Else the next file that is opened gets what is printed."""
    path = tmp_path / "file"
    body = (
        f"file = open('{path}', 'w'); os.write(1, b'one'); os.write(2, b'two'); print('three'); file.write('its own')"
    )
    done = run(body, "<&- >&- 2>&-")
    assert (done.returncode, path.read_text()) == (0, "its own")
