"""Progress messages, tables and JSON."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .machine import slug

RESULTS = Path(__file__).resolve().parents[1] / "results"


def log(text: str) -> None:
    """Print progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def ratio(ours: float | None, peer: float | None) -> float | None:
    """Return `ours / peer`, or None if one is missing or the peer's value is zero."""
    return ours / peer if ours is not None and peer else None


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format right-aligned columns, the first one left-aligned; None is printed as a dash."""
    cells = [list(header)] + [[_cell(value) for value in row] for row in rows]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    lines = []
    for name, *values in cells:
        padded = [value.rjust(width) for value, width in zip(values, others, strict=True)]
        lines.append("  ".join([name.ljust(first), *padded]).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "-" if value is None else str(value)


def comparison(
    result: Mapping[str, Any],
    labels: Mapping[str, str],
    ours: str = "eventsnn",
    others: Mapping[str, str] | None = None,
) -> str:
    """Format the figures `<library>_<key>` as a table with one column per library.

    `labels` holds the row titles by key; `others` holds the titles of the columns after the ratio.
    """
    others, rows = others or {}, []
    for key, label in labels.items():
        pair = result.get(f"ours_{key}"), result.get(f"peer_{key}")
        rows.append((label, *pair, ratio(*pair), *(result.get(f"{name}_{key}") for name in others)))
    header = ("", ours, result["peer"] or "no peer", "ratio", *others.values())
    return table(header, rows)


def finite(value: Any) -> Any:
    """Round floats to six digits and replace NaN and infinities by None, in nested values."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def as_json(result: dict[str, Any], indent: int | None = None) -> str:
    """Format as strict JSON, by default on one line."""
    return json.dumps(finite(result), allow_nan=False, indent=indent) + "\n"


def save(result: dict[str, Any]) -> Path:
    """Save the result in the repository's collection, one file per benchmark and machine."""
    path = RESULTS / f"{result['benchmark']}-{slug(result['machine'])}.json"
    path.write_text(as_json(result, indent=1))
    return path
