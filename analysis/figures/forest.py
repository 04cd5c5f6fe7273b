"""All claims at a glance: the paper's effects and ours with intervals, margins and verdicts, a row per contrast."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.claims.table import budget_sentences, verdict_text, where_text
from analysis.claims.verdicts import INTERIM, NOT_RUN, Finding, JudgedClaim, judge_all
from analysis.figures import captions, style
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.stats import CONTRADICTED, NO_DIFFERENCE, SUPPORTED, UNDECIDED
from analysis.tables.captions import interval_text, overrides_sentence
from analysis.tables.cells import ratio_text, signed
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.read.results import Results

TITLE = "The claims at a glance"
WIDTH = 4.2  # inches: one column in print, and as wide as a phone held upright shows at a readable size
LEFT, RIGHT = 1.45, 0.08  # inches beside the axes
# Inches: a contrast, a line of a claim's sentence, the space below the sentence, and between claims.
ROW, LINE, LEAD, GAP = 0.12, 0.11, 0.02, 0.04
BELOW, BETWEEN = 0.42, 0.36  # inches: below the last axes, and between axes
LETTERS, BOLD_LETTERS = 92, 76  # of a line
_COLOURS = {
    SUPPORTED: style.COLOURS[0], CONTRADICTED: style.COLOURS[1], NO_DIFFERENCE: style.COLOURS[3],
    UNDECIDED: style.COLOURS[2], INTERIM: style.MUTED, NOT_RUN: style.MUTED,
}  # fmt: skip


@dataclass(frozen=True)
class _Panel:
    """Claims whose contrasts have one unit."""

    label: str
    ratio: bool
    claims: list[JudgedClaim] = field(default_factory=list)

    @property
    def height(self) -> float:
        """Inches."""
        return sum(_Block(one).height for one in self.claims)


class _Block:
    """What is written of a claim: its sentence, the verdict below it unless it is not run, and a row per contrast."""

    def __init__(self, one: JudgedClaim) -> None:
        self.colour = _COLOURS[one.verdict]
        self.lines = textwrap.wrap(f"{one.claim.sentence} ({where_text(one)})", LETTERS)
        self.judged = one.verdict != NOT_RUN
        self.verdict = textwrap.wrap(verdict_text(one), BOLD_LETTERS) if self.judged else []
        self.rows = sorted(one.findings, key=lambda found: found.exact is not None)

    @property
    def height(self) -> float:
        """Inches."""
        return LINE * (len(self.lines) + len(self.verdict)) + LEAD + ROW * len(self.rows) + GAP


def claims(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields a figure of the claims for each profile, data set and set of overrides with runs."""
    found = False
    for group in captions.comparable_groups(studies):
        judged = judge_all(results, group)
        if any(one.study is not None for one in judged):
            found = True
            yield _drawn(results, judged)
    if not found and studies:
        why = captions.missing_message("claims", "no claim has runs", "arl_vs_nal", studies[0])
        yield MissingFigure("claims", why)


def _drawn(results: "Results", judged: Sequence[JudgedClaim]) -> CaptionedFigure:
    used = {one.study.key: one.study for one in judged if one.study is not None}
    first = next(iter(used.values()))
    over = set(results.runs["fingerprint"])
    shown = [
        study.cells()[cell][seed]
        for one in judged
        if (study := one.study) is not None
        for found in one.findings
        for cell in found.cells
        for seed in study.cells()[cell]
        if study.cells()[cell][seed] in over
    ]
    return CaptionedFigure(
        kind="claims",
        stem=captions.file_stem("claims", study=first),
        title=TITLE,
        caption=tuple(_caption(judged)),
        draw=lambda: _draw(judged),
        studies=tuple(used.values()),
        fingerprints=tuple(dict.fromkeys(shown)),
    )


def _caption(judged: Sequence[JudgedClaim]) -> list[str]:
    with_runs = [one for one in judged if one.study is not None]
    studies = dict.fromkeys(one.study.name for one in with_runs if one.study is not None)
    first = with_runs[0]
    found = [f.measured.contrast for one in judged for f in one.findings if f.measured and f.measured.contrast]
    several = [one for one in found if one.n > 1]  # one seed has a dot alone
    profile = "" if first.study is None else first.study.profile
    return [
        f"{'Study' if len(studies) == 1 else 'Studies'}: {', '.join(studies)}.",
        f"Data: {first.data}. Profile: {profile}.",
        *budget_sentences(with_runs),
        *dict.fromkeys(warning for one in with_runs for warning in one.warnings),
        *overrides_sentence({} if first.study is None else first.study.overrides),
        "Each contrast is turned so that the claimed side lies to the right of its bound, the line at 0 or 1.",
        f"Dot: our mean over {captions.seeds_text(one.n for one in found)}, {interval_text(several)}.",
        "Arrow: the range goes on. div.: diverged runs, which count as guessing.",
        "Diamond: the paper's effect, by the paper's protocol. Band: differences that do not matter.",
        "The verdicts are explained under the table of claims. Exact counts are printed.",
    ]


def _source(judged: Sequence[JudgedClaim]) -> str:
    return next(captions.data_line(one.study) for one in judged if one.study is not None)


def _draw(judged: Sequence[JudgedClaim]) -> "Figure":
    panels = [
        _Panel("points of error, towards the claim", ratio=False),
        _Panel("response as a factor of its bound, towards the claim", ratio=True),
    ]
    for one in sorted(judged, key=lambda one: one.verdict == NOT_RUN):
        ratio = any(found.hypothesis.ratio and found.exact is None for found in one.findings)
        panels[ratio].claims.append(one)
    panels = [panel for panel in panels if panel.claims]
    height = sum(panel.height for panel in panels) + BETWEEN * (len(panels) - 1) + BELOW
    key = "dot, line: ours, 95 % · diamond: the paper · right: as claimed · band: too small to matter"
    subtitle = f"{_source(judged)} · {key}"
    figure = style.new_figure(WIDTH, height, TITLE, subtitle)
    figure.set_layout_engine("none")  # every place here is given in inches
    whole = float(figure.get_figheight())
    top = height
    for panel in panels:
        top -= panel.height
        place = (LEFT / WIDTH, top / whole, 1 - (LEFT + RIGHT) / WIDTH, panel.height / whole)
        _fill(figure.add_axes(place), panel)
        top -= BETWEEN
    return figure


def _fill(axes: "Axes", panel: _Panel) -> None:
    from matplotlib.transforms import blended_transform_factory

    axes.set_ylim(panel.height, 0)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    _scale(axes, panel)
    axes.axvline(1 if panel.ratio else 0, color="black", linewidth=0.6, zorder=1)
    across: Any = blended_transform_factory(axes.figure.transFigure, axes.transData)

    def write(x: float, y: float, text: str, **look: Any) -> None:
        axes.text(x, y, text, transform=across, zorder=5, bbox=_BEHIND, **look)

    y = 0.0
    for one in panel.claims:
        block = _Block(one)
        for line in block.lines:
            y += LINE
            write(0.012, y, line, fontsize=6)
        for line in block.verdict:
            y += LINE
            write(0.012, y, line, fontsize=6, color=block.colour, weight="bold")
        y += LEAD
        for found in block.rows:
            y += ROW
            there = block.judged or found.exact is not None
            label = _label(found) if there else f"not run: {_label(found)}"
            write(0.03, y - ROW * 0.25, label, fontsize=5.5, color="#303030" if there else style.MUTED)
            _row(axes, found, y - ROW * 0.4, block.colour)
        y += GAP


def _label(found: Finding) -> str:
    diverged = 0 if found.measured is None else found.measured.diverged
    return f"{found.hypothesis.label} (div. {diverged})" if diverged else found.hypothesis.label


_BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}


def _row(axes: "Axes", found: Finding, y: float, colour: str) -> None:
    hypothesis = found.hypothesis
    if found.exact is not None:
        ours, theirs = (
            "none" if value is None else ratio_text(value) if hypothesis.ratio else signed(value)
            for value in (found.exact, found.paper)
        )
        axes.text(0.5, y, f"{ours} (paper {theirs})", transform=axes.get_yaxis_transform(), fontsize=5.5, va="center",
                  ha="center", bbox=_BEHIND, zorder=5)  # fmt: skip
        return
    turn = _Turned(found)
    if (margin := hypothesis.margin) is not None:
        bound = hypothesis.bound
        band = (bound / margin, bound * margin) if hypothesis.ratio else (bound - margin, bound + margin)
        low, high = map(turn, band)
        axes.fill_betweenx([y - ROW / 2, y + ROW / 2], low, high, color="#ececec", linewidth=0, zorder=0)
    if found.paper is not None:
        axes.plot([turn(found.paper)], [y], "D", color=style.MUTED, markerfacecolor="white", markersize=3, zorder=3)
    contrast = None if found.measured is None else found.measured.shown
    if contrast is None:
        return
    axes.plot([turn.ours(contrast.mean)], [y], "o", color=colour, markersize=3, zorder=4)
    if contrast.n < 2 or contrast.low is None or contrast.high is None:
        return  # one seed has no interval over seeds
    low, high = sorted(map(turn.ours, (contrast.low, contrast.high)))
    axes.plot([low, high], [y, y], color=colour, linewidth=1.1, zorder=3)
    left, right = axes.get_xlim()
    for end, edge, arrow in ((low, left, "<"), (high, right, ">")):
        if not left <= end <= right:
            axes.plot([edge], [y], arrow, color=colour, markersize=3.5, zorder=4, clip_on=False)


class _Turned:
    """Turns values of a hypothesis so that the claimed side lies to the right."""

    def __init__(self, found: Finding) -> None:
        self.hypothesis = found.hypothesis

    def __call__(self, value: float) -> float:
        """A value in the units of the hypothesis, a ratio as a factor of its bound."""
        side = self.hypothesis.side or 1
        if self.hypothesis.ratio:
            return (value / self.hypothesis.bound) ** side
        return side * (value - self.hypothesis.bound)

    def ours(self, value: float) -> float:
        """A value as the contrast has it, of ratios the logarithm."""
        return self(math.exp(value) if self.hypothesis.ratio else value)


def _scale(axes: "Axes", panel: _Panel) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    reach = [2.0]
    for one in panel.claims:
        for found in one.findings:
            if found.exact is not None:
                continue
            turn, contrast = _Turned(found), found.measured.contrast if found.measured is not None else None
            values = [] if contrast is None else [turn.ours(contrast.mean)]
            values += [] if found.paper is None else [turn(found.paper)]
            reach += [abs(math.log(v)) if panel.ratio and v > 0 else abs(v) for v in values]
    if panel.ratio:
        far = math.exp(max(reach) + 1)
        axes.set_xscale("log")
        axes.set_xlim(1 / far, far)
        ticks = [10.0**k for k in range(-12, 13) if 1 / far < 10.0**k < far]
    else:
        far = 2.0 * max(reach)
        axes.set_xscale("symlog", linthresh=1, linscale=0.6)
        axes.set_xlim(-far, far)
        ticks = [float(sign * k) for k in (1, 3, 10, 30, 100) if k < far for sign in (-1, 1)] + [0.0]
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: style.plain(value).replace("-", "\N{MINUS SIGN}")))
    axes.set_xlabel(f"{panel.label} \N{RIGHTWARDS ARROW}", fontsize=6.5)
    style.grid(axes, "x")
