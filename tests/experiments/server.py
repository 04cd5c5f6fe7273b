"""A real `mlflow server` on the loopback interface, which tests stop and start."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab import Lab


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """An MLflow server over a sqlite file and an artifact folder of its own, unless `arguments` name another store."""

    folder: Path
    arguments: tuple[str, ...] = ("server",)
    """subcommand of mlflow and further options"""
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.port = free_port()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", *self.arguments),
            *("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
        ]
        if "--backend-store-uri" not in command:
            command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"]
            command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
            "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **self.environment,
        }  # fmt: skip
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """Kills the server and its workers, as a machine that goes away does."""
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@dataclass(frozen=True)
class ServerLab(Lab):
    """A lab whose tracking store is a server."""

    server: Server

    @property
    def uri(self) -> str:
        return self.server.uri
