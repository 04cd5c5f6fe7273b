"""The deviations from the paper, from the comments "# Deviation:" in the code of library, studies and claims."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ran", "experiments", "analysis/claims")


def deviations(root: Path = ROOT) -> list[tuple[str, str]]:
    """Returns (file, sentence) of each comment, in the order of files and lines."""
    found = []
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        for comment in re.findall(r"# Deviation: ((?:.*\n\s*# (?!Deviation))*.*)", path.read_text(encoding="utf-8")):
            text = re.sub(r"\s*\n\s*# ", " ", comment).strip()
            found.append((path.relative_to(root).as_posix(), text[0].upper() + text[1:]))
    return found
