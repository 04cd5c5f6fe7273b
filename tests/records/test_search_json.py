"""search.json: what is written and read. What is refused: tests/analysis/figures/test_search_figures.py."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from records.search_json import CATEGORICAL, FLOAT, INT, ParameterRecord, SearchRecord, TrialRecord

numbers = st.floats(-1e30, 1e30)
integers, counts = st.integers(-(10**30), 10**30), st.integers(0, 2**63 - 1)
texts = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20)
named = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
hashes = st.lists(st.from_regex("[0-9a-f]{1,64}", fullmatch=True), max_size=2).map(tuple)
seeds = st.lists(counts, max_size=2).map(tuple)
names = st.sampled_from(("optim.lr", "model.p", "train.batch_size"))
settings = st.none() | texts | integers | numbers | st.booleans()
parameters = st.builds(
    ParameterRecord, kind=st.just(CATEGORICAL), choices=st.lists(settings, min_size=1).map(tuple)
) | st.builds(
    ParameterRecord,
    kind=st.sampled_from((INT, FLOAT)),
    low=st.integers(0, 100) | st.floats(0, 100),
    high=st.integers(0, 100) | st.floats(0, 100),
    log=st.booleans(),
    step=st.none() | integers,
)


def mappings(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names, values, max_size=3)


trials = st.builds(
    TrialRecord,
    number=counts,
    state=texts,
    outcome=st.none() | texts,
    fingerprints=hashes,
    seeds=seeds,
    reason=texts,
    retry_of=st.none() | counts,
    params=mappings(settings),
    settings=mappings(settings),
    values=st.none() | st.tuples(numbers),
    errors=st.tuples(numbers),
    macs=st.none() | integers,
    intermediate=st.dictionaries(st.integers(0, 9), numbers),
    seconds=st.none() | numbers,
)
searches = st.builds(
    SearchRecord,
    name=named,
    title=texts,
    profile=named,
    dataset=named,
    objectives=st.lists(texts, max_size=2).map(tuple),
    seeds=seeds,
    pruner=texts,
    evaluations=counts,
    total=counts,
    command=texts,
    confirm=texts,
    derived_fields=st.lists(texts, max_size=2).map(tuple),
    best=st.none() | counts,
    front=seeds,
    overrides=mappings(settings),
    space=mappings(parameters),
    derived=mappings(texts),
    base=mappings(settings),
    base_macs=st.none() | integers,
    base_error=st.none() | numbers,
    val_images=st.none() | st.integers(0, 1_000_000),
    trials=st.lists(trials, max_size=2).map(tuple),
    importances=st.dictionaries(st.sampled_from(("error", "macs")), mappings(numbers)),
)


@given(searches)
def test_a_record_comes_back_as_it_was_written(search: SearchRecord) -> None:
    assert SearchRecord.from_json(json.loads(json.dumps(search.to_json()))) == search
