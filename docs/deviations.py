"""Writes docs/deviations.md from the comments "# Deviation:" in the code.

python docs/deviations.py
"""

from pathlib import Path

from analysis.read.deviations import deviations

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "deviations.md"
HEAD = """# Deviations from the paper, and choices that it leaves open

Each one is a comment at the place in the code. `python docs/deviations.py` makes this list from the comments.
"""


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
