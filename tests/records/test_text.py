"""What a terminal is shown."""

import pytest

from records.text import columns, plain, printable, short


@pytest.mark.parametrize(("text", "shown"), [
    ("a b ± é", "a b ± é"), ("a\nb\tc", "a b c"), ("\x1b[2J", "\\x1b[2J"), ("\u202eb", "\\u202eb"), ("\0", "\\x00"),
    ("no\u00a0break", "no\u00a0break"), ("\u2028", "\\u2028"),
])  # fmt: skip
def test_what_controls_a_terminal_is_visible(text, shown):
    assert plain(text) == shown
    assert columns(("a",), [(text,)]).splitlines()[-1] == shown


def test_a_path_keeps_its_line_breaks_visible():
    assert printable("a\n\x1b/b\udcff é") == "a\\x0a\\x1b/b\\xff é"


def test_a_long_value_is_shortened():
    assert len(short("x" * 10_000)) < 100
    assert len(short(list(range(10_000)))) < 100
    assert short(10**5_000) == "an integer that is too large"
