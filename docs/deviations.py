"""Writes docs/deviations.md from the comments "# Deviation:" in the code.

python docs/deviations.py
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "deviations.md"
HEAD = """# Deviations from the paper, and choices that it leaves open

Each one is a comment at the place in the code. `python docs/deviations.py` makes this list from the comments.
"""


def deviations(folder: Path = ROOT) -> list[tuple[str, str]]:
    """Returns (file, text) of each mark, in the order of files and lines."""
    found = []
    for path in sorted([*(folder / "ran").rglob("*.py"), *(folder / "experiments").rglob("*.py")]):
        for comment in re.findall(r"# Deviation: ((?:.*\n\s*# (?!Deviation))*.*)", path.read_text()):
            text = re.sub(r"\s*\n\s*# ", " ", comment)
            found.append((path.relative_to(folder).as_posix(), text[0].upper() + text[1:]))
    return found


def document() -> str:
    """Returns the whole document."""
    files = dict.fromkeys(file for file, _ in deviations())
    parts = [HEAD]
    for file in files:
        texts = [f"- {text}" for of, text in deviations() if of == file]
        parts.append("\n".join([f"## [{file}](../{file})", "", *texts, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
