"""Plain tables for terminals."""

from collections.abc import Collection, Sequence


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Returns lines of aligned columns under their heads; those numbered in `right` to the right."""
    table = [heads, *rows]
    wide = [max(len(row[i]) for row in table) for i in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        cells = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, wide, strict=True)))
        return "  ".join(cells).rstrip()

    return "\n".join([line(heads), "  ".join("-" * w for w in wide), *(line(row) for row in rows)])
