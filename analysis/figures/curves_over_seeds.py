"""Data of the figures: the cells of a study with their runs, and curves over seeds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.tables.cell_results import CellRuns, RunResult, collect, index_runs
from records import names
from records.study_json import AxisRecord, StudyRecord, Value

if TYPE_CHECKING:
    import numpy as np

    from analysis.read.results import Results

Curve = Sequence[tuple[int, float]]
_UNSET = ("", "None")  # how a parameter that is None is logged


@dataclass(frozen=True)
class FigureCell:
    """One cell of a study: its values by axis, its labels and its runs."""

    study: StudyRecord
    values: dict[str, Value]
    labels: tuple[str, ...]
    runs: CellRuns

    @property
    def name(self) -> str:
        """Its labels, as printed."""
        return ", ".join(self.labels)

    @property
    def finished(self) -> dict[int, str]:
        """Fingerprints by seed."""
        return self._with(names.FINISHED)

    @property
    def diverged(self) -> dict[int, str]:
        """Fingerprints by seed."""
        return self._with(names.DIVERGED)

    @property
    def results(self) -> list[str]:
        """The fingerprints of finished and of diverged runs."""
        return [*self.finished.values(), *self.diverged.values()]

    @property
    def errors(self) -> dict[int, float]:
        """Final test error in % by seed, of finished runs only."""
        return self.runs.values()

    def _with(self, outcome: str) -> dict[int, str]:
        return {seed: self.runs.planned[seed] for seed, run in self.runs.by_seed.items() if run.outcome == outcome}


@dataclass(frozen=True)
class Band:
    """Curves of n seeds at the steps that all of them have; `values` is (n, steps)."""

    steps: "np.ndarray[Any, Any]"
    values: "np.ndarray[Any, Any]"

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    @property
    def mean(self) -> "np.ndarray[Any, Any]":
        """At each step."""
        found: np.ndarray[Any, Any] = self.values.mean(axis=0)
        return found

    @property
    def geometric_mean(self) -> "np.ndarray[Any, Any]":
        """At each step; 0 where a seed is 0."""
        import numpy as np

        with np.errstate(divide="ignore"):
            found: np.ndarray[Any, Any] = np.exp(np.log(self.values).mean(axis=0))
        return found

    def deviation(self) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None":
        """Mean minus and plus the sample standard deviation, None for n = 1."""
        if self.n == 1:
            return None
        spread = self.values.std(axis=0, ddof=1)
        return self.mean - spread, self.mean + spread

    def extent(self) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None":
        """Lowest and highest seed, None for n = 1."""
        return None if self.n == 1 else (self.values.min(axis=0), self.values.max(axis=0))


def cells_of(study: StudyRecord, results: "Results") -> list[FigureCell]:
    """Returns the cells of a study in its order, joined by fingerprint with the runs of any study."""
    of_study = results.runs["fingerprint"].isin([run.fingerprint for run in study.runs])
    runs = index_runs(results.runs[of_study], results.kept)
    return [
        FigureCell(
            study=study,
            values=study.named(key),
            labels=tuple(_spoken(axis, value) for axis, value in zip(study.axes, key, strict=True)),
            runs=seeds,
        )
        for key, seeds in collect(study, runs).items()
    ]


def noisy(run: RunResult) -> bool:
    """Whether a run's training labels were partly wrong."""
    noise, labels = run.params.get("data.noise", ""), run.params.get("data.noise_labels", "")
    return (noise not in _UNSET and float(noise) > 0) or labels not in (*_UNSET, "clean")


def protocol(run: RunResult) -> tuple[str, ...]:
    """Training settings that a study may change; runs are comparable only if they are equal."""
    return tuple(run.params.get(key, "None") for key in ("data.train_images", "train.steps"))


def baseline_first(cells: Sequence[FigureCell]) -> list[FigureCell]:
    """Returns the cells with those of the study's baseline first, else in order."""

    def later(cell: FigureCell) -> bool:
        compare = cell.study.compare
        return compare is not None and cell.values[compare.axis] != compare.baseline

    return sorted(cells, key=later)


def band(curves: Iterable[Curve]) -> Band | None:
    """Returns the band of some curves; None without a step that all of them have.

    A point that is not finite ends its curve.
    """
    import numpy as np

    found = [dict(_finite(curve)) for curve in curves]
    if not found:
        return None
    steps = sorted(set.intersection(*(set(curve) for curve in found)))
    if not steps:
        return None
    return Band(np.array(steps), np.array([[curve[step] for step in steps] for curve in found]))


def windows(curve: Curve, most: int = 120) -> list[tuple[int, float]]:
    """Returns a curve of window means in at most `most` wider windows: means of neighbours, at the last one's step.

    A shorter curve is returned as it is; a short rest at the end is a window of its own. A last point over fewer than
    half as many steps as the first ones is left out, because it is too noisy.
    """
    curve = curve[:-1] if len(curve) > 2 and 2 * (curve[-1][0] - curve[-2][0]) < curve[1][0] - curve[0][0] else curve
    width = math.ceil(len(curve) / most)
    return [
        (chunk[-1][0], sum(value for _, value in chunk) / len(chunk))
        for chunk in (curve[i : i + width] for i in range(0, len(curve), max(1, width)))
    ]


def _spoken(axis: AxisRecord, value: Value) -> str:
    """The label, with the header before a label that is unclear alone, as "10 %" or "none"."""
    label = axis.label(value)
    alone = label.lower() != "none" and any(character.isalpha() for character in label)
    return label if alone else f"{axis.header} {label}"


def _finite(curve: Curve) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for step, value in curve:
        if not math.isfinite(value):
            break
        found.append((step, value))
    return found
