"""The schema version of fingerprints: runs of different versions are never tabled together."""

from collections.abc import Mapping

from records import names

FIRST = 1  # of runs without the tag
CURRENT = 2


def schema_of(tags: Mapping[str, str]) -> int:
    """Returns the schema version in the tags of a run or parent: FIRST without the tag, 0 if it is not a number."""
    text = tags.get(names.SCHEMA, str(FIRST))
    return int(text) if text.isdecimal() and len(text) < 10 else 0
