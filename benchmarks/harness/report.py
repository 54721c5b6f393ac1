"""Tables and JSON lines: the parts of a report that need no timing."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .machine import slug

RESULTS = Path(__file__).parents[1] / "results"


def ratio(ours: float | None, peer: float | None) -> float | None:
    """Return `ours / peer`, or None if one is missing or the peer's value is zero."""
    return ours / peer if ours is not None and peer else None


def finite(value: Any) -> Any:
    """Round floats to six digits and replace NaN and infinities by None, in nested values."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def json_line(result: dict[str, Any]) -> str:
    """Format as one line of strict JSON."""
    return json.dumps(finite(result), allow_nan=False)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format right-aligned columns, the first one left-aligned; None is printed as a dash."""
    cells = [list(header)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            c.rjust(w) if i else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1e4 else str(value)


def save(result: dict[str, Any], directory: Path = RESULTS) -> Path:
    """Save the result in the repository's collection, one file per benchmark and machine."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{result['benchmark']}-{slug(result['machine'])}.json"
    path.write_text(json.dumps(finite(result), allow_nan=False, indent=1) + "\n")
    return path
