"""Errors that a user can mend: one line that says what to do."""

from records.secrets import mask_secrets, shorten
from records.text import plain


def shown(message: str) -> str:
    """Returns a message without secrets, without words of thousands of letters, and in lines that are only text."""
    return "\n".join(map(plain, shorten(mask_secrets(message)).split("\n")))


class UserError(ValueError):
    """Input that cannot be used. The message is one line that says what to do; commands print it and exit with 2."""

    def __init__(self, message: str):
        super().__init__(shown(message))


class DataError(UserError):
    """A data set that is absent, damaged or too small; the message is one line and says what to do."""


class TrackingError(UserError):
    """A tracking store that cannot be used, or a permanent error of one; the message is one line."""


def unusable(uri: str, reason: object) -> TrackingError:
    """Returns the error for a tracking store that cannot be opened."""
    return TrackingError(f"cannot use the tracking store {uri}: {reason}")


def one_line(error: BaseException) -> str:
    """Returns "KeyError: 'x'": the type of an exception and the first line of its message."""
    message = shown(str(error)).strip()
    return f"{type(error).__name__}: {message.splitlines()[0]}" if message else type(error).__name__


def first_line(reason: BaseException | str) -> str:
    """Returns the first line of an error or its text that is not empty, without passwords."""
    lines = (line.strip() for line in shown(str(reason)).splitlines())
    unknown = "no reason given" if isinstance(reason, str) else type(reason).__name__
    return next((line for line in lines if line), unknown)
