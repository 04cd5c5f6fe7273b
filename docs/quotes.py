"""Writes the output of every command that the documents quote anew, from the runs in results/archive/.

python docs/quotes.py

A quote is a bash block whose last line makes tables or a plan or shows the archive, and the text block that follows it.
README.md quotes the table alone and the lines of the caption that it quoted before; the other documents quote
everything. Below the line "<!-- claims: ... -->" stand the number of verdicts and the short table of the claims with
these runs, and below "<!-- figure: ... -->" an image that this script draws, with its caption.
"""

import contextlib
import io
import math
import os
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from analysis import archive, make_tables, plan
from analysis.claims.claim import RESPONSE
from analysis.claims.table import verdict_text, where_text
from analysis.claims.verdicts import INTERIM, Finding, judge_all
from analysis.figures import CaptionedFigure, collect_figures, render
from analysis.options import select
from analysis.read.results import Results, read_results
from analysis.stats import CONTRADICTED, NO_DIFFERENCE, SUPPORTED, UNDECIDED
from analysis.tables.cells import MISSING, ratio_text, signed
from records.study_json import StudyRecord

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
QUOTE = re.compile(r"```bash\n(?P<commands>[^`]*?)```\n\n```text\n(?P<said>.*?)```", re.S)
CLAIMS = re.compile(r"<!-- claims: (?P<arguments>[^\n]*) -->\n(?:[^|\n][^\n]*\n\n)?(?P<table>(?:\|[^\n]*\n)*)")
FIGURE = re.compile(
    r"(?P<head><!-- figure: (?P<kind>\w+) (?P<arguments>[^\n]*) -->\n!\[[^\n]*\]\((?P<image>[^)]*)\)\n\n)[^\n]*\n"
)
VERDICTS = (SUPPORTED, CONTRADICTED, NO_DIFFERENCE, UNDECIDED, INTERIM)
RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 3
_MAKERS: dict[str, Callable[[list[str]], int]] = {
    "python analysis/make_tables.py": make_tables.main,
    "python -m analysis.plan": plan.main,
    "python -m analysis.archive show": lambda words: archive.main(["show", *words]),
    "python -m analysis.archive repeats": lambda words: archive.main(["repeats", *words]),
}


def quoted(text: str, *, whole: bool) -> str:
    """Returns a document with every quote as it is now; run it where results/archive/ is and no tracking store."""
    text = QUOTE.sub(lambda found: _renewed(found, whole=whole), text)
    text = FIGURE.sub(lambda found: found["head"] + " ".join(_figure(found).caption) + "\n", text)
    return CLAIMS.sub(lambda found: f"<!-- claims: {found['arguments']} -->\n{_claims(found['arguments'])}", text)


def _renewed(found: re.Match[str], *, whole: bool) -> str:
    command = found["commands"].splitlines()[-1].partition("  #")[0].strip()
    start = next((start for start in _MAKERS if command.startswith(start)), None)
    if start is None:
        return found[0]
    maker = _MAKERS[start]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        written = ["--formats", "text"] if maker is make_tables.main else []
        if maker([*shlex.split(command.removeprefix(start)), *written]):
            raise SystemExit(f"{command}: refused")
    lines = said.getvalue().strip().splitlines()
    if not whole:
        lines = lines[: _last_rule(lines) + 1 + _captions(found["said"].splitlines())]
    return f"```bash\n{found['commands']}```\n\n```text\n" + "\n".join(lines) + "\n```"


def _figure(found: re.Match[str]) -> CaptionedFigure:
    """The figure of a kind that the arguments choose."""
    results, studies = _chosen(found["arguments"])
    (drawn,) = collect_figures(results, studies, [found["kind"]])[0]
    return drawn


def _chosen(arguments: str) -> tuple[Results, list[StudyRecord]]:
    words = dict(zip(*[iter(arguments.split())] * 2, strict=True))
    archive = Path(words.get("--archive", "results/archive"))
    results = read_results(None, archive, named="--archive" in words)
    return results, select(results.studies, profile=words.get("--profile"), data=words.get("--data"))


def _last_rule(lines: list[str]) -> int:
    return max(i for i, line in enumerate(lines) if line.startswith(RULE))


def _captions(lines: list[str]) -> int:
    """How many lines stand below the table."""
    return len(lines) - 1 - _last_rule(lines)


def _claims(arguments: str) -> str:
    """The claims with runs: how many have which verdict, and a Markdown table of effects of the paper and ours."""
    results, studies = _chosen(arguments)
    judged = [one for one in judge_all(results, studies) if any(measured.n for measured in one.measured)]
    counts = Counter(one.verdict for one in judged)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    rows = [f"Of {len(judged)} claims: {said}.", "", "| claim | paper | ours | verdict |", "|---|---|---|---|"]
    for one in judged:
        paper, ours = (", ".join(map(part, one.findings)) for part in (_paper, _ours))
        rows.append(f"| {one.claim.sentence} ({where_text(one)}) | {paper} | {ours} | {verdict_text(one)} |")
    return "\n".join(rows) + "\n"


def _paper(found: Finding) -> str:
    return MISSING if found.paper is None else _number(found, found.paper)


def _ours(found: Finding) -> str:
    contrast = None if found.measured is None else found.measured.contrast
    if contrast is None:
        return MISSING if found.exact is None else _number(found, found.exact)
    return _number(found, math.exp(contrast.mean) if found.hypothesis.ratio else contrast.mean)


def _number(found: Finding, value: float) -> str:
    if found.hypothesis.ratio:
        return ratio_text(value, 3 if found.hypothesis.quantity in RESPONSE.values() else 2)
    return signed(value)


@contextlib.contextmanager
def archive_alone() -> Iterator[Path]:
    """Enters an empty folder in which results/archive/ is the project's, and no tracking store is."""
    before, store = Path.cwd(), os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "results").mkdir()
        (Path(folder) / "results" / "archive").symlink_to(ROOT / "results" / "archive")
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)
            if store is not None:
                os.environ["MLFLOW_TRACKING_URI"] = store


def main() -> None:
    with archive_alone():
        for path in DOCUMENTS:
            text = path.read_text()
            for found in FIGURE.finditer(text):
                (path.parent / found["image"]).write_bytes(render(_figure(found), "png"))
            renewed = quoted(text, whole=path.name != "README.md")
            if renewed != text:
                path.write_text(renewed)
                print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
