"""Confirms a search: compares its best trial with its base, as a study at seeds that the search did not use."""

from collections.abc import Sequence

from experiments.cli import parse_seeds
from experiments.search import record as recording
from experiments.search.prepare import PreparedSearch
from experiments.search_spec import SearchError
from experiments.study import Comparison, Study, axis
from records.search_json import TrialRecord

SEEDS = 5
"""number of seeds; a paired interval over three is wide"""


def confirming_study(prepared: PreparedSearch, number: int | None, seeds: str | None) -> Study:
    """Returns the study of a trial (None = the best) and the base, at fresh seeds or those given.

    Its name and its cell name the trial, so that those of a later, better one never mix with it. Raises SearchError
    if there is no such trial, and for seeds that the search used.
    """
    search = prepared.search
    entry = _trial(prepared, number)
    n, fields = entry.number, dict(entry.settings)
    settings = {name: dict(values) for name, values in search.settings.items()}
    if prepared.held_out:  # trained on the same images as in the search
        settings.setdefault(prepared.profile.name, {})["data.val_images"] = prepared.held_out
    cell = f"trial{n}"
    return Study(
        name=f"{search.name}_trial{n}",
        title=f"{search.title}: trial {n} of the search against its base",
        axes=(
            axis(
                "config", {"base": {}, cell: fields}, header="configuration",
                label={"base": "base", cell: f"trial {n}"}.__getitem__,
                short={"base": "base", cell: f"t{n}"}.__getitem__,
            ),
        ),
        base=search.base,
        seeds=_fresh(prepared.seeds, seeds),
        compare=Comparison(axis="config", baseline="base"),
        profile=search.profile,
        dataset=search.dataset,
        requires=search.requires,
        settings=settings,
        doc=f"Trial {n} of the search {search.name} against the base that the search varies.\n\n{search.doc}",
        launch=(*prepared.confirm_words, "--trial", str(n)),
    )  # fmt: skip


def _trial(prepared: PreparedSearch, number: int | None) -> TrialRecord:
    """Returns the trial of this number; None = the best."""
    if prepared.study is None:
        raise SearchError(
            f"the storage {prepared.storage} has no search {prepared.name!r}: `{prepared.command} --trials 40` first"
        )
    trials = recording.trial_records(prepared.study, prepared.seeds)
    found = recording.best(trials)
    if not found:
        raise SearchError(f"no trial of {prepared.name!r} has a validation error yet")
    if number is None:
        return found[0]
    for trial in found:
        if trial.number == number:
            return trial
    if 0 <= number < len(trials):
        state = trials[number].outcome or trials[number].state
        raise SearchError(f"--trial {number}: that trial has no validation error, it is {state}")
    raise SearchError(f"--trial {number}: the search has trials 0 to {len(trials) - 1}")


def _fresh(used: Sequence[int], given: str | None) -> tuple[int, ...]:
    if given is None:
        return tuple(range(max(used) + 1, max(used) + 1 + SEEDS))
    seeds = parse_seeds(given)
    if both := sorted(set(seeds) & set(used)):
        raise SearchError(
            f"--seeds: the search chose by seed {', '.join(map(str, both))}, which therefore confirms nothing; "
            f"name others, as {max(used) + 1},{max(used) + 2}"
        )
    return seeds
