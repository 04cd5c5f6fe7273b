"""Passwords, keys and tokens, which no message and no record may show; folders, which no public record needs."""

import re

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


# Not within a word, a relative path or the host of a URI.
_FOLDERS = re.compile(r"""(?:(?<=sqlite:///)|(?<=file://)|(?<![\w.:/~*]))/(?:[^\s/"']+/)+""")


def hide_folders(text: str) -> str:
    """Returns `text` with … for the folders of absolute paths, which name users and machines: "…/data"."""
    return _FOLDERS.sub("…/", text)
