"""What a study's parent run shows in MLflow: its table as the description, table and figures as files.

Each of its runs gets a picture of its masks, too.
"""

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.read.mlflow_client import StoreError, connect, connect_to_write, one_line_errors
from analysis.read.mlflow_store import NOTE
from analysis.read.results import Results, results_of_parent
from analysis.tables.cell_results import index_runs
from analysis.tables.formats import FORMATS, to_markdown, to_text
from analysis.tables.study_table import build_table, study_table
from records import names
from records.mlflow_uri import DEFAULT_URI, sqlite_path
from records.study_json import CellKey, StudyRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "results"
"""of the parent's files"""
MASKS_PNG = "masks.png"
KINDS = ("claims", "curves", "depth", "noise", "budget", "4", "cost", "3")
MOST = 7_500  # letters of a description: MLflow cuts it at 8,000
_ABOUT = "\n\n---\n\n"  # between the table and what the study says of itself
SERVER = "http://127.0.0.1:5000"  # of `mlflow ui`


@dataclass(frozen=True)
class Address:
    """Where a browser shows the runs of an experiment."""

    command: str | None
    """command that serves the store; None if it is a server"""
    url: str

    def __str__(self) -> str:
        return self.url if self.command is None else f"{self.command}, then {self.url}"


def table_so_far(tracking_uri: str, parent_id: str, cells: Collection[CellKey]) -> str:
    """Returns the table of some cells of a study as text; "" if there is none, and why on stderr."""
    try:
        return to_text(study_table(tracking_uri, parent_id, cells))
    except StoreError as error:
        print(f"no table: {error}", file=sys.stderr)
        return ""


def finish(tracking_uri: str, parent_id: str, *, figures: bool, may_write: bool = True) -> None:
    """Does `show` if this user may write, and says on stderr where a browser shows the runs, or what went wrong."""
    try:
        if may_write:
            show(tracking_uri, parent_id, figures=figures)
        print(f"in a browser: {address(tracking_uri, parent_id)}", file=sys.stderr)
    except StoreError as error:
        print(f"table and figures are not in the store: {error}", file=sys.stderr)


def show(tracking_uri: str, parent_id: str, *, figures: bool) -> None:
    """Writes the table of a study into its parent run's description and files; with `figures`, all pictures too.

    Raises StoreError.
    """
    results = results_of_parent(tracking_uri, parent_id)
    (study,) = results.studies
    table = build_table(study, index_runs(results.runs, results.kept))
    with one_line_errors(tracking_uri, "write"), tempfile.TemporaryDirectory() as folder:
        client = connect_to_write(tracking_uri)
        for suffix, render in FORMATS.values():
            (Path(folder) / f"table{suffix}").write_text(render(table), encoding="utf-8")
        if figures:
            _draw(results, study, Path(folder))
        client.log_artifacts(parent_id, folder, FOLDER)
        note = client.get_run(parent_id).data.tags.get(NOTE, "")
        client.set_tag(parent_id, NOTE, description(to_markdown(table), note))
        if figures:
            _draw_masks(client, results, study)


def description(table: str, before: str) -> str:
    """Returns a parent's description with this table, and below it what the study says of itself, from the one before.

    A table that is too long is left to the files.
    """
    about = before.rpartition(_ABOUT)[2]
    shown = table if len(table) + len(about) < MOST else f"The table is the file {FOLDER}/table.md of this run."
    return f"{shown.strip()}{_ABOUT}{about}"


def address(tracking_uri: str, parent_id: str) -> Address:
    """Returns where a browser shows the runs beside a parent run. Raises StoreError.

    The page's own default is a view for language models, in which there are no runs; the address asks for the other.
    """
    with one_line_errors(tracking_uri):
        experiment = connect(tracking_uri).get_run(parent_id).info.experiment_id
    path, served = f"/#/experiments/{experiment}/runs?workflowType=machine_learning", None
    server = tracking_uri.rstrip("/")
    if not re.match(r"https?://", tracking_uri):
        server, served = SERVER, "mlflow ui"
        here = sqlite_path(DEFAULT_URI)
        if here is None or (file := sqlite_path(tracking_uri)) is None or file.absolute() != here.absolute():
            served += f" --backend-store-uri {shlex.quote(tracking_uri)}"
    return Address(served, server + path)


def _draw(results: Results, study: StudyRecord, folder: Path) -> None:
    from analysis.figures import collect_figures, render

    for figure in collect_figures(results, [study], KINDS)[0]:
        (folder / f"{figure.stem}.png").write_bytes(render(figure, "png"))


def _draw_masks(client: "MlflowClient", results: Results, study: StudyRecord) -> None:
    """Logs masks.png on each run of the study that has masks and no picture of them."""
    from analysis.figures.curves_over_seeds import cells_of
    from analysis.figures.figure import render
    from analysis.figures.masks import masks_of_run

    for cell in cells_of(study, results):
        for seed, fingerprint in cell.finished.items():
            run_id = results.kept[fingerprint][0].run_id
            there = {os.fspath(file.path) for file in client.list_artifacts(run_id)}
            if names.MASKS_NPZ not in there or MASKS_PNG in there:
                continue
            figure = masks_of_run(cell, seed, results)
            if figure is not None:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / MASKS_PNG
                    path.write_bytes(render(figure, "png"))
                    client.log_artifact(run_id, str(path))
