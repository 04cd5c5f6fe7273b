"""The uncommitted changes of a git working tree as a patch that `git apply` accepts."""

from pathlib import Path

from records.git import run_git
from records.secrets import mask_secrets

DIFF_BYTES = 1_000_000
"""size that the patch of a run may have"""

# The form of a patch that `git apply` reads, whatever the user's configuration of `git diff` says.
_PATCH = (
    *("-c", "core.quotePath=true", "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--submodule=short", "HEAD"),
)


def patch(folder: Path) -> bytes:
    """Returns the changes of tracked files below `folder` against HEAD, b"" if there are none.

    Ignored and binary files are left out, as are files beyond DIFF_BYTES; passwords and tokens are masked. Lines at the
    top, which `git apply` skips, name what is left out.
    """
    ignored = _names(run_git(folder, "ls-files", "-z", "--cached", "--ignored", "--exclude-standard", "--full-name"))
    found = run_git(folder, "diff", "--numstat", "-z", "--no-renames", "HEAD", "--", ".", *_without(ignored)) or b""
    binary = [entry.split("\t", 2)[2] for entry in _names(found) if entry.startswith("-\t-\t")]
    changes = run_git(folder, *_PATCH, "--", ".", *_without([*ignored, *binary])) or b""
    notes = [f"left out, because it is binary: {name}" for name in binary]
    kept: list[bytes] = []
    size = 0
    for file in _by_file(changes):
        masked, applies = _masked(file)
        heading = file.partition(b"\n")[0].decode(errors="replace")
        if size + len(masked) > DIFF_BYTES:
            notes.append(f"left out, because the patch would be too large: {heading}")
            continue
        if not applies:
            notes.append(f"does not apply, because a secret of the commit is masked: {heading}")
        kept.append(masked)
        size += len(masked)
    return "".join(f"# {note}\n" for note in notes).encode(errors="surrogateescape") + b"".join(kept)


def _names(output: bytes | None) -> list[str]:
    return [name.decode(errors="surrogateescape") for name in (output or b"").split(b"\0") if name]


def _without(names: list[str]) -> list[str]:
    return [f":(exclude,top,literal){name}" for name in names]


def _by_file(changes: bytes) -> list[bytes]:
    """The parts of a patch, one per file. A line of content begins with a space, "+", "-" or a backslash."""
    first, *others = changes.split(b"\ndiff --git ")
    parts = [first, *(b"diff --git " + other for other in others)]
    return [part + b"\n" for part in parts[:-1]] + [parts[-1]] if changes else []


def _masked(file: bytes) -> tuple[bytes, bool]:
    """A file's patch without secrets, and whether it still applies: those of added lines do not matter for that."""
    applies = True
    lines = []
    for line in file.split(b"\n"):
        text = line.decode(errors="surrogateescape")
        masked = text[:1] + mask_secrets(text[1:])
        if masked != text and not (text.startswith("+") and not text.startswith("+++ ")):
            applies = False
        lines.append(masked.encode(errors="surrogateescape"))
    return b"\n".join(lines), applies
