"""Sentences of captions: data, profile and seeds, differences, missing runs, cost."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from analysis.read.runs import RUNNING, repeated_text
from analysis.tables.cell_results import NO_ERROR, NOT_RUN, CellRuns, RunResult
from analysis.tables.cells import Difference, TableCell
from records import names
from records.schema import CURRENT
from records.study_json import StudyRecord

# Words for outcomes that are not finished, in the order of captions.
WORDS = {
    names.DIVERGED: "diverged",
    names.FAILED: "failed",
    names.KILLED: "killed",
    RUNNING: "unfinished",
    NO_ERROR: NO_ERROR,
    NOT_RUN: NOT_RUN,
}
IMAGENET_CLASSES, IMAGENET_IMAGES = 1000, 1_281_167
OFFICIAL_IMAGES = "data.official_images"  # parameter of a run: number of training images of the data set

# Every table must say that the built-in data set is synthetic.
_DATASETS = {
    "cluttershapes": "cluttershapes (built-in, synthetic)",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}


def opening_sentences(studies: Sequence[StudyRecord], cells: Sequence[Sequence[CellRuns]]) -> list[str]:
    """Returns data, profile, rule of selection, n and overrides of studies that differ only in the data set."""
    first, everything = studies[0], [cell_runs for of_study in cells for cell_runs in of_study]
    pairs = list(zip(studies, cells, strict=True))
    counts = {len(cell_runs.planned) for cell_runs in everything} or {0}
    planned = (
        _plural(max(counts), "planned seed") if len(counts) == 1 else f"{min(counts)} to {max(counts)} planned seeds"
    )
    data = " and ".join(dataset_name(study.dataset, of_study) for study, of_study in pairs)
    return [
        f"Data: {data}. Profile: {first.profile}. Selection: {first.selection}.",
        *schema_sentence(everything),
        *(sentence for study, of_study in pairs for sentence in not_imagenet(study.dataset, of_study)),
        *size_sentences(everything),
        f"Mean ± sample standard deviation over the n finished of {planned} (n = 1: the value alone).",
        *overrides_sentence(first.overrides),
    ]


def closing_sentences(cells: Sequence[CellRuns], broken: int) -> list[str]:
    """Returns the missing and repeated runs, the number of pairs left out because of a diverged run, and the cost."""
    left_out = [f"Left out of the differences: {_plural(broken, 'pair')} with a diverged run."] if broken else []
    return [*shortfall_sentence(cells), *repeats_sentences(cells), *left_out, *hours_sentence(cells)]


def schema_sentence(cells: Sequence[CellRuns]) -> list[str]:
    """Returns the schema version of the runs if it is not the current one; [] if it is."""
    others = {run.schema for cell_runs in cells for run in cell_runs.by_seed.values()} - {CURRENT}
    return [f"Runs of schema {' and '.join(map(str, sorted(others)))}; the current is {CURRENT}."] if others else []


def repeats_sentences(cells: Sequence[CellRuns]) -> list[str]:
    """Returns how many runs have several results, and how many further attempts failed or were killed; [] if none."""
    runs = {c.planned[seed]: run for c in cells for seed, run in c.by_seed.items()}.values()
    several = repeated_text(run.results for run in runs)
    counts = {WORDS[names.FAILED]: sum(run.failed for run in runs), WORDS[names.KILLED]: sum(r.killed for r in runs)}
    attempts = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    return ([f"{several}."] if several else []) + ([f"Further attempts: {attempts}."] if attempts else [])


def overrides_sentence(overrides: Mapping[str, object]) -> list[str]:
    """Returns the overrides in words; [] if there are none."""
    listed = ", ".join(f"{key} = {value}" for key, value in sorted(overrides.items()))
    return [f"Overrides: {listed}."] if listed else []


def holm_sentence(name: str, cells: Iterable[TableCell]) -> str:
    """Returns the sentence about the differences in `cells`, which are called `name`."""
    tested = sum(isinstance(c, Difference) and c.interval is not None and c.interval.low is not None for c in cells)
    start = f"{name[0].upper()}{name[1:]}: mean difference paired by seed"
    if tested == 0:
        return f"{start}; an interval needs two pairs."
    if tested == 1:
        return f"{start}, with its 95 % t-interval."
    return (
        f"{start}, with its t-interval at the level of Holm's correction over the {tested} of this table: "
        "it excludes 0 where Holm's test rejects at 5 %."
    )


def hours_sentence(cells: Sequence[CellRuns]) -> list[str]:
    """Returns the cost of the runs of these cells, each fingerprint once; [] if none has logged it."""
    found = {
        cell_runs.planned[seed]: run.hours
        for cell_runs in cells
        for seed, run in cell_runs.by_seed.items()
        if math.isfinite(run.hours)
    }
    return [f"Cost: {hours_text(sum(found.values()))} over {_plural(len(found), 'run')}."] if found else []


def hours_text(hours: float) -> str:
    """Returns hours as text, in minutes below two hours."""
    return f"{60 * hours:.{0 if hours >= 0.1 else 1}f} minutes" if hours < 2 else f"{hours:.1f} hours"


def shortfall_sentence(cells: Sequence[CellRuns]) -> list[str]:
    """Returns the number of missing runs by reason; [] for complete cells."""
    tally: dict[str, int] = {}
    for cell_runs in cells:
        for outcome in cell_runs.outcomes.values():
            tally[outcome] = tally.get(outcome, 0) + 1
    missing = [f"{tally[outcome]} {word}" for outcome, word in WORDS.items() if outcome in tally]
    unknown = sum(number for outcome, number in tally.items() if outcome not in WORDS and outcome != names.FINISHED)
    missing += [f"{unknown} of unknown outcome"] if unknown else []
    return [f"Of {sum(tally.values())} runs: {', '.join(missing)}."] if missing else []


def size_sentences(cells: Sequence[CellRuns]) -> list[str]:
    """Returns the limit on training images if all runs have the same."""
    found = {run.params.get("data.train_images", "None") for cell_runs in cells for run in cell_runs.by_seed.values()}
    (limit,) = found if len(found) == 1 else ("None",)
    return [f"Training images: {int(limit):,}."] if limit.isdecimal() else []


def dataset_name(dataset: str, cells: Sequence[CellRuns] = ()) -> str:
    """Returns the name of a data set in print. An image folder is called ImageNet only if its runs show that it is."""
    if dataset != "imagenet":
        return _DATASETS.get(dataset, dataset)
    classes = sorted({cell_runs.network.num_classes for cell_runs in cells if cell_runs.network is not None})
    if not_imagenet(dataset, cells):
        return "an image folder" + (f" of {classes[0]} classes" if len(classes) == 1 else "")
    return "ImageNet"


def not_imagenet(dataset: str, cells: Sequence[CellRuns]) -> list[str]:
    """Returns the sentence why runs on the data set "imagenet" are not ImageNet results; [] if they are.

    They are if all networks have 1000 classes, and all runs had all training images and no limit on test images.
    """
    runs = [run for cell_runs in cells for run in cell_runs.by_seed.values()]
    classes = {None if cell_runs.network is None else cell_runs.network.num_classes for cell_runs in cells}
    images = {_training_images(run) for run in runs}
    tests = {int(run.params["data.test_images"]) for run in runs if run.params.get("data.test_images", "").isdecimal()}
    if dataset != "imagenet" or (classes == {IMAGENET_CLASSES} and images <= {IMAGENET_IMAGES} and not tests):
        return []
    found = [f"{_listed(classes)} classes"] + ([f"{_listed(images)} training images"] if runs else [])
    found += [f"a test on {_listed(tests)} images"] if tests else []
    whole = f"{IMAGENET_CLASSES} classes and {IMAGENET_IMAGES:,} training images"
    return [f"No ImageNet results: these data have {', '.join(found)}; ImageNet has {whole}."]


def _training_images(run: RunResult) -> int | None:
    total, limit = run.params.get(OFFICIAL_IMAGES, ""), run.params.get("data.train_images", "")
    known = [int(text) for text in (total, limit) if text.isdecimal()]
    return min(known, default=None)


def _listed(values: Collection[int | None]) -> str:
    known = sorted(value for value in values if value is not None)
    return " or ".join([f"{value:,}" for value in known] + (["an unknown number of"] if None in values else []))


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
