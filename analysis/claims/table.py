"""The table of the claims."""

from collections.abc import Sequence

from analysis.claims.paper import CLAIMS, ERROR, ERROR5, PARAMS, RESPONSE
from analysis.claims.verdicts import Finding, JudgedClaim
from analysis.read.published import published_text
from analysis.stats import FAR, UNDECIDED, Interval
from analysis.tables.cells import Blank, Column, Count, Difference, Ditto, Judgement, Label, Published, Table, TableCell
from analysis.tables.study_table import safe_stem

_DIGITS = {ERROR: 2, ERROR5: 2, PARAMS: 2} | dict.fromkeys(RESPONSE.values(), 3)


def claims_table(judged: Sequence[JudgedClaim]) -> Table:
    """Returns the claims with runs, a row per contrast; the caption lists the claims without runs."""
    columns = (
        Column(key="runs", header="profile, data", numeric=False),
        Column(key="claim", header="claim", numeric=False),
        Column(key="contrast", header="contrast", numeric=False),
        Column(key="published", header="paper", numeric=True),
        Column(key="difference", header="ours, 95 % interval", numeric=True),
        Column(key="n", header="n", numeric=True),
        Column(key="verdict", header="verdict", numeric=False),
    )
    rows = []
    for one in judged:
        first: list[TableCell] = [
            Label(_runs_text(one), f"{one.study.profile} {one.study.dataset}"),
            Label(f"{one.claim.sentence} ({one.claim.where})", one.claim.id),
        ]
        last: TableCell = Judgement(_verdict_text(one), one.verdict, one.more_seeds)
        for found in one.findings:
            rows.append((*first, Label(found.contrast.sentence, found.contrast.sentence), *_numbers(found), last))
            first = [Ditto(cell.value) for cell in first if isinstance(cell, Label | Ditto)]
            last = Ditto(one.verdict)
    return Table(
        stem=_stem(judged),
        title="Claims of the paper",
        caption=tuple(_caption(judged)),
        columns=columns,
        rows=tuple(rows),
    )


def _numbers(found: Finding) -> tuple[TableCell, TableCell, TableCell]:
    digits = _DIGITS[found.contrast.quantity]
    paper = Published(found.paper, digits=digits, signed=True)
    if found.contrast.quantity == PARAMS:
        exact = None if found.exact is None else Interval(mean=found.exact, low=None, high=None, n=1)
        return paper, Difference(exact, expected=1, digits=digits), Blank()
    n = 0 if found.stats is None else found.stats.n
    return paper, Difference(found.interval, expected=n, digits=digits), Count(n, found.planned, found.diverged)


def _runs_text(one: JudgedClaim) -> str:
    overrides = ", ".join(f"{key} = {value}" for key, value in sorted(one.study.overrides.items()))
    return ", ".join([one.study.profile, one.data] + [overrides] * bool(overrides))


def _verdict_text(one: JudgedClaim) -> str:
    if one.verdict is None:
        most = max((found.stats.n for found in one.findings if found.stats is not None), default=0)
        return "none: n = 1" if most else "none: no pair"
    if one.verdict != UNDECIDED:
        return one.verdict
    if one.more_seeds is None:
        return "undecided: not every contrast can be measured"
    number = f"more than {FAR}" if one.more_seeds > FAR else str(one.more_seeds)
    return f"undecided: {number} more seed{'' if one.more_seeds == 1 else 's'}"


def _caption(judged: Sequence[JudgedClaim]) -> list[str]:
    there = {one.claim.id for one in judged}
    papers = any(one.study.profile_name == "paper" for one in judged)
    sentences = [
        "Verdicts are per profile and data set, the first column; only profile paper speaks about the paper's protocol"
        + ("." if papers else ", and no run of it is here."),
        "Contrast: of test errors in %, at the last step, paired by seed; of responses relative to stage 1's.",
        "Paper: the same of its published values, on CIFAR-100 beside runs on it, else on its table's data set.",
        "Ours: mean over n of the planned seeds; t-interval at the level of Holm's correction within the claim.",
        "Supported: every interval lies on the claimed side; contradicted: one lies on the other; else undecided, with "
        "how many further seeds would decide it at the observed mean and spread; n = 1: a value and no verdict.",
        "(ours): the paper does not claim it.",
    ]
    if any(found.diverged for one in judged for found in one.findings):
        sentences.append("div.: pairs with a diverged run, left out.")
    sentences += dict.fromkeys(warning for one in judged for warning in one.warnings)
    texts = [published_text(*text) for claim in CLAIMS if claim.id in there for text in claim.text]
    sentences += [f"The paper's text says {text}." for text in texts if text is not None]
    absent = [claim for claim in CLAIMS if claim.id not in there]
    if absent:
        listed = "; ".join(f"{claim.sentence} ({claim.where}, study {next(iter(claim.contrasts))})" for claim in absent)
        sentences.append(f"Without runs: {listed}.")
    return sentences


def _stem(judged: Sequence[JudgedClaim]) -> str:
    """claims-<data>-<profile> for one group of runs, else claims-all; runs with overrides have a file of their own."""
    studies = [one.study for one in judged]
    keys = {(study.dataset, study.profile, study.canonical_overrides) for study in studies}
    if len(keys) == 1:
        return safe_stem("claims", studies[0].dataset, studies[0].profile, overrides=studies[0])
    return "claims-overrides" if any(study.overrides for study in studies) else "claims-all"
