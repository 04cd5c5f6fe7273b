"""Which of several runs of one fingerprint a launch takes."""

import pytest

from experiments.tracking.records import StoredRun, by_fingerprint
from records import names


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((names.FINISHED, names.FINISHED), 0),
        ((names.DIVERGED, names.FINISHED, None), 0),
        ((names.KILLED, names.FINISHED, names.DIVERGED), 1),
        ((names.KILLED, None, names.FAILED), 2),
    ],
)
def test_the_first_result_else_the_newest_attempt(outcomes: tuple[str | None, ...], expected: int) -> None:
    runs = [StoredRun(run_id=str(i), fingerprint="f", outcome=outcome) for i, outcome in enumerate(outcomes)]
    other = StoredRun(run_id="other", fingerprint="g", outcome=None)
    assert by_fingerprint([*runs, other]) == {"f": runs[expected], "g": other}
