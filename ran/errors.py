"""The error that is the user's to mend."""


class UserError(ValueError):
    """Input that cannot be used. The message is one line that says what to do; commands print it and exit with 2."""


def one_line(error: BaseException) -> str:
    """Returns "KeyError: 'x'": the type of an exception of somebody else's code, and the first line of its message."""
    message = str(error).strip()
    return f"{type(error).__name__}: {message.splitlines()[0]}" if message else type(error).__name__
