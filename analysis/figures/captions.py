"""Studies, data sets and numbers of seeds as titles, captions and file names print them."""

from collections.abc import Iterable, Sequence

from analysis.figures.curves_over_seeds import FigureCell
from analysis.tables import captions as sentences
from analysis.tables.study_table import safe_stem
from records.study_json import StudyRecord


def seeds_text(counts: Iterable[int]) -> str:
    """Returns "n = 3 seeds", or "n = 1 to 3 seeds" if cells differ."""
    found = sorted(set(counts)) or [0]
    if len(found) == 1:
        return f"n = {found[0]} seed{'' if found[0] == 1 else 's'}"
    return f"n = {found[0]} to {found[-1]} seeds"


def studies_of(cells: Sequence[FigureCell]) -> tuple[StudyRecord, ...]:
    """Returns the studies of some cells, each once."""
    return tuple({cell.study.key: cell.study for cell in cells}.values())


def source_line(cells: Sequence[FigureCell]) -> str:
    """Returns studies, data set, profile and overrides in one line. All cells must share the latter three."""
    return " · ".join([", ".join(study.name for study in studies_of(cells)), data_line(cells[0].study, cells)])


def data_line(study: StudyRecord, cells: Sequence[FigureCell] = ()) -> str:
    """Returns data set, profile and overrides in one line."""
    parts = [sentences.dataset_name(study.dataset, [cell.runs for cell in cells]), f"profile {study.profile}"]
    parts += [f"{key} = {value}" for key, value in sorted(study.overrides.items())]
    return " · ".join(parts)


def source_sentences(cells: Sequence[FigureCell]) -> list[str]:
    """Returns studies, data set, profile and overrides as sentences of a caption."""
    found, known = studies_of(cells), [cell.runs for cell in cells]
    first = found[0]
    return [
        f"{'Study' if len(found) == 1 else 'Studies'}: {', '.join(study.name for study in found)}.",
        f"Data: {sentences.dataset_name(first.dataset, known)}. Profile: {first.profile}.",
        *sentences.schema_sentence(known),
        *sentences.not_imagenet(first.dataset, known),
        *sentences.size_sentences(known),
        *sentences.overrides_sentence(first.overrides),
    ]


def shortfall_sentences(cells: Sequence[FigureCell]) -> list[str]:
    """Returns the number of missing runs by reason, as a sentence; [] for complete cells."""
    return sentences.shortfall_sentence([cell.runs for cell in cells])


def diverged_sentences(cells: Iterable[FigureCell]) -> list[str]:
    """Returns how many diverged runs of these cells a figure of finished ones leaves out; [] if there is none."""
    number = len({fingerprint for cell in cells for fingerprint in cell.diverged.values()})
    return [f"Left out: {number} diverged run{'' if number == 1 else 's'}."] if number else []


def file_stem(*parts: str, study: StudyRecord) -> str:
    """Returns a file name without suffix; overrides add a short hash, because they need a file of their own."""
    return safe_stem(*parts, study.dataset, study.profile, overrides=study)


def comparable_groups(studies: Iterable[StudyRecord]) -> list[list[StudyRecord]]:
    """Returns the studies in groups of the same data set, profile and overrides, which a figure must not mix."""
    found: dict[tuple[str, ...], list[StudyRecord]] = {}
    for study in studies:
        found.setdefault(study.key[1:], []).append(study)
    return list(found.values())


def missing_message(kind: str, what: str, study: str, like: StudyRecord) -> str:
    """Returns the message about a missing figure: the reason, and the launch that makes its data like study `like`."""
    command = f"python run_ablation.py --study {study} --profile {like.profile_name}"
    if like.name == study and like.command:
        command = like.command
    return f"no figure {kind} of {data_line(like)}: {what}; `{command}`"
