"""A real PostgreSQL on the loopback interface, of Debian's package, in a folder of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "hunter2"


def binaries() -> Path | None:
    """The newest version's folder, or None where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def postgres() -> Iterator[str]:
    """Starts a server with one empty database; yields its URL. It refuses to run as root, so then as another user."""
    folder = Path(tempfile.mkdtemp(prefix="ran-postgres-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "password").write_text(PASSWORD)
    as_user: list[str] = []
    if os.getuid() == 0:
        names = {user.pw_name for user in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)
        as_user = ["runuser", "-u", user, "--"]

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(binaries() or "") + f"/{program}", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    data, log = folder / "data", folder / "log"
    try:
        run("initdb", "-D", str(data), "-U", "ran", "--auth-local=trust", "--auth-host=scram-sha-256",
            f"--pwfile={folder / 'password'}", "--no-sync")  # fmt: skip
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        # Its output goes to a file: a server that holds the pipe would never let `run` end.
        run("pg_ctl", "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
        try:
            run("createdb", "-h", str(folder), "-p", str(port), "-U", "ran", "optuna")
            yield f"postgresql://ran:{PASSWORD}@127.0.0.1:{port}/optuna"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
