"""Sentences of captions: data, profile and seeds, differences, missing runs, cost."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from analysis.read.runs import RUNNING, repeated_text
from analysis.stats import MIN_SEEDS, Contrast
from analysis.tables.cell_results import NO_ERROR, NOT_RUN, CellRuns, RunResult
from analysis.tables.contrasts import MeasuredContrast, marked
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
WITH_INTERVAL = "[95 % interval]"  # in the title of a column
PAPERS_IMAGES = 160_000 * 64  # seen in training by the paper's CIFAR protocol
_COUNT, _WIDTH = re.compile(r"[0-9]{1,12}"), re.compile(r"[0-9]{1,3}([.][0-9]{1,9})?")  # a parameter may hold any text
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
    counts = {len(cell_runs.outcomes) for cell_runs in everything} or {0}
    of_plan = all(c.outcomes.keys() == set(study.planned_seeds) for study, of_study in pairs for c in of_study)
    word = "planned" if of_plan else "launched"
    planned = _plural(max(counts), f"{word} seed")
    if len(counts) > 1:
        planned = f"{min(counts)} to {planned}"
    data = " and ".join(dataset_name(study.dataset, of_study) for study, of_study in pairs)
    return [
        f"Data: {data}. Profile: {first.profile}. Selection: {first.selection}.",
        *schema_sentence(everything),
        *(sentence for study, of_study in pairs for sentence in not_imagenet(study.dataset, of_study)),
        *size_sentences(everything),
        f"Mean ± sample standard deviation over the n finished of {planned} (n = 1: the value alone).",
        *(["+: finished seeds beyond the plan, which do not count."] if any(c.beyond for c in everything) else []),
        *overrides_sentence(first.overrides),
    ]


def closing_sentences(cells: Sequence[CellRuns]) -> list[str]:
    """Returns the missing and repeated runs, and the cost."""
    return [*shortfall_sentence(cells), *repeats_sentences(cells), *hours_sentence(cells)]


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


def difference_sentences(name: str, differences: Mapping[Any, MeasuredContrast]) -> list[str]:
    """Returns the sentences about the differences of one table or figure, which are called `name`."""
    found = [one.contrast for one in differences.values() if one.contrast is not None]
    start = f"{name[0].upper()}{name[1:]}: mean difference of runs with the same seed"
    if differences and not found:
        return [f"{start}; none here, because no seed has a result of both."]
    if not any(one.low is not None for one in found):
        return [f"{start}; an interval needs two seeds."]
    return [f"{start}, {interval_text(found)}.", *marks_sentences(differences)]


_RANGE = "with the range (95 %) in which"
_PUT = {
    "seeds and images": "other seeds and other test images would put it",
    "seeds": "other seeds would put it",
    "images": "other test images would put the networks of this one seed",
}


def interval_text(found: Collection[Contrast]) -> str:
    """Returns what the intervals of some contrasts are over, in words for a reader outside statistics."""
    kinds = [kind for kind in _PUT if any(one.over == kind for one in found)]
    if not kinds:
        return "without a range, which needs two seeds"
    if kinds == ["seeds"]:
        return f"{_RANGE} {_PUT['seeds']} (not every run kept its result per test image)"
    if len(kinds) == 1:
        return f"{_RANGE} {_PUT[kinds[0]]}"
    return f"{_RANGE} " + "; ".join(f"({kind}) {_PUT[kind]}" for kind in kinds)


def marks_sentences(differences: Mapping[Any, MeasuredContrast]) -> list[str]:
    """Returns what a mark beside a difference says, why some are not judged, and how a diverged run counts."""
    judged = [one for one in differences.values() if one.complete]
    said = []
    if judged:
        what = f"from 0 by Holm's test over the {_plural(len(differences), 'difference')} at 5 %"
        said.append(f"*: differs {what}." if marked(differences) else f"No difference is marked: none differs {what}.")
    if not all(one.planned for one in differences.values()):
        said.append("Nothing is judged: no plan of seeds is on record.")
    elif (fewest := min((one.planned for one in differences.values()), default=MIN_SEEDS)) < MIN_SEEDS:
        said.append(f"Nothing is judged: that needs a plan of at least {MIN_SEEDS} seeds, and this one has {fewest}.")
    elif len(judged) < len(differences):
        said.append("Interim: a difference is judged when all planned seeds are there.")
    diverged = sum(one.diverged for one in differences.values())
    if diverged:
        said.append(f"A diverged run counts as guessing: in {_plural(diverged, 'pair')}.")
    return said


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
    """Returns hours as text, in minutes below two hours and in seconds below a minute."""
    if hours >= 2:
        return f"{hours:.1f} hours"
    minutes = 60 * hours
    return f"{minutes:.{0 if minutes >= 6 else 1}f} minutes" if minutes >= 1 else _plural(round(60 * minutes), "second")


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


def images_seen(params: Mapping[str, str]) -> int | None:
    """Returns the number of images that a run trains on, each as often as it is seen; None if it does not say so."""
    steps, batch = (params.get(key, "") for key in ("train.steps", "train.batch_size"))
    return int(steps) * int(batch) if _COUNT.fullmatch(steps) and _COUNT.fullmatch(batch) else None


def budget_text(cells: Sequence[CellRuns]) -> str:
    """Returns e.g. "0.5 of the paper's width, 40,000 images seen in training"; "" if no run says it."""
    runs = [run.params for cell_runs in cells for run in cell_runs.by_seed.values()]
    widths = {float(found) for params in runs if _WIDTH.fullmatch(found := params.get("model.width", ""))}
    images = {seen for params in runs if (seen := images_seen(params)) is not None}
    if not widths or not images:
        return ""
    width = " and ".join("the paper's" if one == 1 else f"{one:g} of the paper's" for one in sorted(widths))
    return f"{width} width, {' and '.join(f'{one:,}' for one in sorted(images))} images seen in training"


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
