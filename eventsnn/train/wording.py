"""Names and numbers as text, for the messages of a diagnosis."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

# Maximum number of names, and of groups of outputs, in one line.
_SHOWN = 6


def listed(words: Iterable[str], last: str = "and") -> str:
    """Format words as `a, b and c`. A long list ends with the number of omitted words."""
    words = list(words)
    if len(words) > _SHOWN + 1:
        words = [*words[:_SHOWN], f"{len(words) - _SHOWN} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def outputs_named(names: Iterable[Any]) -> str:
    """Format outputs as `output 1`, or `outputs 0 and 2`."""
    words = [str(name) for name in names]
    return f"output {words[0]}" if len(words) == 1 else f"outputs {listed(words)}"


def grouped(shares: np.ndarray, what: str) -> list[str]:
    """Format shares as `outputs 0 and 2 are silent in 37 % of the samples of the batch`.

    The largest share comes first.
    """
    groups: dict[str, list[str]] = {}
    for i in np.argsort(-shares, kind="stable"):
        if shares[i] > 0:
            groups.setdefault(percent(float(shares[i])), []).append(str(i))
    if not groups:
        return []
    found = []
    for share, names in list(groups.items())[:_SHOWN]:
        verb = "" if found else f" {'is' if len(names) == 1 else 'are'} {what}"
        found.append(f"{outputs_named(names)}{verb} in {share}")
    found += ["others in fewer"] if len(groups) > _SHOWN else []
    return [f"{listed(found)} of the samples of the batch"]


def percent(share: float) -> str:
    """Format a fraction in per cent: `37 %`."""
    return f"{100 * share:.3g} %"


def paths_of(tree: PyTree, condition: Callable[[Any], Any]) -> list[str]:
    """Paths, such as `layers[0].weight`, of the floating-point arrays that satisfy `condition`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [path_name(path) for path, x in leaves if is_floating(x) and condition(np.asarray(x))]


def path_name(path: Any) -> str:
    """Format a path in a pytree in Python syntax, without leading dot: `layers[0].weight`."""
    return jax.tree_util.keystr(path).removeprefix(".")


def is_floating(x: Any) -> bool:
    """Return whether a leaf of a pytree is a floating-point array."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
