"""Write throughput and latency of an MLflow server by number of concurrent clients.

    python -m benchmarks.server --backend sqlite --backend postgresql+psycopg2://user@localhost/mlflow

Each write is the log_batch of ten metrics that a run sends before a checkpoint. Clients are threads of one process;
the server runs on the same machine, and shares its cores with them.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import machine
from records.secrets import mask_secrets

CLIENTS = (1, 4, 16)


def main(argv: list[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = argparse.ArgumentParser("benchmarks.server", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backend", action="append", help="sqlite, or a database URL; repeatable (default: sqlite)")
    parser.add_argument("--workers", type=int, default=2, help="number of server processes")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each measurement")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    rows = []
    print(f"{machine()}, server of {options.workers} processes")
    print(f"{'backend':<12} {'clients':>7} {'writes/s':>9} {'median ms':>10} {'p99 ms':>8}")
    for backend in options.backend or ["sqlite"]:
        name = mask_secrets(backend.partition(":")[0])
        with tempfile.TemporaryDirectory(prefix="server-") as folder, serving(folder, backend, options.workers) as uri:
            for clients in CLIENTS:
                times = writes(uri, clients, options.seconds)
                rate, middle = len(times) / options.seconds, 1e3 * statistics.median(times)
                worst = 1e3 * sorted(times)[int(0.99 * len(times))]
                rows.append({"backend": name, "clients": clients, "per_s": rate, "ms": middle, "p99_ms": worst})
                print(f"{name:<12} {clients:>7} {rate:>9.1f} {middle:>10.1f} {worst:>8.1f}", flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")
    return 0


@contextlib.contextmanager
def serving(folder: str, backend: str, workers: int) -> Iterator[str]:
    """Starts a server and yields its URI."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"sqlite:///{folder}/mlflow.db" if backend == "sqlite" else backend
    if backend == "sqlite":
        from experiments.tracking.store import Store

        Store.open(store)  # with a journal mode for several writers
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(workers), "--backend-store-uri", store, "--artifacts-destination", f"{folder}/artifacts"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = open(f"{folder}/server.txt", "w")  # noqa: SIM115
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server does not start: {Path(folder, 'server.txt').read_text()[-2000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(30)
        log.close()


def writes(uri: str, clients: int, seconds: float) -> list[float]:
    """Returns the duration of each write by `clients` that write without pause for `seconds`."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    first = MlflowClient(uri)
    name = f"writes-{time.time_ns()}"
    experiment = first.create_experiment(name)
    times: list[float] = []
    end = time.monotonic() + seconds

    def write() -> None:
        client = MlflowClient(uri)
        run = client.create_run(experiment).info.run_id
        step = 0
        while time.monotonic() < end:
            step += 1
            metrics = [Metric(f"metric/{i}", float(step), int(time.time() * 1000), step) for i in range(10)]
            began = time.monotonic()
            client.log_batch(run, metrics=metrics)
            times.append(time.monotonic() - began)

    threads = [threading.Thread(target=write) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


if __name__ == "__main__":
    sys.exit(main())
