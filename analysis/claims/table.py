"""The table of the claims."""

import math
from collections.abc import Iterable, Sequence

from analysis.claims.claim import ERROR, ERROR5, MACS, MARGIN, OURS, PARAMS, RESPONSE
from analysis.claims.verdicts import INTERIM, NOT_RUN, Finding, JudgedClaim
from analysis.read.published import published_text
from analysis.stats import FAR, MIN_SEEDS, NEVER, POWER, UNDECIDED, Contrast
from analysis.tables import captions
from analysis.tables.cells import Blank, Column, Count, Difference, Ditto, Judgement, Label, Published, Table, TableCell
from analysis.tables.contrasts import mixed
from analysis.tables.network_table import Costs, at_full_width
from analysis.tables.study_table import safe_stem
from records.study_json import StudyRecord

_DIGITS = {ERROR: 2, ERROR5: 2, PARAMS: 2, MACS: 2} | dict.fromkeys(RESPONSE.values(), 3)
IMAGES = 530_000 * 256  # training images of the paper's ImageNet protocol
IMAGENET = "imagenet"
_BACKWARD = 3  # a training step costs the forward pass and about twice that for the backward pass


def claims_table(judged: Sequence[JudgedClaim], costs: Costs | None = None) -> Table:
    """Returns every claim, a row per contrast; `costs` gives the caption the cost of claims that are not run."""
    columns = (
        Column(key="runs", header="profile, data", numeric=False),
        Column(key="claim", header="claim", numeric=False),
        Column(key="contrast", header="contrast", numeric=False),
        Column(key="published", header="paper", numeric=True),
        Column(key="difference", header=f"ours {captions.WITH_INTERVAL}", numeric=True),
        Column(key="n", header="n", numeric=True),
        Column(key="verdict", header="verdict", numeric=False),
    )
    says_over = mixed(measured for one in judged for measured in one.measured)
    rows = []
    for one in judged:
        first: list[TableCell] = [
            Label(runs_text(one), "" if one.study is None else runs_value(one.study)),
            Label(f"{one.claim.sentence} ({one.claim.where})", one.claim.id),
        ]
        last: TableCell = Judgement(verdict_text(one), one.verdict, one.needed)
        for found in one.findings:
            sentence = found.hypothesis.sentence
            rows.append((*first, Label(sentence, sentence), *_numbers(found, says_over=says_over), last))
            first = [Ditto(cell.value) for cell in first if isinstance(cell, Label | Ditto)]
            last = Ditto(one.verdict)
    return Table(
        stem=_stem(judged),
        title="Claims of the paper",
        caption=tuple(_caption(judged, costs or {})),
        columns=columns,
        rows=tuple(rows),
    )


def _numbers(found: Finding, *, says_over: bool) -> tuple[TableCell, TableCell, TableCell]:
    hypothesis = found.hypothesis
    digits = _DIGITS[hypothesis.quantity]
    paper = Published(found.paper, digits=digits, signed=not hypothesis.ratio)
    if found.exact is not None:
        value = math.log(found.exact) if hypothesis.ratio else found.exact
        exact = Contrast(value, None, None, None, None, None, None, n=0)
        return paper, Difference(exact, expected=0, digits=digits, ratio=hypothesis.ratio), Blank()
    if found.measured is None:
        return paper, Difference(None, expected=0), Blank()
    measured = found.measured
    n = measured.of_plan if measured.planned else measured.n
    difference = Difference(measured.shown, expected=n, digits=digits, ratio=hypothesis.ratio, says_over=says_over)
    return paper, difference, Count(n, measured.planned or n, measured.diverged, beyond=measured.n - n)


def runs_text(one: JudgedClaim) -> str:
    """Returns profile, data set and overrides of the runs; what stands there for a claim that has none."""
    if one.study is None:
        return "none here" if one.verdict == NOT_RUN else "counted"
    overrides = ", ".join(f"{key} = {value}" for key, value in sorted(one.study.overrides.items()))
    return ", ".join([one.study.profile, one.data] + [overrides] * bool(overrides))


def runs_value(study: StudyRecord) -> str:
    """Returns the same for machines: profile, data set and, if there are some, overrides as JSON."""
    return " ".join([study.profile, study.dataset] + [study.canonical_overrides] * bool(study.overrides))


def verdict_text(one: JudgedClaim) -> str:
    """Returns the verdict with what it lacks (seeds of the plan, or for power) or what contradicts it."""
    if one.verdict == INTERIM:
        return f"interim: {seeds_text(one)}"
    if 0 < len(one.against) < len(one.findings):
        return f"{one.verdict}: {', '.join(found.hypothesis.label for found in one.against)}"
    if one.verdict != UNDECIDED:
        return one.verdict
    if any(measured.guesses for measured in one.measured):
        return "undecided: every run of a contrast diverged"
    said = _means_text([found for found in one.findings if found.claimed is not None])
    if one.needed is not None:
        papers = any(found.paper is not None for found in one.findings if found.measured is not None)
        effect = "the paper's effect" if papers else f"{MARGIN:g} points"
        seeds = "these seeds have" if one.has_power else f"{needed_text(one.needed)} seeds would have"
        said.append(f"{seeds} {100 * POWER:.0f} % power for {effect}")
    return "undecided: " + "; ".join(said)


def _means_text(found: Sequence[Finding]) -> list[str]:
    """How many of the means lie where it is claimed; [] without means."""
    there = sum(map(_as_claimed, found))
    if len(found) == 1:
        return [f"the mean is {'' if there else 'not '}as claimed"]
    return [f"{there} of {len(found)} means as claimed"] if found else []


def where_text(one: JudgedClaim) -> str:
    """Returns where the paper makes the claim, and how much of the data set was trained on if not all."""
    return "; ".join(filter(None, (one.claim.where, one.size)))


def budget_sentences(judged: Iterable[JudgedClaim]) -> list[str]:
    """Returns what the networks of each profile but `paper` are beside the paper's."""
    with_runs = [(one.study, one.budget) for one in judged if one.study is not None and one.budget]
    found = dict.fromkeys((study.profile, budget) for study, budget in with_runs if study.profile_name != "paper")
    papers = f"the paper on CIFAR: {captions.PAPERS_IMAGES:,}"
    return [f"Runs of {profile}: {budget} ({papers})." for profile, budget in found]


def seeds_text(one: JudgedClaim) -> str:
    """Returns how many of the planned seeds the contrasts of a claim have, and why it may never have all."""
    if one.study is None:
        return ""
    planned = len(one.study.planned_seeds)
    if planned < MIN_SEEDS:
        return f"{planned} of at least {MIN_SEEDS} seeds planned" if planned else "no plan on record"
    counts = sorted({measured.of_plan for measured in one.measured}) or [0]
    found = f"{counts[0]} of {planned} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} of {planned} seeds"
    others = max((measured.n - measured.of_plan for measured in one.measured), default=0)
    found += f" planned, {others} other{'' if others == 1 else 's'}" if others else ""
    lost = max((m.diverged for m in one.measured if not m.complete), default=0)
    return f"{found}, {lost} diverged" if lost else found


def needed_text(needed: int) -> str:
    """Returns JudgedClaim.needed in words that stand before "seeds"; the spread is known too little for more digits."""
    if needed == NEVER:
        return "no number of"
    return f"over {FAR}" if needed > FAR else f"about {one_digit(needed)}"


def one_digit(number: float) -> str:
    """Returns a number that is known roughly, with one significant digit: "600", "0.2"."""
    return f"{float(f'{number:.1g}'):,g}"


def _as_claimed(found: Finding) -> bool:
    claimed = found.claimed
    if claimed is None:
        return False
    off = claimed.contrast.mean - claimed.bound
    return off * claimed.side > 0 if claimed.side else abs(off) <= (claimed.margin or 0.0)


def _caption(judged: Sequence[JudgedClaim], costs: Costs) -> list[str]:
    papers = any(one.study is not None and one.study.profile_name == "paper" for one in judged)
    measured = [measured for one in judged for measured in one.measured]
    found = [one.contrast for one in measured if one.contrast is not None]
    sentences = [
        "Verdicts are per profile and data set, the first column; only profile paper speaks about the paper's protocol"
        + ("." if papers else ", and no claim has runs of it here."),
        *budget_sentences(judged),
        "Contrast: of test errors in points at the last step, of runs with the same seed; of responses relative to "
        "stage 1's, as ratios; of exact counts of the networks at full width.",
        "Paper: the same of its published values, on CIFAR-100 beside runs on it, else on its table's data set.",
    ]
    if found:
        others = any(one.n > one.of_plan and one.planned for one in measured)
        which = "planned seeds, and where none of them is there over those launched" if others else "planned seeds"
        sentences.append(f"Ours: mean over the {which}, of ratios the geometric one, {captions.interval_text(found)}.")
    sentences += [
        "Supported: every contrast lies on the claimed side, each by a one-sided test at 5 %. Contradicted: one lies "
        "on the other, by Holm's correction over the claim's. One-sided: the two-sided interval may just include the "
        "bound. No difference: every 90 % interval lies within the claim's margin, 0.5 points of error (of a slope, "
        "over all depths).",
        "Of a claim of equality: supported within the margin, contradicted beyond it. Undecided: else, with how many "
        "seeds in all would show all contrasts with 80 % power if the paper's effects were true here, roughly, by the "
        "spread over these seeds; no number of seeds: the test images alone forbid it. Interim: the planned seeds are "
        "not all there, or no plan is on record; nothing is judged.",
        f"({OURS}): the paper does not claim it.",
    ]
    if any(one.diverged for one in measured):
        sentences.append("div.: seeds with a diverged run, which counts as guessing.")
    sentences += dict.fromkeys(warning for one in judged for warning in one.warnings)
    texts = [published_text(*text) for one in judged for text in one.claim.text]
    sentences += dict.fromkeys(f"The paper's text says {text}." for text in texts if text is not None)
    sentences += dict.fromkeys(one.claim.remark for one in judged if one.claim.remark)
    return sentences + _not_run(judged, costs)


def launch_flags(study: str, judged: Iterable[JudgedClaim]) -> str:
    """Returns what launches a study, in the one profile that the claims have runs of where that is possible."""
    profiles = {one.study.profile_name for one in judged if one.study is not None}
    profile = "paper" if study == IMAGENET else profiles.pop() if len(profiles) == 1 else "short"
    return f"--study {study} --profile {profile}"


def _not_run(judged: Sequence[JudgedClaim], costs: Costs) -> list[str]:
    launches = []
    for study in dict.fromkeys(one.claim.study for one in judged if one.verdict == NOT_RUN and one.claim.study):
        cost = f" ({_cost(costs)})" if study == IMAGENET and costs else ""
        launches.append(f"`python run_ablation.py {launch_flags(study, judged)}`{cost}")
    return [f"Not run, and what would run it: {'; '.join(launches)}."] if launches else []


def _cost(costs: Costs) -> str:
    """The cost of the paper's ImageNet protocol, which only GPUs can run."""
    names = ("attention56", "resnet152", "attentionnext56", "resnext101_32x4d", "attention92", "attentioninception56")
    macs = [costs.get(at_full_width(f"{name}_imagenet", 1000, 224), {}).get("macs", 0) for name in names]
    total = _BACKWARD * IMAGES * sum(macs) / 1e18
    return f"{total:.0f} x 10^18 multiply-adds a seed in training, on GPUs; their hours are not measured"


def _stem(judged: Sequence[JudgedClaim]) -> str:
    """claims-<data>-<profile> for one group of runs, else claims-all; runs with overrides have a file of their own."""
    studies = [one.study for one in judged if one.study is not None]
    keys = {(study.dataset, study.profile, study.canonical_overrides) for study in studies}
    if len(keys) == 1:
        return safe_stem("claims", studies[0].dataset, studies[0].profile, overrides=studies[0])
    return "claims-overrides" if any(study.overrides for study in studies) else "claims-all"
