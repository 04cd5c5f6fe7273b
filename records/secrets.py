"""Passwords, keys and tokens, which no message and no record may show; folders, which no public record needs.

Own patterns instead of a detector such as detect-secrets: one finds lines to look at, with names and hashes among them,
and not the parts to hide; and it knows neither URIs nor headers. Every pattern here takes time in proportion to the
text: none can begin within what it has read in vain, or read further than a fixed number of characters then.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

MASK = "***"
LONGEST_WORD = 300
"""characters of a word in a message; the rest of a longer one is left out"""

_PEM = r"-----{} [A-Z ]{{0,30}}PRIVATE KEY-----"
_PRIVATE_KEY = re.compile(rf"{_PEM.format('BEGIN')}.*?(?:{_PEM.format('END')}|\Z)", re.DOTALL)
_AUTHORITY = re.compile(r"://((?:(?!://)[^\s\"<>])+)")
# What is called a secret, however the word goes on before it: DB_PASS, client-secret, X-Api-Key, dbPassword.
_NAME = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|(?:(?<=[_-])|(?<![A-Za-z]))pass(?=[\"'\]\\]{0,4}=|[\"'\\])|(?<=[_-])pass|"
    r"secret(?:[_-]?(?:access)?[_-]?key)?|token|(?:api|access|private|account|shared)[_-]?key|credentials?|"
    r"(?<![A-Za-z0-9])_?auth(?==)|authorization|(?<![A-Za-z0-9])sig(?:nature)?(?==))"
)
# "=" or ":", with a quote, bracket or type before: "token": x, environ["TOKEN"] = x, token: str = x; or "--token x".
_SIGN = (
    r"\\?[\"']?\]?(?:\s{0,8}(?::\s{0,4}[A-Za-z_][\w.\[\]|]{0,40}\s{0,4}=(?!=)|:=|=>|==?|:)\s{0,8}|"
    r"(?P<space>[ \t]{1,8}))"
)
# In quotes, quotes within a JSON text among them; after the scheme of a header; else up to a space.
_VALUE = (
    r"(?P<value>\\\"[^\"\\\n]*|[rbfu]{0,2}\"(?:[^\"\\\n]|\\.)*|[rbfu]{0,2}'(?:[^'\\\n]|\\.)*|"
    r"(?:Bearer|Basic|Token)\s+[^\s\"'\\]+|[^\s\"'\\](?:[^\s\"\\]|\\(?![nrt\"]))*)"
)
_ASSIGNED = re.compile(rf"(?P<name>{_NAME})(?P<sign>{_SIGN}){_VALUE}", re.I)
# Python that computes the value: `token = tokenizer.next()`, `password = None`.
_CODE = re.compile(r"(?:[A-Za-z_][\w.]{0,80}[(\[]|(?:None|True|False|null|true|false)[,;)]?$|\$[{(\w])")
_OPTION = re.compile(r"(?<!\S)--[\w-]*\Z")
_SCHEME = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.I)
# Tokens that say themselves what they are: GitHub, GitLab, Hugging Face, OpenAI, Slack, Stripe, Amazon, Google, npm,
# PyPI, DigitalOcean, SendGrid, and JSON Web Tokens.
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[oprsu]_|github_pat_|gl(?:pat|dt|rt|ft|soat|ptt)-|hf_|sk-|[rs]k_(?:live|test)_|xox[abeoprs]-|"
    r"xapp-|npm_|pypi-Ag|dop_v1_|SG\.|eyJ)[\w.-]{12,}|(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{12,}|AIza[\w-]{20,}|ya29\.[\w-]{12,})"
)


def mask_secrets(text: str) -> str:
    """Returns `text` with *** for the passwords of URIs, and for keys and tokens as they usually look."""
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _AUTHORITY.sub(_without_password, text)
    text = _without_values(text)
    text = _SCHEME.sub(rf"\1 {MASK}", text)
    return _TOKENS.sub(MASK, text)


def _without_password(match: re.Match[str]) -> str:
    """Returns what follows the scheme of a URI without what its user has to keep secret."""
    rest = match[1]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    end = authority.rfind("@")
    if end < 0:
        user, colon, port = authority.partition(":")
        # A password with a slash in it: what would be the port is none, and the host comes later.
        end = rest.rfind("@") if user and colon and not port.isdecimal() else -1
    if end < 0:
        return match[0]
    user, colon, _ = rest[:end].partition(":")
    in_browser = match.string[max(0, match.start() - 5) : match.start()].lower().endswith(("http", "https"))
    if in_browser and (not colon or len(user) >= 16):  # the user's name itself is a token
        user = MASK
    return f"://{user}{f':{MASK}' if colon else ''}{rest[end:]}"


def _without_values(text: str) -> str:
    """Returns a text without what it assigns to the names of secrets."""
    parts, begin, at = [], 0, 0
    while (match := _ASSIGNED.search(text, at)) is not None:
        if match["space"] is not None and not _OPTION.search(text, max(0, match.start() - 40), match.start()):
            at = match.end("sign")  # "a token of" is prose, "--token x" is not; what follows may be an assignment
            continue
        parts += [text[begin : match.start()], _without_value(match)]
        begin = at = match.end()
    return "".join([*parts, text[begin:]])


def _without_value(match: re.Match[str]) -> str:
    value, name, sign = match["value"], match["name"], match["sign"]
    if value.startswith(MASK) or (sign.endswith(" ") and "=" in sign and _CODE.match(value)):
        return match[0]
    quote = re.match(r"\\\"|[rbfu]{0,2}[\"']", value, re.I)
    return f"{name}{sign}{quote[0] if quote else ''}{MASK}"


def mask_values(content: Any) -> Any:
    """Returns what json.loads returned with its texts masked, and with *** for texts under the name of a secret."""
    if isinstance(content, str):
        return mask_secrets(content)
    if isinstance(content, Mapping):
        return {key: _masked(str(key), value) for key, value in content.items()}
    return [mask_values(value) for value in content] if isinstance(content, (list, tuple)) else content


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, str) and value and mask_secrets(f"{key}='x'") != f"{key}='x'":
        return MASK
    return mask_values(value)


def shorten(text: str) -> str:
    """Returns a message without the rest of words that are too long to be read."""
    return re.sub(rf"(\S{{{LONGEST_WORD}}})\S+", lambda match: f"{match[1]}… ({len(match[0]):,} characters)", text)


class MaskedStream:
    """A text stream whose output is masked: everything that a command prints to stderr passes it, whoever wrote it."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(mask_secrets(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def mask_stderr() -> None:
    """Masks what this process writes to stderr from now on: messages, warnings, logs of libraries and tracebacks."""
    if not isinstance(sys.stderr, MaskedStream):
        sys.stderr = MaskedStream(sys.stderr)


# Not within a word, a relative path or the host of a URI.
_FOLDERS = re.compile(r"""(?:(?<=sqlite:///)|(?<=file://)|(?<![\w.:/~*]))/(?:[^\s/"']+/)+""")


def hide_folders(text: str) -> str:
    """Returns `text` with … for the folders of absolute paths, which name users and machines: "…/data"."""
    return _FOLDERS.sub("…/", text)
