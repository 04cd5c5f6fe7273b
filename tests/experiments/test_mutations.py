"""The mutations can be made: what they take out is there, once. `mutations.py` makes them."""

from mutations import MUTATIONS, ROOT


def test_each_can_be_made():
    for mutation in MUTATIONS:
        assert (ROOT / mutation.file).read_text().count(mutation.old) == 1, mutation.mechanism
        assert (ROOT / mutation.tests.partition(" ")[0]).exists(), mutation.mechanism
