"""Tables of text."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], texts: int) -> str:
    """Align the columns of a table. The first `texts` columns are text, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        padded = (x.ljust(w) if i < texts else x.rjust(w) for i, (x, w) in enumerate(cells))
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
