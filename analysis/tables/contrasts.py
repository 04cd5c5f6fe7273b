"""Contrasts of a study's cells, over the seeds that it plans: differences to a baseline, combinations that are claimed.

A contrast is judged when all planned seeds are there. A run that diverged counts as a classifier that guesses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.stats import MIN_SEEDS, Contrast, contrast, holm, p_value
from analysis.tables.cell_results import CellRuns
from records import names
from records.study_json import CellKey, StudyRecord

if TYPE_CHECKING:
    import numpy as np

Terms = Sequence[tuple[float, CellRuns]]
"""cells with their weights"""
_CLASSES = {"cifar10": 10, "cifar100": 100, "cluttershapes": 10}  # where the record does not say
_TOP = {names.FINAL_TEST_ERR: 1, names.FINAL_TEST_ERR5: 5}


@dataclass(frozen=True)
class MeasuredContrast:
    """A contrast over the seeds that count and that all of its cells have."""

    contrast: Contrast | None
    planned: int
    """seeds that the study plans; 0: no plan is on record, as before there was one"""
    complete: bool = False
    """whether all planned seeds are there, so that it may be judged; a plan of fewer than MIN_SEEDS never is"""
    of_plan: int = 0
    """seeds of the plan that all cells have; the others are there because none of the plan is"""
    diverged: int = 0
    """seeds with a diverged run"""
    guesses: bool = False
    """whether all its runs diverged, so that nothing is compared"""

    @property
    def shown(self) -> Contrast | None:
        """The contrast, None where it is of guesses alone: their difference is 0, and nothing was measured."""
        return None if self.guesses else self.contrast

    @property
    def n(self) -> int:
        """The seeds that all cells have."""
        return 0 if self.contrast is None else self.contrast.n


def measure_error(study: StudyRecord, terms: Terms, metric: str = names.FINAL_TEST_ERR) -> MeasuredContrast:
    """Returns the contrast of test errors in %, over seeds and, where each run kept its result per image, over images.

    A diverged run counts with the error of guessing, top-1 or, for FINAL_TEST_ERR5, top-5.
    """
    classes = _classes(study)
    guess = None if classes is None else max(0.0, 100 * (1 - _TOP[metric] / classes))
    values: list[tuple[float, Mapping[int, float]]] = []
    for weight, cell_runs in terms:
        guessed = {} if guess is None else dict.fromkeys(cell_runs.diverged(), guess)
        values.append((weight, cell_runs.values(metric) | guessed))
    seeds = _common(values)
    by_image = _per_image(terms, seeds, guess) if metric == names.FINAL_TEST_ERR else None
    found = _over(seeds, values) if by_image is None else contrast(by_image)
    return _measured(study, terms, found, seeds)


def measure_values(study: StudyRecord, terms: Terms, values: Sequence[Mapping[int, float]]) -> MeasuredContrast:
    """Returns the contrast of other values of the cells, given by seed; a run without one has no part in it."""
    given = [(weight, found) for (weight, _), found in zip(terms, values, strict=True)]
    seeds = _common(given)
    return _measured(study, terms, _over(seeds, given), seeds)


def differences_to_baseline(study: StudyRecord, cells: Mapping[CellKey, CellRuns]) -> dict[CellKey, MeasuredContrast]:
    """Returns each cell's test error minus its baseline's; no entry for a baseline."""
    compared = {cell: other for cell in cells if (other := study.baseline_of(cell)) is not None}
    return {
        cell: measure_error(study, [(1, cells[cell]), (-1, cells[other])])
        if other in cells
        else MeasuredContrast(None, len(study.planned_seeds))
        for cell, other in compared.items()
    }


def marked(differences: Mapping[Any, MeasuredContrast]) -> set[Any]:
    """Returns the keys of those that differ from 0 by Holm's two-sided test over all of them, each plan complete."""
    tested = [p_value(one.contrast) if one.complete else None for one in differences.values()]
    return {key for key, rejected in zip(differences, holm(tested), strict=True) if rejected}


def mixed(found: Iterable[MeasuredContrast]) -> bool:
    """Whether the intervals of some contrasts are over different things."""
    return len({one.contrast.over for one in found if one.contrast is not None} - {""}) > 1


def _common(values: Sequence[tuple[float, Mapping[int, float]]]) -> list[int]:
    return sorted(set.intersection(*(set(found) for _, found in values)))


def _over(seeds: Sequence[int], values: Sequence[tuple[float, Mapping[int, float]]]) -> Contrast | None:
    return contrast([sum(weight * found[seed] for weight, found in values) for seed in seeds])


def _measured(study: StudyRecord, terms: Terms, found: Contrast | None, seeds: Sequence[int]) -> MeasuredContrast:
    diverged = [cell_runs.diverged() for _, cell_runs in terms]
    plan = set(study.planned_seeds)
    return MeasuredContrast(
        contrast=found,
        planned=len(plan),
        complete=len(plan) >= MIN_SEEDS and set(seeds) == plan,
        of_plan=len(plan.intersection(seeds)),
        diverged=len(set.union(*diverged)),
        guesses=bool(seeds) and set(seeds) <= set.intersection(*diverged),
    )


def _classes(study: StudyRecord) -> int | None:
    known = {network.num_classes for network in study.networks.values() if network is not None}
    return known.pop() if len(known) == 1 else _CLASSES.get(study.dataset)


def _per_image(terms: Terms, seeds: Sequence[int], guess: float | None) -> "np.ndarray[Any, Any] | None":
    """The contrast by seed and image, (n, N) in %; None unless every run has a result for each of the same images."""
    import numpy as np

    rows: list[Any] = []
    for seed in seeds:
        row: Any = 0.0
        for weight, cell_runs in terms:
            wrong: Any = (guess or 0.0) / 100 if seed in cell_runs.diverged() else cell_runs.by_seed[seed].wrong
            if wrong is None or (np.ndim(row) and np.ndim(wrong) and len(row) != len(wrong)):
                return None
            row = row + 100.0 * weight * wrong
        rows.append(row)
    sizes = {len(row) for row in rows if np.ndim(row)}
    return np.array([np.broadcast_to(row, tuple(sizes)) for row in rows]) if len(sizes) == 1 else None
