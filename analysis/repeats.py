"""The archived runs that were trained more than once: did they give the same error and the same weights again?"""

import itertools
import math
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from analysis.read.runs import RunData, group_runs
from records import names
from records.reading import UnreadableError, parse_object
from records.text import columns

HEADERS = ("run", "trained", "error %", "again", "error %", "way", "weights")


@dataclass(frozen=True)
class Repeat:
    """The result of a run that counts, and a later result of its fingerprint."""

    first: RunData
    again: RunData

    @property
    def same_way(self) -> bool:
        """Whether both were computed alike: device, threads, kernels, version of PyTorch, processor."""
        return _way(self.first) == _way(self.again)

    @property
    def same_weights(self) -> bool | None:
        """None if a hash is not on record, as of a diverged run."""
        first, again = (run.tags.get(names.WEIGHTS_SHA256) for run in (self.first, self.again))
        return None if first is None or again is None else first == again

    @property
    def apart(self) -> float:
        """By how many points the test errors differ; NaN if one is not on record."""
        return abs(_error(self.again) - _error(self.first))


def repeats(runs: Iterable[RunData]) -> list[Repeat]:
    """Returns each result after the first of every fingerprint, in the order of study and name."""
    found = [Repeat(group.counts, again) for group in group_runs(runs).values() for again in group.results[1:]]
    return sorted(found, key=lambda repeat: _name(repeat.first))


def repeats_text(found: Sequence[Repeat]) -> str:
    """Returns a table with a row per repeat, and what it shows."""
    return "\n".join([columns(HEADERS, [_row(repeat) for repeat in found], right=(2, 4)), "", *_summary(found)])


def _row(repeat: Repeat) -> tuple[str, ...]:
    first, again = repeat.first, repeat.again
    weights = {True: "equal", False: "differ", None: "-"}[repeat.same_weights]
    way = "the same" if repeat.same_way else _changed(_way(first), _way(again))
    errors = ["-" if math.isnan(_error(run)) else f"{_error(run):.2f}" for run in (first, again)]
    return _name(first), first.day, errors[0], again.day, errors[1], way, weights


def _way(run: RunData) -> str:
    """The tag `ran.how`, with the processors of provenance.json, where alone early runs name them."""
    way = run.tags.get(names.HOW, "-")
    try:
        attempts = parse_object(run.artifact(names.PROVENANCE_JSON) or b"{}")["attempts"]
        processors = dict.fromkeys(names.part_of_way(attempt["machine"]["processor"]) for attempt in attempts)
    except (UnreadableError, LookupError, TypeError):
        return way
    return ", ".join([way, *(processor for processor in processors if processor not in re.split("[,;] ", way))])


def _changed(before: str, after: str) -> str:
    """The parts of two ways that differ: "cpu AVX2 -> cpu AVX512"."""
    old, new = before.split(", "), after.split(", ")
    gone, come = [part for part in old if part not in new], [part for part in new if part not in old]
    return f"{', '.join(gone) or 'less'} -> {', '.join(come) or 'less'}"


def _summary(found: Sequence[Repeat]) -> Iterator[str]:
    """A line for each profile and way, because an error of other data or of shorter training moves otherwise."""
    profiles = sorted({repeat.first.tags.get(names.PROFILE, "") for repeat in found})
    for profile, same_way in itertools.product(profiles, (True, False)):
        alike = [r for r in found if r.first.tags.get(names.PROFILE, "") == profile and r.same_way == same_way]
        if not alike:
            continue
        equal = sum(repeat.apart == 0 and repeat.same_weights is True for repeat in alike)
        said = f"{profile} in the same way" if same_way else f"{profile} in another way"
        apart = [repeat.apart for repeat in alike if not math.isnan(repeat.apart)]
        how_far = f", {statistics.fmean(apart):.2f} points apart on average, {max(apart):.2f} at most" if apart else ""
        yield f"{said}: {len(alike)} again, {equal} equal in error and weights{how_far}"


def _name(run: RunData) -> str:
    found = (run.tags.get(names.STUDY), run.tags.get(names.PROFILE), names.without_result(run.name))
    return " ".join(filter(None, found))


def _error(run: RunData) -> float:
    return run.metrics.get(names.FINAL_TEST_ERR, float("nan"))
