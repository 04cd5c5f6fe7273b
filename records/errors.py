"""The error that is the user's to mend, and what no message may show."""

import re


class UserError(ValueError):
    """Input that cannot be used. The message is one line that says what to do; commands print it and exit with 2."""

    def __init__(self, message: str):
        super().__init__(mask_secrets(message))


class DataError(UserError):
    """A data set that is absent, damaged or too small; the message is one line and says what to do."""


def one_line(error: BaseException) -> str:
    """Returns "KeyError: 'x'": the type of an exception of somebody else's code, and the first line of its message."""
    message = mask_secrets(str(error)).strip()
    return f"{type(error).__name__}: {message.splitlines()[0]}" if message else type(error).__name__


_SECRETS = (
    # scheme://user:password@host
    (re.compile(r"(://[^:/@\s]*):[^/\s]*@"), r"\1:***@"),
    # password=..., "api_key": "...", as in queries, environments and configuration files
    (
        re.compile(
            r"""\b([\w-]*(?:password|passwd|pwd|secret|token|api_?key|access_?key)["']?\s*[=:]\s*["']?)[^\s"'&,;]+""",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}"), r"\1 ***"),
    # The tokens of GitHub, Hugging Face, OpenAI, Slack and Amazon.
    (re.compile(r"\b(?:gh[opsu]_|github_pat_|hf_|sk-|xox[abp]-|AKIA)[\w-]{12,}"), "***"),
)


def mask_secrets(text: str) -> str:
    """Returns `text` with *** for the passwords of URIs, and for keys and tokens as they usually look."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
