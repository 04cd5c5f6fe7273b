"""search.json: what is written and read. What is refused: tests/analysis/figures/test_search_figures.py."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from records.search_json import CATEGORICAL, FLOAT, INT, ParameterRecord, SearchRecord, TrialRecord

numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.sampled_from(("optim.lr", "model.p", "train.batch_size"))
settings = st.none() | st.text(max_size=3) | st.integers() | numbers | st.booleans()
parameters = st.builds(
    ParameterRecord, kind=st.just(CATEGORICAL), choices=st.lists(settings, min_size=1).map(tuple)
) | st.builds(
    ParameterRecord,
    kind=st.sampled_from((INT, FLOAT)),
    low=st.integers() | numbers,
    high=st.integers() | numbers,
    log=st.booleans(),
    step=st.none() | st.integers(),
)


def mappings(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names, values, max_size=3)


trials = st.builds(
    TrialRecord,
    params=mappings(settings),
    settings=mappings(settings),
    values=st.none() | st.tuples(numbers),
    errors=st.tuples(numbers),
    macs=st.none() | st.integers(),
    intermediate=st.dictionaries(st.integers(0, 9), numbers),
    seconds=st.none() | numbers,
)
searches = st.builds(
    SearchRecord,
    overrides=mappings(settings),
    space=mappings(parameters),
    derived=mappings(st.text()),
    base=mappings(settings),
    base_macs=st.none() | st.integers(),
    base_error=st.none() | numbers,
    val_images=st.none() | st.integers(),
    trials=st.lists(trials, max_size=2).map(tuple),
    importances=st.dictionaries(st.sampled_from(("error", "macs")), mappings(numbers)),
)


@given(searches)
def test_a_record_comes_back_as_it_was_written(search: SearchRecord) -> None:
    assert SearchRecord.from_json(json.loads(json.dumps(search.to_json()))) == search
