"""A small study, its runs in every state, and what they leave: the content of the golden store and of frames."""

import hashlib
import io
from typing import Any

import numpy as np
import pandas as pd

from analysis.read.mlflow_store import RUN_COLUMNS
from records import names

COMMIT = "c0ffee" + 34 * "0"


def fingerprint(depth: int, learning: str, seed: int) -> str:
    return hashlib.sha256(f"{depth} {learning} {seed}".encode()).hexdigest()


def study_json(**changes: Any) -> dict[str, Any]:
    cells = [{"depth": depth, "learning": learning} for depth in (56, 92) for learning in ("arl", "nal")]
    record = {
        "schema": 1,
        "study": "arl_vs_nal",
        "title": "Attention residual learning against naive attention learning",
        "table": "3",
        "profile": "quick-1",
        "dataset": "cluttershapes",
        "overrides": {},
        "selection": "test error at the last step",
        "axes": [
            {
                "name": "depth",
                "header": "network",
                "values": [56, 92],
                "labels": ["Attention-56", "Attention-92"],
            },
            {"name": "learning", "header": "learning", "values": ["arl", "nal"], "labels": ["ARL", "NAL"]},
        ],
        "compare": {"axis": "learning", "baseline": "arl"},
        # CellRuns outermost and cells backwards: the table must find its own order.
        "runs": [
            {"fingerprint": fingerprint(cell["depth"], cell["learning"], seed), "cell": cell, "seed": seed}
            for seed in (2, 0, 1)
            for cell in reversed(cells)
        ],
    }
    return record | changes


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    filled = [
        {"outcome": names.FINISHED, "test_err": float("nan"), "start_time": "2026-01-01", "run_id": str(i)}
        | {"source": "a test", "commit": COMMIT, "params": {}, "metrics": {names.FINAL_TEST_ERR: row.get("test_err")}}
        | row
        for i, row in enumerate(rows)
    ]
    runs = pd.DataFrame(filled, columns=list(RUN_COLUMNS))
    return runs.assign(start_time=pd.to_datetime(runs["start_time"], utc=True))


def run(depth: int, learning: str, seed: int, err: float = float("nan"), **more: Any) -> dict[str, Any]:
    return {"fingerprint": fingerprint(depth, learning, seed), "seed": seed, "test_err": err} | more


# Every way in which a study can be incomplete, once.
HALF_DONE = [
    run(56, "arl", 0, 10.0),
    run(56, "arl", 1, 11.0),
    run(56, "arl", 2, 12.0),
    run(56, "nal", 0, 10.5),
    run(56, "nal", 1, 11.5, start_time="2026-01-02"),
    run(56, "nal", 1, 99.0, start_time="2026-01-01"),  # an older run of the same fingerprint
    run(56, "nal", 1, outcome=names.KILLED, start_time="2026-01-03"),  # a newer one without a result
    run(56, "nal", 2, outcome=names.DIVERGED),
    run(92, "arl", 0, 9.0),
    run(92, "arl", 1, outcome=names.FAILED, reason="out of memory"),
    run(92, "arl", 2, outcome=names.KILLED),
    run(92, "nal", 0, 8.25),
]


def masks_npz(fingerprint: str) -> bytes:
    """The arrays of masks.npz, small, and other ones for each run."""
    content = io.BytesIO()
    images = np.full((2, 3, 4, 4), int(fingerprint[:2], 16), dtype=np.uint8)
    np.savez_compressed(content, images=images, classes=np.array(["cat", "dog"]))
    return content.getvalue()


def probes_json(fingerprint: str) -> dict[str, Any]:
    response = {"split": "test", "images": 2000, "mean_abs": [1.0, 0.5, int(fingerprint[:2], 16) / 256]}
    return {"schema": 1, "response": response, "receptive_fields": []}
