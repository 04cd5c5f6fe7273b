"""What a data set that cannot be used must say."""

import pytest

from ran.data.datasets import load_splits
from records.errors import DataError


def refuse(config, *words):
    """Asserts that loading fails with one line that holds `words`."""
    with pytest.raises(DataError) as caught:
        load_splits(config, 0)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
