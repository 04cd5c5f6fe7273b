"""A small study, its runs in every state, and what they leave: the content of the golden store and of frames."""

import hashlib
import io
import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.read.runs import COMMIT as COMMIT_TAG
from analysis.read.runs import RunData, tidy
from records import names
from records.schema import CURRENT

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
        "planned_seeds": [0, 1, 2],
        # CellRuns outermost and cells backwards: the table must find its own order.
        "runs": [
            {"fingerprint": fingerprint(cell["depth"], cell["learning"], seed), "cell": cell, "seed": seed}
            for seed in (2, 0, 1)
            for cell in reversed(cells)
        ],
    }
    return record | changes


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Returns the tidy runs of rows as `run` makes them."""
    return tidy(run_data(row) for row in rows)


def run_data(row: dict[str, Any]) -> RunData:
    start = pd.Timestamp(row.get("start_time", "2026-01-01"), tz="UTC")
    tags = {
        names.FINGERPRINT: row["fingerprint"],
        names.OUTCOME: row.get("outcome", names.FINISHED),
        COMMIT_TAG: COMMIT,
    }
    tags |= {names.SEED: str(row["seed"])} if "seed" in row else {}
    tags |= {names.REASON: row.get("reason", ""), names.SCHEMA: str(row.get("schema", CURRENT))}
    return RunData(
        fingerprint=row["fingerprint"],
        source="a test",
        run_id="",
        start_time=int(start.timestamp() * 1000),
        tags=tags,
        params=row.get("params", {}),
        metrics={names.FINAL_TEST_ERR: row["test_err"]} if row.get("test_err", math.nan) == row.get("test_err") else {},
        curves=dict,
        artifact=lambda name: None,
    )


def run(depth: int, learning: str, seed: int, err: float = float("nan"), **more: Any) -> dict[str, Any]:
    return {"fingerprint": fingerprint(depth, learning, seed), "seed": seed, "test_err": err} | more


# Every way in which a study can be incomplete, once.
HALF_DONE = [
    run(56, "arl", 0, 10.0),
    run(56, "arl", 1, 11.0),
    run(56, "arl", 2, 12.0),
    run(56, "nal", 0, 10.5),
    run(56, "nal", 1, 11.5, start_time="2026-01-01"),
    run(56, "nal", 1, 99.0, start_time="2026-01-02"),  # a second result of the same fingerprint
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


def correct_npz(fingerprint: str) -> bytes:
    """test_correct.npz of 13 images, other ones for each run."""
    content = io.BytesIO()
    right = np.random.default_rng(int(fingerprint[:8], 16)).random(13) < 0.5
    np.savez(content, correct=np.packbits(right), count=13)
    return content.getvalue()
