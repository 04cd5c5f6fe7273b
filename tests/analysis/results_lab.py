"""Studies and their runs as Results, without a store: cells with test errors, metrics and probes by seed."""

import hashlib
import io
import itertools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.read.results import Results
from analysis.read.runs import RunData, tidy
from analysis.stats import Contrast
from analysis.tables.cells import Table
from analysis.tables.formats import to_text
from records import names
from records.schema import CURRENT
from records.study_json import StudyRecord

EXPECTED = Path(__file__).parent / "expected"

DEPTHS = (56, 92, 128, 164)
CIFAR_NETWORKS = {
    "resnet164": "ResNet-164", "resnet1001": "ResNet-1001", "wrn16_8": "WRN-16-8", "wrn28_10": "WRN-28-10",
    "attention92": "Attention-92", "attention236": "Attention-236", "attention452": "Attention-452",
}  # fmt: skip
IMAGENET_NETWORKS = {
    "resnet152_imagenet": "ResNet-152", "attention56_imagenet": "Attention-56",
    "resnext101_32x4d_imagenet": "ResNeXt-101", "attentionnext56_imagenet": "AttentionNeXt-56",
    "attentioninception56_imagenet": "AttentionInception-56", "attention92_imagenet": "Attention-92",
}  # fmt: skip
LABELS = {"arl": "ARL", "nal": "NAL", "resnet164": "ResNet-164", "attention92": "Attention-92"}
# name -> (title, table, axis -> values, compared axis, baseline)
STUDIES: dict[str, tuple[str, str | None, dict[str, Sequence[Any]], str, Any]] = {
    "arl_vs_nal": ("ARL against NAL", "3", {"depth": DEPTHS, "learning": ("arl", "nal")}, "learning", "arl"),
    "mask_type": (
        "Attention types",
        "1",
        {"mask_activation": ("mixed", "channel", "spatial")},
        "mask_activation",
        "mixed",
    ),
    "mask_structure": (
        "Mask structure",
        "4",
        {"mask_structure": ("local_conv", "local_conv_macs", "encoder_decoder")},
        "mask_structure",
        "encoder_decoder",
    ),
    "noisy_labels": (
        "Noisy labels",
        "5",
        {"noise": (0.0, 0.1, 0.3, 0.5, 0.7), "network": ("resnet164", "attention92")},
        "network",
        "resnet164",
    ),
    "cifar": ("CIFAR networks", "6", {"network": tuple(CIFAR_NETWORKS)}, "network", "resnet164"),
    "imagenet": ("ImageNet networks", "7", {"network": tuple(IMAGENET_NETWORKS)}, "network", "resnet152_imagenet"),
    "controls": (
        "Attention or compute",
        None,
        {"network": ("attention56", "no_mask", "trunk")},
        "network",
        "attention56",
    ),
    "depth_response": (
        "Response",
        None,
        {"network": ("attention164_arl", "attention164_nal", "resnet164")},
        "network",
        "attention164_arl",
    ),
}

Cell = tuple[Any, ...]
# What happened to each seed of a cell: a test error in %, an outcome, or a run's metrics; absent: not run.
CellRuns = Mapping[int, float | str | Mapping[str, float]]


def study_with_runs(
    name: str,
    cells: Mapping[Cell, CellRuns],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    plan: Sequence[int] | None = None,
    profile: str = "quick-1",
    dataset: str = "cifar10",
    overrides: Mapping[str, Any] | None = None,
    networks: Mapping[Cell, Mapping[str, Any]] | None = None,
    params: Mapping[str, str] | None = None,
    responses: Mapping[Cell, Sequence[float] | Mapping[int, Sequence[float]]] | None = None,
    wrong: Mapping[Cell, "np.ndarray[Any, Any]"] | None = None,
    hours: float | None = 0.5,
) -> tuple[StudyRecord, list[RunData]]:
    """A study of STUDIES and its runs.

    `plan`: the seeds that the study plans, () for none on record; default: `seeds`, those that were launched.
    `responses`: the stages' in a cell's probes, of all seeds or by seed. `wrong`: whether each test image was
    misclassified, (seeds, N) bools, for cells whose errors in `cells` are left out.
    """
    title, table, axes, compared, baseline = STUDIES[name]
    named = {**LABELS, **CIFAR_NETWORKS, **IMAGENET_NETWORKS}
    everything = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    planned = [(cell, seed) for seed in seeds for cell in everything]
    errors = {cell: dict(enumerate(100 * of_cell.mean(1))) for cell, of_cell in (wrong or {}).items()}
    cells = {**cells, **errors}
    group = json.dumps([profile, dataset, overrides or {}])

    def mark(cell: Mapping[str, Any], seed: int) -> str:
        return hashlib.sha256(f"{name} {group} {json.dumps(cell)} {seed}".encode()).hexdigest()

    record = {
        "schema": 1, "study": name, "title": title, "table": table, "profile": profile, "dataset": dataset,
        "overrides": dict(overrides or {}), "selection": "test error at the last step",
        "axes": [
            {"name": axis, "header": axis, "values": list(values), "labels": [named.get(v, str(v)) for v in values]}
            for axis, values in axes.items()
        ],
        "compare": {"axis": compared, "baseline": baseline},
        "planned_seeds": list(seeds if plan is None else plan),
        "runs": [{"fingerprint": mark(cell, seed), "cell": cell, "seed": seed} for cell, seed in planned],
        "cells": [
            {"cell": cell, "network": (networks or {}).get(tuple(cell.values()))} for cell in everything
        ],
    }  # fmt: skip
    runs = []
    for cell in everything:
        for seed, happened in cells.get(tuple(cell.values()), {}).items():
            outcome = happened if isinstance(happened, str) else names.FINISHED
            metrics = {} if hours is None else {names.COST_HOURS: hours}
            if not isinstance(happened, str):
                metrics |= happened if isinstance(happened, Mapping) else {names.FINAL_TEST_ERR: happened}
            probes = (responses or {}).get(tuple(cell.values()))
            probes = probes[seed] if isinstance(probes, Mapping) else probes
            artifacts = {} if probes is None else {names.PROBES_JSON: _probes(probes)}
            if (of_cell := (wrong or {}).get(tuple(cell.values()))) is not None:
                artifacts[names.TEST_CORRECT] = _correct(~of_cell[seed])
            runs.append(_run(mark(cell, seed), seed, outcome, metrics, params or {}, artifacts))
    return StudyRecord.from_json(record), runs


def _run(
    mark: str,
    seed: int,
    outcome: str,
    metrics: Mapping[str, float],
    params: Mapping[str, str],
    artifacts: Mapping[str, bytes],
) -> RunData:
    return RunData(
        fingerprint=mark,
        source="a test",
        run_id="",
        start_time=1_760_000_000_000,
        tags={
            names.FINGERPRINT: mark,
            names.SEED: str(seed),
            names.OUTCOME: outcome,
            names.SCHEMA: str(CURRENT),
        },
        params=params,
        metrics=metrics,
        curves=dict,
        artifact=artifacts.get,
    )


def _probes(responses: Sequence[float]) -> bytes:
    return json.dumps({"response": {"mean_abs": list(responses)}}).encode()


def _correct(right: "np.ndarray[Any, Any]") -> bytes:
    content = io.BytesIO()
    np.savez(content, correct=np.packbits(right), count=len(right))
    return content.getvalue()


def interval(mean: float, low: float | None, high: float | None, n: int) -> Contrast:
    """A contrast over seeds with this interval."""
    se = None if low is None or high is None else (high - low) / 4
    return Contrast(mean, low, high, se, None if se is None else float(n - 1), se, None, n)


def results_of(*parts: tuple[StudyRecord, list[RunData]]) -> Results:
    """The results that hold these studies and runs."""
    runs = [run for _, of_study in parts for run in of_study]
    return Results(
        sources=(f"a test: {len(runs)} runs",),
        studies=tuple(study for study, _ in parts),
        runs=tidy(runs),
        problems=(),
        kept={run.fingerprint: [run] for run in runs},
    )


def network(name: str, width: float = 1.0, structure: str = "encoder_decoder", **changes: int) -> dict[str, Any]:
    """A cell's network as study.json has it."""
    return {"name": name, "width": width, "mask_structure": structure, "num_classes": 10, "image_size": 32} | changes


def is_expected(name: str, table: Table) -> None:
    """Compares a table's text with the golden file of this name, whole and to the last space."""
    found = to_text(table)
    assert max(map(len, found.splitlines())) <= 100
    assert found == (EXPECTED / f"{name}.txt").read_text(encoding="utf-8")


def fill(path: Path, *, runs: int, points: int) -> None:
    """Adds runs with four curves each, by SQL: MLflow takes half a minute."""
    keys = (names.TRAIN_LOSS, names.TRAIN_ERR, names.VAL_LOSS, names.VAL_ERR)
    columns = {
        "runs": "run_uuid, name, user_id, status, start_time, lifecycle_stage, artifact_uri, experiment_id",
        "tags": "key, value, run_uuid",
        "params": "key, value, run_uuid",
        "metrics": "key, value, timestamp, run_uuid, step, is_nan",
        "latest_metrics": "key, value, timestamp, step, is_nan, run_uuid",
    }
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in columns}
    with sqlite3.connect(path) as connection:
        ours = "SELECT experiment_id FROM experiments WHERE name = 'ran/cluttershapes'"
        experiment = connection.execute(ours).fetchone()[0]
        for i in range(runs):
            run = f"{i:032x}"
            start, uri = 1_700_000_000_000 + i, f"/nowhere/{run}"
            rows["runs"].append((run, f"run {i}", "", "FINISHED", start, "active", uri, experiment))
            tags = {names.FINGERPRINT: f"a{i:063x}", names.OUTCOME: names.FINISHED, names.SEED: str(i)}
            tags |= {names.SCHEMA: str(CURRENT)}
            rows["tags"] += [(key, value, run) for key, value in tags.items()]
            rows["params"] += [(f"param.{k}", str(k), run) for k in range(20)]
            rows["metrics"] += [(key, s / 7, 0, run, s, 0) for key in keys for s in range(points)]
            rows["latest_metrics"] += [(key, 1.0, 0, points, 0, run) for key in (*keys, names.FINAL_TEST_ERR)]
        for table, values in rows.items():
            marks = ", ".join("?" * len(values[0]))
            connection.executemany(f"INSERT INTO {table} ({columns[table]}) VALUES ({marks})", values)
