"""What values of a record may be: whatever is read from a store or an archive is data that somebody else can have made.

Each function returns its value, or raises OutOfRangeError with one line that names the field and not the value.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_NAME, LONGEST_LABEL, LONGEST_TITLE, LONGEST_TEXT = 100, 200, 1_000, 20_000
"""characters of the name of a study, of a label or header in a table, of a title, and of any other text"""
LAST_MS = 4_102_444_800_000
"""the year 2100, in ms since 1970"""
MOST_ENTRIES = 1_000_000
"""entries of a list: far more than the runs of a study or the points of a curve"""
GREATEST = 1e39
"""greatest amount of a number, above all float32"""
GREATEST_INT = 2**63 - 1


class OutOfRangeError(ValueError):
    """A value that no run of ours has."""


def name(value: str, what: str) -> str:
    """A name that stands in names of files: letters, digits, '_', '-', '.', and none of the last three at first."""
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST_NAME - 1}}}", value):
        raise OutOfRangeError(f"{what} is not a name of letters, digits, '_', '-' and '.'")
    return value


def digits(value: str, what: str) -> str:
    """A hash in hex, or its first digits."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,64}", value):
        raise OutOfRangeError(f"{what} is not of up to 64 hex digits")
    return value


def line(value: str, what: str, most: int = LONGEST_LABEL) -> str:
    """A text of one line that controls neither a terminal nor the direction of its letters."""
    if len(value) > most:
        raise OutOfRangeError(f"{what} has {len(value):,} characters, more than {most:,}")
    if not is_plain(value):
        raise OutOfRangeError(f"{what} holds a control character")
    return value


def is_plain(value: str) -> bool:
    """Whether a text has no control characters, line breaks, marks of direction or halves of characters."""
    return value.isprintable() or not any(unicodedata.category(c) in HIDDEN for c in value)


HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""categories of characters that are not shown as they are"""


def text(value: str, what: str, most: int = LONGEST_TEXT) -> str:
    """A text of several lines, as a note or the reason of a failure; what it holds is escaped where it is shown."""
    if len(value) > most:
        raise OutOfRangeError(f"{what} has {len(value):,} characters, more than {most:,}")
    if value.isdecimal() and len(value) > 19:  # it would be read as a number
        raise OutOfRangeError(f"{what} is a number of {len(value):,} digits")
    return value


def integer(value: Any, what: str, low: int = 0, high: int = GREATEST_INT) -> int:
    """An integer in a range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise OutOfRangeError(f"{what} is no integer")
    if not low <= value <= high:
        raise OutOfRangeError(f"{what} is out of range")
    return value


def milliseconds(value: Any, what: str) -> int:
    """A time in ms since 1970, before 2100."""
    return integer(value, what, 0, LAST_MS)


def number(value: Any, what: str, greatest: float = GREATEST) -> float:
    """A number that is not too large, NaN for None. Raises TypeError for another type."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what}: could not convert {type(value).__name__} to a number")
    if value == value and not -greatest <= value <= greatest:  # compared as it is: NaN passes, and integers of any size
        raise OutOfRangeError(f"{what} is out of range")
    return float(value)


def entries(values: Iterable[Any], what: str, most: int = MOST_ENTRIES) -> None:
    """Raises OutOfRangeError for a list or object of too many entries."""
    if isinstance(values, (list, tuple, Mapping)) and len(values) > most:
        raise OutOfRangeError(f"{what} has {len(values):,} entries, more than {most:,}")


def tree(content: Any, what: str, most: int = MOST_ENTRIES) -> Any:
    """Any JSON content whose numbers and texts are sane, with at most `most` values in all."""
    left, count = [content], 0
    while left:
        value = left.pop()
        count += 1
        if count > most:
            raise OutOfRangeError(f"{what} has more than {most:,} values")
        if isinstance(value, Mapping):
            for key in value:
                line(str(key), f"a name in {what}", LONGEST_TITLE)
            left += value.values()
        elif isinstance(value, (list, tuple)):
            left += value
        elif isinstance(value, str):
            text(value, f"a text in {what}", MOST_ENTRIES)
        elif value is not None and not isinstance(value, bool):
            number(value, f"a number in {what}")
    return content
