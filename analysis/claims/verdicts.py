"""The claims compared with the runs: contrasts with intervals, and a verdict per profile and data set."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.claims.claim import ERROR, ERROR5, MACS, NOT_OURS, PARAMS, RESPONSE, CellValues, Claim, Hypothesis, Term
from analysis.claims.paper import CLAIMS
from analysis.read.published import published_value, reported
from analysis.stats import CONTRADICTED, SUPPORTED, UNDECIDED, Claimed, contradicting, seeds_needed, verdict
from analysis.tables import captions
from analysis.tables.cell_results import CellRuns, RunResult, collect, index_runs
from analysis.tables.contrasts import MeasuredContrast, measure_error, measure_values
from analysis.tables.network_table import Costs, at_full_width, read_costs
from records import names
from records.study_json import CellKey, StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

INTERIM, NOT_RUN = "interim", "not run"  # besides the verdicts of analysis.stats
_METRICS = {ERROR: names.FINAL_TEST_ERR, ERROR5: names.FINAL_TEST_ERR5}
_STAGES = {quantity: stage for stage, quantity in RESPONSE.items()}
_UNITS = {PARAMS: 1e6, MACS: 1e9}


@dataclass(frozen=True)
class Finding:
    """The result for one hypothesis, which has runs or, on counts, an exact value."""

    hypothesis: Hypothesis
    paper: float | None
    """the paper's effect, a ratio if the hypothesis is on one"""
    measured: MeasuredContrast | None = None
    exact: float | None = None
    cells: tuple[CellKey, ...] = ()
    """the cells whose runs it combines"""

    @property
    def claimed(self) -> Claimed | None:
        """What the statistics need, ratios as logarithms; None without runs."""
        if self.measured is None or self.measured.contrast is None:
            return None
        scale = math.log if self.hypothesis.ratio else float
        margin = None if self.hypothesis.margin is None else scale(self.hypothesis.margin)
        return Claimed(self.measured.contrast, self.hypothesis.side, scale(self.hypothesis.bound), margin)

    @property
    def assumed(self) -> float | None:
        """The effect for which seeds are counted: the paper's, else the margin; of ratios the logarithm.

        None without runs.
        """
        claimed = self.claimed
        if claimed is None:
            return None
        if self.paper is not None:
            paper = math.log(self.paper) if self.hypothesis.ratio else self.paper
            if claimed.side == 0 or (paper - claimed.bound) * claimed.side > 0:
                return paper
        return claimed.bound + claimed.side * (claimed.margin or 0.0)


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its verdict, and the study whose runs it was compared with, if there are some."""

    claim: Claim
    study: StudyRecord | None
    findings: tuple[Finding, ...]
    verdict: str
    """of analysis.stats, or INTERIM or NOT_RUN"""
    data: str = ""
    """name of the data set in print, with `size`"""
    size: str = ""
    """how much of the data set was trained on, if not all"""
    budget: str = ""
    """width of the networks and images seen in training, in print"""
    warnings: tuple[str, ...] = ()
    """warnings about the data, as sentences"""

    @property
    def measured(self) -> tuple[MeasuredContrast, ...]:
        """Of the hypotheses that need runs."""
        return tuple(found.measured for found in self.findings if found.measured is not None)

    @property
    def against(self) -> tuple[Finding, ...]:
        """What contradicts the claim; () unless it is contradicted."""
        if self.verdict != CONTRADICTED:
            return ()
        sided = [(found, claimed) for found in self.findings if (claimed := found.claimed) is not None]
        flags = contradicting([claimed for _, claimed in sided])
        wrong = [found for (found, _), flag in zip(sided, flags, strict=True) if flag]
        return (*wrong, *(found for found in self.findings if found.exact is not None and not _agrees(found)))

    @property
    def needed(self) -> int | None:
        """Seeds in all that show an undecided claim with 80 % power at the assumed effects (stats.seeds_needed).

        None if it is not undecided, or if nothing is known of the spread.
        """
        if self.verdict != UNDECIDED:
            return None
        pairs = [(found.claimed, found.assumed) for found in self.findings if found.measured is not None]
        known = [(one, effect) for one, effect in pairs if one is not None and effect is not None]
        if not known or len(known) < len(pairs) or any(one.contrast.se_seeds is None for one, _ in known):
            return None
        return seeds_needed(known)

    @property
    def has_power(self) -> bool:
        """Whether an undecided claim has the seeds that it needs: the paper's effects are not what they show."""
        return bool(self.needed) and (self.needed or 0) <= min(measured.of_plan for measured in self.measured)


def judge_all(
    results: "Results",
    studies: Iterable[StudyRecord],
    costs: Costs | None = None,
    runs: Mapping[str, RunResult] | None = None,
) -> list[JudgedClaim]:
    """Returns every claim: those with runs by profile, data set and overrides, `paper` first; counts; those not run.

    Runs are found by fingerprint; `runs` saves reading them again (cell_results.index_runs). Raises CostsError if
    costs.csv must be read and is damaged.
    """
    runs = index_runs(results.runs, results.kept) if runs is None else runs
    costs = read_costs() if costs is None else costs
    groups: dict[tuple[bool, str, str, str], dict[str, StudyRecord]] = {}
    for study in studies:
        overrides = study.canonical_overrides if study.overrides else ""
        key = (study.profile_name != "paper", study.profile, study.dataset, overrides)
        groups.setdefault(key, {})[study.name] = study
    judged = [
        one
        for key in sorted(groups)
        for claim in CLAIMS
        if (one := _with_runs(claim, groups[key], results, runs, costs)) is not None
    ]
    there = {one.claim.id for one in judged}
    return judged + [_without_runs(claim, costs) for claim in CLAIMS if claim.id not in there]


def _with_runs(
    claim: Claim, studies: Mapping[str, StudyRecord], results: "Results", runs: Mapping[str, RunResult], costs: Costs
) -> JudgedClaim | None:
    for name, hypotheses in claim.hypotheses.items():
        if name not in studies:
            continue
        study, cells = studies[name], collect(studies[name], runs)
        findings = [_finding(claim, hypothesis, study, cells, results) for hypothesis in hypotheses]
        if any(cells[key].values() or cells[key].diverged() for found in findings for key in found.cells):
            findings += [_counted(claim, hypothesis, costs) for hypothesis in claim.counts]
            about = study.dataset, list(cells.values())
            size = [sentence.rstrip(".").lower() for sentence in captions.size_sentences(about[1])]
            return JudgedClaim(
                claim=claim,
                study=study,
                findings=tuple(findings),
                verdict=_verdict(findings),
                data=", ".join([captions.dataset_name(*about), *size]),
                size=", ".join(size),
                budget=captions.budget_text(about[1]),
                warnings=(*captions.schema_sentence(about[1]), *captions.not_imagenet(*about)),
            )
    return None


def _without_runs(claim: Claim, costs: Costs) -> JudgedClaim:
    """A claim on counts alone has its verdict; any other is not run."""
    findings = [
        Finding(hypothesis, _paper(claim, hypothesis, "")) for hypothesis in next(iter(claim.hypotheses.values()), ())
    ]
    counted = [_counted(claim, hypothesis, costs) for hypothesis in claim.counts]
    outcome = NOT_RUN if claim.hypotheses else _verdict(counted)
    return JudgedClaim(claim=claim, study=None, findings=(*findings, *counted), verdict=outcome)


def _verdict(findings: Sequence[Finding]) -> str:
    """Of the conjunction: counts are exact, the rest is judged when its plan is done."""
    measured = [found for found in findings if found.measured is not None]
    counts = [found for found in findings if found.measured is None]
    if any(found.exact is not None and not _agrees(found) for found in counts):
        return CONTRADICTED
    if any(found.exact is None for found in counts):
        return UNDECIDED
    if not measured:
        return SUPPORTED
    if not all(found.measured.complete for found in measured if found.measured is not None):
        return INTERIM
    # A contrast of guesses alone has no spread: it is neither shown nor contradicted, and counts in Holm's family.
    return verdict([claimed for found in measured if (claimed := found.claimed) is not None])


def _agrees(found: Finding) -> bool:
    hypothesis, exact = found.hypothesis, found.exact or 0.0
    if hypothesis.side:
        return (exact - hypothesis.bound) * hypothesis.side > 0
    return abs(math.log(exact / hypothesis.bound)) <= math.log(hypothesis.margin or 1.0)


def _finding(
    claim: Claim,
    hypothesis: Hypothesis,
    study: StudyRecord,
    cells: Mapping[CellKey, CellRuns],
    results: "Results",
) -> Finding:
    keys = [_key(study, term) for term in hypothesis.terms]
    paper = _paper(claim, hypothesis, study.dataset)
    if not all(key in cells for key in keys):
        return Finding(hypothesis, paper, MeasuredContrast(None, len(study.planned_seeds)))
    terms = [(term.weight, cells[key]) for term, key in zip(hypothesis.terms, keys, strict=True)]
    if hypothesis.quantity in _STAGES:
        stage = _STAGES[hypothesis.quantity]
        measured = measure_values(study, terms, [_log_responses(of, stage, results) for _, of in terms])
    else:
        measured = measure_error(study, terms, _METRICS[hypothesis.quantity])
    return Finding(hypothesis, paper, measured, cells=tuple(dict.fromkeys(keys)))


def _log_responses(cell_runs: CellRuns, stage: int, results: "Results") -> dict[int, float]:
    """The logarithm of a stage's response relative to the first stage's, by seed."""
    found = {}
    for seed in cell_runs.values():
        probes = results.probes(cell_runs.planned[seed]) or {}
        try:
            responses = [float(value) for value in probes["response"]["mean_abs"]]
            relative = math.log(responses[stage - 1] / responses[0])
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
            continue  # probes of an earlier version, or a network without this stage
        if math.isfinite(relative):
            found[seed] = relative
    return found


def _counted(claim: Claim, hypothesis: Hypothesis, costs: Costs) -> Finding:
    """The exact value of a hypothesis on counts; of a network that is not ours the count is the paper's."""
    counts: list[float | None] = []
    for term in hypothesis.terms:
        network = str(term.cell["network"])
        shape = (1000, 224) if network.endswith("_imagenet") else (10, 32)
        count = costs.get(at_full_width(network, *shape), {}).get(term.quantity)
        if count is not None:
            counts.append(count / _UNITS[term.quantity])
        else:
            counts.append(_published(claim, term, "") if network in NOT_OURS else None)
    return Finding(hypothesis, _paper(claim, hypothesis, ""), exact=_combined(hypothesis, counts))


def _paper(claim: Claim, hypothesis: Hypothesis, dataset: str) -> float | None:
    """The paper's effect, on the data set of the runs if all its numbers are there on it."""
    of_terms = {reported(_place(claim, term)[0], dataset) for term in hypothesis.terms}
    if len({paper[0] for paper in of_terms if paper is not None}) > 1:
        dataset = ""  # that of the tables themselves
    return _combined(hypothesis, [_published(claim, term, dataset) for term in hypothesis.terms])


def _place(claim: Claim, term: Term) -> tuple[str, CellValues]:
    """Table and cell of a term's published value."""
    return term.published or (claim.table, term.cell)


def _published(claim: Claim, term: Term, dataset: str) -> float | None:
    table, cell = _place(claim, term)
    paper = reported(table, dataset)
    quantity = {ERROR: paper[1] if paper else "", ERROR5: "top5_err", PARAMS: "params", MACS: "macs"}
    return published_value(table, cell, quantity.get(term.quantity, "relative_response"))


def _combined(hypothesis: Hypothesis, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(hypothesis.terms):
        return None
    pairs = list(zip(hypothesis.terms, known, strict=True))
    if hypothesis.ratio:
        return math.prod(value**term.weight for term, value in pairs)
    return sum(term.weight * value for term, value in pairs)


def _key(study: StudyRecord, term: Term) -> CellKey:
    """The cell of a study that a term refers to; not a cell of the study if the axes differ."""
    return tuple(term.cell.get(axis.name, "") for axis in study.axes)
