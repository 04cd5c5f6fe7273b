"""The report: the claims, a section for each study, networks, deviations from the paper, and the runs behind all."""

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.claims.paper import CLAIMS as CLAIM_LIST
from analysis.claims.table import runs_value
from analysis.figures import CaptionedFigure, MissingFigure, render
from analysis.make_tables import CLAIMS, SourcedTable
from analysis.read.deviations import deviations
from analysis.read.runs import RESULTS
from analysis.tables.captions import dataset_name
from analysis.tables.cells import Judgement, Label
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

    It opens with the claims: at a glance, then their table. Then each study has a section: its verdicts, its table, its
    figures. Networks, deviations and runs come last. `tables` in the order of `make_tables.all_tables`, the claims
    first; `missing` are the figures without data.
    """
    first, *others = tables
    parts = [_claims(results, first, [figure for figure in figures if figure.kind == CLAIMS])]
    parts += [_study(results, study, first, others, figures) for study in studies]
    parts += [
        _networks(results, [made for made in others if not made.studies], figures),
        _shared(results, figures),
        _listed("deviations", "Deviations and choices", [text for _, text in deviations()]),
        _runs(results, studies, missing),
    ]
    shown = [part for part in parts if part.body]
    contents = "".join(f'<li><a href="#{part.id}">{html.escape(part.title)}</a></li>' for part in shown)
    body = "\n".join(
        f'<section id="{part.id}"><h2>{html.escape(part.title)}</h2>{part.body}</section>' for part in shown
    )
    sources = "; ".join(html.escape(source) for source in results.sources)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><header><h1>{TITLE}</h1><p>Read: {sources}.</p></header>\n"
        f"<nav><details open><summary>Contents</summary><ul>{contents}</ul></details></nav>\n"
        f"<main>\n{body}\n</main></body></html>\n"
    )


@dataclass(frozen=True)
class _Part:
    """A section of the page."""

    id: str
    title: str
    body: str


def _where(study: StudyRecord) -> str:
    """Data set, profile and overrides, which tell two sections of one study apart."""
    changed = ", ".join(f"{key} = {value}" for key, value in sorted(study.overrides.items()))
    return ", ".join(filter(None, [dataset_name(study.dataset), study.profile, changed]))


def _claims(results: "Results", table: SourcedTable, glances: Sequence[CaptionedFigure]) -> _Part:
    body = "".join(_figure(results, glance, heading=_where(glance.studies[0])) for glance in glances)
    return _Part(CLAIMS, "What was asked and found", body + _table(results, table, heading=table.table.title))


def _study(
    results: "Results",
    study: StudyRecord,
    claims: SourcedTable,
    tables: Sequence[SourcedTable],
    figures: Sequence[CaptionedFigure],
) -> _Part:
    own = [made for made in tables if study in made.studies]
    drawn = [figure for figure in figures if figure.studies == (study,) and figure.kind not in _APART]
    stem = own[0].table.stem if own else "-".join(study.key[:3])
    title = own[0].table.title if own else study.title
    body = _verdicts(study, claims) + "".join(_table(results, made) for made in own)
    body += "".join(_figure(results, figure, heading=figure.title.partition(": ")[0]) for figure in drawn)
    return _Part(_id(f"{stem}-{study.name}"), f"{title} ({_where(study)})", body)


def _verdicts(study: StudyRecord, claims: SourcedTable) -> str:
    """The claims that this study's runs were compared with."""
    lines = []
    for row in claims.table.rows:
        runs, claim, verdict = row[0], row[1], row[-1]
        if isinstance(claim, Label) and isinstance(runs, Label) and isinstance(verdict, Judgement):
            of_study = any(study.name in known.hypotheses for known in CLAIM_LIST if known.id == claim.value)
            if of_study and runs.value == runs_value(study):
                lines.append(f"<li>{html.escape(claim.text)}: <strong>{html.escape(verdict.text)}</strong></li>")
    return f'<ul class="verdicts">{"".join(lines)}</ul>' if lines else ""


def _networks(results: "Results", counts: Sequence[SourcedTable], figures: Sequence[CaptionedFigure]) -> _Part:
    """Tables of counts, and one diagram for each network, folded: they differ little."""
    body = "".join(_table(results, made, heading=made.table.title) for made in counts)
    diagrams = [figure for figure in figures if figure.kind == ARCHITECTURE]
    body += "".join(
        f"<details><summary>{html.escape(one.title)}</summary>{_figure(results, one)}</details>" for one in diagrams
    )
    return _Part("networks", "Networks", body)


def _shared(results: "Results", figures: Sequence[CaptionedFigure]) -> _Part:
    """Figures of several studies."""
    of_several = [figure for figure in figures if len(figure.studies) > 1 and figure.kind not in _APART]
    return _Part("across-studies", "Across studies", "".join(_figure(results, f, heading=f.title) for f in of_several))


def _table(results: "Results", made: SourcedTable, heading: str = "") -> str:
    inside = f"<h3>{html.escape(heading)}</h3>" if heading else ""
    return (
        f'<div id="{_id(made.table.stem)}">{inside}<div class="wide">{html_fragment(made.table)}</div>'
        f"{_details(origin(results, made.studies))}</div>"
    )


def _figure(results: "Results", figure: CaptionedFigure, heading: str = "") -> str:
    data = base64.b64encode(_small(render(figure, "png", dots=DOTS))).decode()
    inside = f"<h3>{html.escape(heading)}</h3>" if heading else ""
    return (
        f'<figure id="figure-{_id(figure.stem)}">{inside}<img alt="{html.escape(figure.title)}" loading="lazy" '
        f'src="data:image/png;base64,{data}"><figcaption>{html.escape(" ".join(figure.caption))}</figcaption>'
        f"{_details(origin(results, figure.studies, figure.fingerprints))}</figure>"
    )


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
        " ".join(f'<code title="{html.escape(value)}">{html.escape(value[:SHOWN])}</code>' for value in values)
        or "none"
        for values in (made_by.fingerprints, made_by.commits)
    )
    count = len(made_by.fingerprints)
    return (
        f"<details><summary>Made by {count} run{'' if count == 1 else 's'}</summary><ul>{rows}</ul>"
        f"<p>Fingerprints: {runs}</p><p>Commits: {commits}</p></details>"
    )


def _small(png: bytes) -> bytes:
    """The same picture in 256 colours, less than half as large."""
    from PIL import Image  # matplotlib needs it, too

    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


def _runs(results: "Results", studies: Sequence[StudyRecord], missing: Sequence[MissingFigure]) -> _Part:
    """The table of studies, runs that did not finish, figures without data."""
    runs = results.runs.set_index("fingerprint")
    rows = []
    for study in studies:
        launched = dict.fromkeys(run.fingerprint for run in study.runs)
        there = runs.loc[[fingerprint for fingerprint in launched if fingerprint in runs.index]]
        over = there[there["outcome"].isin(list(RESULTS))]
        beyond = len(study.beyond_plan & set(over.index))
        count = f"{len(over) - beyond}/{study.plan_size}" + f" +{beyond}" * bool(beyond)
        cells = (study.name, study.profile, dataset_name(study.dataset), count, f"{over['hours'].sum():.2f}")
        rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("study", "profile", "data set", "runs over", "hours"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    body = f'<div class="wide">{table}</div><p>A run that two studies share is counted in each.</p>'
    body += _list("Runs that did not finish", _unfinished(results, studies) or ["None."])
    body += _list("Figures without data", [figure.message for figure in missing])
    return _Part("runs", "Runs", body)


def _unfinished(results: "Results", studies: Sequence[StudyRecord]) -> list[str]:
    runs = results.runs[results.runs["outcome"] != names.FINISHED]
    unfinished = {run["fingerprint"]: run for run in runs.to_dict("records")}
    return [
        f"{study.name}, {study.profile}, {study.cell_text(planned.cell)}, seed {planned.seed}: "
        + ", ".join(filter(None, (run["outcome"], run["reason"])))
        for study in studies
        for planned in study.runs
        if (run := unfinished.get(planned.fingerprint)) is not None
    ]


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h3>{html.escape(title)}</h3><ul>{items}</ul>" if lines else ""


def _listed(id: str, title: str, lines: Sequence[str]) -> _Part:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return _Part(id, title, f"<details><summary>{len(lines)} of them</summary><ul>{items}</ul></details>")


def _id(stem: str) -> str:
    return re.sub(r"[^\w.-]", "-", stem)


TITLE = "Residual Attention Networks: the ablations, measured beside published"
ARCHITECTURE = "2"
_APART = (CLAIMS, ARCHITECTURE)  # kinds of figures that stand in sections of their own
DOTS = 130  # an inch: sharp on a screen, and the page stays small
# Wide tables scroll in their own box, so that the page does not. On a wide screen the contents stay in view.
STYLE = (
    "body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:68rem;color:#111;background:#fff}"
    "h1{font-size:1.4rem}h2{font-size:1.15rem;margin:2.5rem 0 .5rem;border-top:1px solid #ccc;padding-top:.75rem}"
    "h3{font-size:.95rem;margin:1.25rem 0 .25rem}.wide{overflow-x:auto}figure{margin:1rem 0}"
    "table{border-collapse:collapse;border-block:2px solid;font-size:.8rem}"
    "th,td{padding:.2rem .5rem;text-align:left;vertical-align:top;white-space:nowrap}"
    "thead th{border-bottom:1px solid;white-space:normal}td.words{white-space:normal;min-width:10rem}"
    "tr.group td{border-top:1px solid #ccc}"
    ".number{text-align:right;font-variant-numeric:tabular-nums}td.number{white-space:normal}"
    "p,li,figcaption{font-size:.875rem;overflow-wrap:anywhere}img{max-width:100%;height:auto}"
    "details{font-size:.85rem}code{font-size:.8rem}nav ul{padding-left:1rem;margin:.25rem 0}nav li{margin:.2rem 0}"
    "@media(min-width:80rem){body{max-width:90rem;display:grid;grid-template-columns:16rem minmax(0,1fr);gap:0 2rem}"
    "header{grid-column:1/3}nav{position:sticky;top:1rem;align-self:start;max-height:calc(100vh - 2rem);"
    "overflow-y:auto}}"
    "@media print{nav,details{display:none}body{max-width:none;padding:0}figure,tr{break-inside:avoid}"
    "h2,h3{break-after:avoid}.wide{overflow:visible}table{font-size:.6rem}}"
)
