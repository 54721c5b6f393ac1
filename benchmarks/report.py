"""Tables and JSON lines: the parts of a benchmark's answer that need no clock."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .machine import slug

RESULTS = Path(__file__).parent / "results"


def ratio(ours: float | None, peer: float | None) -> float | None:
    """`ours / peer`, or None where one is missing or the peer's is zero."""
    return ours / peer if ours is not None and peer else None


def finite(value: Any) -> Any:
    """The same nested value, floats to six digits, and None for NaN and infinities."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def json_line(result: dict[str, Any]) -> str:
    """One line of strict JSON."""
    return json.dumps(finite(result), allow_nan=False)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Right-aligned columns, the first one left-aligned; None prints as a dash."""
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
    """Write the result into the repository's collection, one file a benchmark and machine."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{result['benchmark']}-{slug(result['machine'])}.json"
    path.write_text(json.dumps(finite(result), allow_nan=False, indent=1) + "\n")
    return path
