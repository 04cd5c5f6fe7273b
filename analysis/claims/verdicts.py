"""The claims compared with the runs: effects with intervals, and a verdict per profile and data set."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.claims.paper import CLAIMS, ERROR, ERROR5, PARAMS, RESPONSE, Claim, Contrast, Term
from analysis.read.published import published_value, reported
from analysis.stats import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Interval,
    MeanStd,
    Sample,
    holm_intervals,
    mean_std,
    more_seeds,
    verdict,
)
from analysis.tables import captions
from analysis.tables.cell_results import CellRuns, RunResult, collect, index_runs
from analysis.tables.network_table import Costs, read_costs
from analysis.tables.study_table import cell_count
from records import names
from records.study_json import CellKey, StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

_METRICS = {ERROR: names.FINAL_TEST_ERR, ERROR5: names.FINAL_TEST_ERR5}
_STAGES = {quantity: stage for stage, quantity in RESPONSE.items()}


@dataclass(frozen=True)
class Finding:
    """The result for one contrast. `exact`: the value of a contrast of counts, which has no statistics."""

    contrast: Contrast
    paper: float | None
    stats: MeanStd | None
    interval: Interval | None
    planned: int
    diverged: int
    exact: float | None


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, the study whose runs it was compared with, and the result."""

    claim: Claim
    study: StudyRecord
    findings: tuple[Finding, ...]
    verdict: str | None
    """None if no contrast has two pairs"""
    more_seeds: int | None
    """number of further seeds that would decide an undecided claim; FAR + 1: more than FAR; None: unknown"""
    data: str
    """name of the data set in print"""
    warnings: tuple[str, ...]
    """warnings about the data, as sentences"""


def judge_all(results: "Results", studies: Iterable[StudyRecord], costs: Costs | None = None) -> list[JudgedClaim]:
    """Returns the claims that have runs in these studies, by profile, data set and overrides, `paper` first.

    Runs are found by fingerprint. Raises CostsError if costs.csv must be read and is damaged.
    """
    runs, costs = index_runs(results.runs), read_costs() if costs is None else costs
    groups: dict[tuple[bool, str, str, str], dict[str, StudyRecord]] = {}
    for study in studies:
        key = (study.profile_name != "paper", study.profile, study.dataset, study.canonical_overrides)
        groups.setdefault(key, {})[study.name] = study
    return [
        judged
        for key in sorted(groups)
        for claim in CLAIMS
        if (judged := _judge(claim, groups[key], results, runs, costs)) is not None
    ]


def _judge(
    claim: Claim, studies: Mapping[str, StudyRecord], results: "Results", runs: Mapping[str, RunResult], costs: Costs
) -> JudgedClaim | None:
    for name, contrasts in claim.contrasts.items():
        if name not in studies:
            continue
        cells = collect(studies[name], runs)
        findings = _findings(studies[name], cells, contrasts, results, costs)
        if any(found.stats is not None or found.diverged for found in findings):
            about = studies[name].dataset, list(cells.values())
            size = [sentence.rstrip(".").lower() for sentence in captions.size_sentences(about[1])]
            data = ", ".join([captions.dataset_name(*about), *size])
            warnings = [*captions.schema_sentence(about[1]), *captions.not_imagenet(*about)]
            outcome, further_seeds = _decide(findings)
            return JudgedClaim(
                claim=claim,
                study=studies[name],
                findings=findings,
                verdict=outcome,
                more_seeds=further_seeds,
                data=data,
                warnings=tuple(warnings),
            )
    return None


def _findings(
    study: StudyRecord,
    cells: Mapping[CellKey, CellRuns],
    contrasts: Sequence[Contrast],
    results: "Results",
    costs: Costs,
) -> tuple[Finding, ...]:
    measured = [_measure(study, cells, contrast, results) for contrast in contrasts]
    intervals = holm_intervals(
        [stats for stats, _, _ in measured],
        [contrast.bound for contrast in contrasts],
        size=sum(contrast.quantity != PARAMS for contrast in contrasts),
    )
    return tuple(
        Finding(
            contrast=contrast,
            paper=_combined([_published(study, term) for term in contrast.terms], contrast),
            stats=stats,
            interval=interval,
            planned=planned,
            diverged=diverged,
            exact=_exact(study, cells, contrast, costs),
        )
        for contrast, (stats, planned, diverged), interval in zip(contrasts, measured, intervals, strict=True)
    )


def _measure(
    study: StudyRecord, cells: Mapping[CellKey, CellRuns], contrast: Contrast, results: "Results"
) -> tuple[MeanStd | None, int, int]:
    """The contrast over the seeds that all its cells have; how many are planned and how many diverged."""
    involved = [cells.get(_key(study, term)) for term in contrast.terms]
    if contrast.quantity == PARAMS or any(cell_runs is None for cell_runs in involved):
        return None, 0, 0
    found = [cell_runs for cell_runs in involved if cell_runs is not None]
    values = [_values(cell_runs, contrast.quantity, results) for cell_runs in found]
    both = sorted(set.intersection(*(set(of_term) for of_term in values)))
    planned = set.intersection(*(set(cell_runs.planned) for cell_runs in found))
    diverged = {seed for seed in planned if any(seed in cell_runs.diverged() for cell_runs in found)}
    by_seed = [_combined([of_term[seed] for of_term in values], contrast) for seed in both]
    return mean_std([value for value in by_seed if value is not None]), len(planned), len(diverged)


def _values(cell_runs: CellRuns, quantity: str, results: "Results") -> dict[int, float]:
    if quantity not in _STAGES:
        return cell_runs.values(_METRICS[quantity])
    found = {}
    for seed in cell_runs.values():
        probes = results.probes(cell_runs.planned[seed]) or {}
        try:
            responses = [float(value) for value in probes["response"]["mean_abs"]]
            relative = responses[_STAGES[quantity] - 1] / responses[0]
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
            continue  # probes of an earlier version, or a network without this stage
        if math.isfinite(relative):
            found[seed] = relative
    return found


def _exact(study: StudyRecord, cells: Mapping[CellKey, CellRuns], contrast: Contrast, costs: Costs) -> float | None:
    if contrast.quantity != PARAMS:
        return None
    involved = [cells.get(_key(study, term)) for term in contrast.terms]
    return _combined(
        [None if cell_runs is None else cell_count(cell_runs, PARAMS, costs) for cell_runs in involved], contrast
    )


def _published(study: StudyRecord, term: Term) -> float | None:
    """The paper's value of a term, on the data set of these runs if it has one."""
    paper = reported(study.table, study.dataset) if study.table is not None else None
    table, cell = term.published or (study.table or "", term.cell)
    quantity = {ERROR: paper[1] if paper else "", ERROR5: "top5_err", PARAMS: "params"}.get(
        term.quantity, "relative_response"
    )
    if term.quantity in _STAGES or paper is not None:
        return published_value(table, cell, quantity)
    return None


def _combined(values: Sequence[float | None], contrast: Contrast) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(contrast.terms):
        return None
    return sum(term.weight * value for term, value in zip(contrast.terms, known, strict=True))


def _key(study: StudyRecord, term: Term) -> CellKey:
    """The cell of a study that a term refers to; not a cell of the study if the axes differ."""
    return tuple(term.cell.get(axis.name, "") for axis in study.axes)


def _decide(findings: Sequence[Finding]) -> tuple[str | None, int | None]:
    """The verdict on the conjunction, and the number of further seeds that would decide an undecided one."""
    tested = [found for found in findings if found.contrast.quantity != PARAMS]
    counts = [found for found in findings if found.contrast.quantity == PARAMS]
    samples = [Sample(found.stats, found.contrast.side, found.contrast.bound) for found in tested]
    outcome = verdict(samples)
    if outcome is None:
        return None, None
    if any(found.exact is not None and not _agrees(found) for found in counts):
        return CONTRADICTED, None
    if outcome == SUPPORTED and any(found.exact is None for found in counts):
        return UNDECIDED, None
    return outcome, more_seeds(samples) if outcome == UNDECIDED else None


def _agrees(found: Finding) -> bool:
    return found.exact is not None and (found.exact - found.contrast.bound) * found.contrast.side > 0
