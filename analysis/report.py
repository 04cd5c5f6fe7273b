"""The report: claims, tables and figures with the runs behind them, deviations from the paper, unfinished runs."""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.figures import CaptionedFigure, MissingFigure, render
from analysis.make_tables import CLAIMS, SourcedTable
from analysis.read.deviations import deviations
from analysis.read.runs import RESULTS
from analysis.tables.captions import dataset_name
from analysis.tables.formats import html_fragment
from records import names
from records.study_json import StudyRecord

if TYPE_CHECKING:
    from analysis.read.results import Results

SHOWN = 12  # printed hex digits of a fingerprint or commit; its title has all


@dataclass(frozen=True)
class Origin:
    """The origin of a table or figure: studies with their commands, fingerprints and commits of the runs."""

    studies: tuple[StudyRecord, ...]
    fingerprints: tuple[str, ...]
    commits: tuple[str, ...]


def origin(results: "Results", studies: Sequence[StudyRecord], fingerprints: Iterable[str] | None = None) -> Origin:
    """Returns the origin of a figure that shows `fingerprints`; None: all results of the studies."""
    planned = {run.fingerprint for study in studies for run in study.runs}
    runs = results.runs.set_index("fingerprint")
    over = runs.index[runs["outcome"].isin(list(RESULTS))]
    shown = sorted(planned.intersection(over) if fingerprints is None else set(fingerprints).intersection(runs.index))
    commits = dict.fromkeys(str(commit) for commit in runs.loc[shown, "commit"] if commit)
    return Origin(tuple(studies), tuple(shown), tuple(commits))


def page(
    results: "Results",
    studies: Sequence[StudyRecord],
    tables: Sequence[SourcedTable],
    figures: Sequence[CaptionedFigure],
    missing: Sequence[MissingFigure],
) -> str:
    """Returns the report as one HTML page that needs no other file.

    It opens with the claims at a glance. `tables` in the order of `make_tables.all_tables`, the claims first; `missing`
    are the figures without data.
    """
    first, *others = tables
    glances, figures = (
        [figure for figure in figures if (figure.kind == CLAIMS) == at_a_glance] for at_a_glance in (True, False)
    )
    named = [(f"figure-{figure.stem}", figure.title) for figure in glances]
    named += [("claims", first.table.title), *((made.table.stem, made.table.title) for made in others)]
    named += [(f"figure-{figure.stem}", figure.title) for figure in figures]

    def drawn(figure: CaptionedFigure) -> str:
        made_by = origin(results, figure.studies, figure.fingerprints)
        return _section(f"figure-{figure.stem}", figure.title, _image(figure), made_by)

    contents = "".join(f'<li><a href="#{_id(stem)}">{html.escape(title)}</a></li>' for stem, title in named)
    sections = [
        *map(drawn, glances),
        _section("claims", first.table.title, html_fragment(first.table), origin(results, first.studies)),
        _overview(results, studies),
        f"<nav><h2>Contents</h2><ul>{contents}</ul></nav>",
        *(
            _section(made.table.stem, made.table.title, html_fragment(made.table), origin(results, made.studies))
            for made in others
        ),
        *map(drawn, figures),
        _listed("Figures without data", [figure.message for figure in missing]),
        _unfinished(results, studies),
        _listed("Deviations from the paper, and choices that it leaves open", [text for _, text in deviations()]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><h1>{TITLE}</h1>\n" + "\n".join(section for section in sections if section) + "\n</body></html>\n"
    )


def _section(stem: str, title: str, body: str, made_by: Origin) -> str:
    inside = f'<h2>{html.escape(title)}</h2>\n<div class="wide">{body}</div>{_details(made_by)}'
    return f'<section id="{_id(stem)}">{inside}</section>'


def _details(made_by: Origin) -> str:
    """Collapsed details: command, profile and data set of each study, then fingerprints and commits."""
    if not made_by.studies:
        return ""
    rows = "".join(
        f"<li><code>{html.escape(study.command or f'python run_ablation.py --study {study.name}')}</code>"
        f" ({html.escape(study.name)}, {html.escape(study.profile)}, {html.escape(dataset_name(study.dataset))})</li>"
        for study in made_by.studies
    )
    runs, commits = (
        " ".join(f'<code title="{value}">{value[:SHOWN]}</code>' for value in values) or "none"
        for values in (made_by.fingerprints, made_by.commits)
    )
    count = len(made_by.fingerprints)
    return (
        f"<details><summary>Made by {count} run{'' if count == 1 else 's'}</summary><ul>{rows}</ul>"
        f"<p>Fingerprints: {runs}</p><p>Commits: {commits}</p></details>"
    )


def _image(figure: CaptionedFigure) -> str:
    data = base64.b64encode(render(figure, "png")).decode()
    return (
        f'<img alt="{html.escape(figure.title)}" src="data:image/png;base64,{data}">'
        f"<p>{html.escape(' '.join(figure.caption))}</p>"
    )


def _overview(results: "Results", studies: Sequence[StudyRecord]) -> str:
    """The table of studies: finished runs and hours."""
    runs = results.runs.set_index("fingerprint")
    rows = []
    for study in studies:
        planned = [run.fingerprint for run in study.runs]
        there = runs.loc[[p for p in dict.fromkeys(planned) if p in runs.index]]
        over = there[there["outcome"].isin(list(RESULTS))]
        hours = over["hours"].sum()
        cells = (study.name, study.profile, dataset_name(study.dataset), f"{len(over)}/{len(planned)}", f"{hours:.2f}")
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("study", "profile", "data set", "runs over", "hours"))
    sources = "; ".join(html.escape(source) for source in results.sources)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        f'<section><h2>Studies</h2><div class="wide">{table}</div>'
        f"<p>A run that two studies share is counted in each. Read: {sources}.</p></section>"
    )


def _unfinished(results: "Results", studies: Sequence[StudyRecord]) -> str:
    runs = results.runs[results.runs["outcome"] != names.FINISHED]
    unfinished = {run["fingerprint"]: run for run in runs.to_dict("records")}
    lines = [
        f"{study.name}, {study.profile}, {study.cell_text(planned.cell)}, seed {planned.seed}: "
        + ", ".join(filter(None, (run["outcome"], run["reason"])))
        for study in studies
        for planned in study.runs
        if (run := unfinished.get(planned.fingerprint)) is not None
    ]
    return _listed("Runs that did not finish", lines or ["None."])


def _listed(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<section><h2>{html.escape(title)}</h2><ul>{items}</ul></section>"


def _id(stem: str) -> str:
    return re.sub(r"[^\w.-]", "-", stem)


TITLE = "Residual Attention Networks: the ablations, measured beside published"
# Wide tables scroll in their own box, so that the page does not.
STYLE = (
    "body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:68rem;color:#111;background:#fff}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}section{margin-bottom:1rem}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;border-block:2px solid;font-size:.875rem}"
    "th,td{padding:.25rem .6rem;text-align:left;vertical-align:top;white-space:nowrap}"
    "thead th{border-bottom:1px solid;white-space:normal}td.words{white-space:normal;min-width:12rem}"
    ".number{text-align:right;font-variant-numeric:tabular-nums}"
    "p,li{font-size:.9rem;overflow-wrap:anywhere}img{max-width:100%;height:auto}details{font-size:.85rem}"
    "code{font-size:.8rem}nav ul{columns:20rem}"
)
