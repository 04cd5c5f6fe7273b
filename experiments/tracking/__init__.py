"""The tracking store: all code of `experiments` that reads or writes MLflow.

MLflow takes one or two seconds to import. The modules here import it only when a store is used, so `--help` and a dry
run without a store do not wait for it.
"""

import logging
import os

# MLflow reads these when it is imported. Its default is 7 tries of 120 s; with these a server that is down or hangs is
# noticed within seconds. What cannot be delivered is kept on disk (spool.py).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for the table

# Both log the errors that they raise, with a traceback, and MLflow what it does; we report what matters, in one line.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # for an MLflow that is imported already
logging.getLogger("alembic").setLevel(logging.CRITICAL)
