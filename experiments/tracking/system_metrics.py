"""MLflow's system metrics of a run: load and memory of the machine."""

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

START_SECONDS = 2.0
"""delay before the monitor is loaded; the first point comes after 10 s, and many runs end before that"""


class SystemMetrics:
    """Logs a run's system metrics in the background, from `start` to `finish`."""

    def __init__(self, run_id: str, uri: str):
        self._run_id, self._uri = run_id, uri
        self._timer = threading.Timer(START_SECONDS, self._begin)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._over = False
        self._monitor: SystemMetricsMonitor | None = None

    def start(self) -> None:
        self._timer.start()

    def _begin(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with self._lock, contextlib.suppress(Exception):  # the store may be unavailable; the run matters more
            if not self._over:
                self._monitor = SystemMetricsMonitor(self._run_id, resume_logging=True, tracking_uri=self._uri)
                self._monitor.start()

    def finish(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._over = True
            if self._monitor is not None:
                self._monitor.finish()
