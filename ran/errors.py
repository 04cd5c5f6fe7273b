"""The error that is the user's to mend."""


class UserError(ValueError):
    """Input that cannot be used. The message is one line that says what to do; commands print it and exit with 2."""
