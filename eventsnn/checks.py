"""Argument checks: one function per kind of argument, and a one-line message per error.

Every message reads "<name> must be <expected>, got <value>.", with the value shortened. Values can
be checked only if they are known. Under `jax.jit` and `jax.vmap` only shapes and dtypes are
checked, and invalid values lead to a status or NaN.
"""

import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, PyTree

#: Largest count, since all counters of the package have 32 bits.
LARGEST = 2**31 - 1

# ------------------------------------------------------------------ messages


def refuse(name: str, value: Any, bad: ArrayLike, expected: str) -> None:
    """Raise a `ValueError` if `bad` is known and true anywhere.

    `expected` begins with "must". The message shows the first bad element of a large array.
    """
    if known(bad) and np.any(bad):
        x = plain(value)
        small = np.size(bad) <= 8 or np.shape(x) != np.shape(bad)
        found = shown(x) if small else _element(x, np.asarray(bad))
        raise ValueError(f"{name} {expected}, got {found}.")


def wrong(name: str, value: Any, expected: str) -> ValueError:
    """Make the error "<name> must be <expected>, got <value>."."""
    return ValueError(f"{name} must be {expected}, got {shown(value)}.")


def shown(value: Any) -> str:
    """Format a value as one short line for an error message."""
    try:
        text = " ".join(_text(value).split())
    except Exception:  # an error in a user-defined repr, or an integer with too many digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 100 else f"{text[:70]}...{text[-20:]}"


def known(x: Any) -> bool:
    """Return whether the value is concrete, not traced by JAX."""
    return not isinstance(x, Tracer)


def _text(value: Any) -> str:
    if not isinstance(value, list | tuple | range | np.ndarray | np.generic | jax.Array):
        return repr(value)
    x = raw(value)
    if x is None or not (jnp.issubdtype(x.dtype, np.number) or x.dtype == bool):
        return repr(value)
    if not known(x):
        return f"a traced array of {x.dtype} and shape {x.shape}"
    if x.ndim == 0:
        return str(np.asarray(x)[()])
    if x.ndim == 1 and x.size <= 8:
        return f"[{', '.join(map(str, np.asarray(x)))}]"
    return np.array2string(np.asarray(x), threshold=8, separator=", ")


def _element(value: Any, bad: np.ndarray) -> str:
    """Format the first bad element and its index."""
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{np.asarray(value)[where]}" + (f" at index {where}" if where else "")


# ------------------------------------------------------------------ arrays


@runtime_checkable
class Wrapped(Protocol):
    """Protocol of wrapped parameters, such as those of `eventsnn.constraints`."""

    raw: Array

    def unwrap(self) -> Array: ...


def plain(value: Any) -> Any:
    """Return the value of a wrapped leaf, and anything else unchanged."""
    return value.unwrap() if isinstance(value, Wrapped) else value


def raw(value: Any) -> np.ndarray | Array | None:
    """Convert `value` to a NumPy array. JAX arrays are returned unchanged.

    None if `value` cannot be converted to an array.
    """
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.ma.MaskedArray | eqx.Module):
        return None
    try:
        x = np.asarray(value)
        return np.asarray(float(value)) if x.dtype == object and isinstance(value, int) else x
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        return jnp.asarray(value)  # a list of traced values
    except (TypeError, ValueError, OverflowError):
        return None


def numbers(
    name: str, value: Any, expected: str = "an array of real numbers", *, boolean: bool = False
) -> np.ndarray | Array:
    """Convert `value` to an array of integers or floating-point numbers.

    Booleans are accepted only with `boolean`.

    **Raises:** `ValueError` for anything else: strings, None, complex numbers, ragged lists.
    """
    x = raw(value)
    if x is None or not (is_floating(x) or is_integer(x) or (boolean and x.dtype == bool)):
        raise wrong(name, value, expected)
    return x


def floating(
    name: str, value: Any, expected: str = "an array of real numbers", *, boolean: bool = False
) -> Array:
    """Convert `value` as [`numbers`][] does, to floating point."""
    return as_floating(numbers(name, value, expected, boolean=boolean))


def as_floating(x: np.ndarray | Array) -> Array:
    """Convert an array to floating point, without the weak type of Python numbers."""
    out = jnp.asarray(x if is_floating(x) else x.astype(float))
    return jax.lax.convert_element_type(out, out.dtype)


def is_floating(x: np.ndarray | Array) -> bool:
    """Return whether an array holds floating-point numbers, of any precision."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def is_integer(x: np.ndarray | Array) -> bool:
    """Return whether an array holds integers."""
    return jnp.issubdtype(x.dtype, jnp.integer)


def broadcast(name: str, value: Any, shape: tuple[int, ...], other: str, dtype: Any) -> Array:
    """Convert `value` to a dtype. Raise unless it is finite and broadcasts to `shape`.

    `other` is the name of the array of that shape, for the error message.
    """
    x = numbers(name, value, "a real number or an array of real numbers")
    try:
        good = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            f"{name} must be a number or broadcast to the shape {shape} of {other}, "
            f"got shape {x.shape}."
        )
    refuse_values(name, x, np.isfinite, "finite")
    return jnp.asarray(x, dtype)


def refuse_values(
    name: str, value: np.ndarray | Array, is_good: Callable[[np.ndarray], Any], expected: str
) -> None:
    """Raise a `ValueError` with the first known element for which `is_good` is false."""
    if known(value):
        bad = ~np.asarray(is_good(np.asarray(value)))
        if np.any(bad):
            raise ValueError(f"{name} must be {expected}, got {_element(value, bad)}.")


class Range(NamedTuple):
    """Range of allowed values of the elements of an array."""

    expected: str
    """Text for the error message, beginning with "must"."""
    holds: Callable[[np.ndarray], Any]


FINITE = Range("must be finite", np.isfinite)
POSITIVE = Range("must be finite and > 0", lambda x: (x > 0) & (x < math.inf))
NOT_NEGATIVE = Range("must be finite and >= 0", lambda x: (x >= 0) & (x < math.inf))


def within(name: str, value: Any, values: Range = FINITE) -> np.ndarray | Array:
    """Convert `value` as [`numbers`][] does. Raise unless all elements are within a range.

    The elements are checked in the dtype that JAX gives them: 1e-60 is 0 without float64.
    """
    x = numbers(name, value, "a real number or an array of real numbers")
    if known(x):
        refuse(name, x, ~np.asarray(values.holds(_in_jax(x))), values.expected)
    return x


def _in_jax(x: np.ndarray | Array) -> np.ndarray:
    """Convert a known array to the dtype that [`as_floating`][] gives it, as a NumPy array."""
    dtype = jax.dtypes.canonicalize_dtype(x.dtype if is_floating(x) else float)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(x).astype(dtype)


def parameter(name: str, value: Any, *, positive: bool = False, not_negative: bool = False) -> Any:
    """Convert `value` to a floating-point leaf, a scalar or of shape `(n,)`.

    A wrapped leaf stays wrapped. An array is copied, so that no two leaves share a buffer.

    **Raises:** `ValueError` for a value that is not finite. With `positive`, also unless it is > 0.
    With `not_negative`, also unless it is >= 0.
    """
    x = numbers(name, plain(value), "a real number or an array of shape (n,)")
    if x.ndim > 1:
        raise ValueError(f"{name} must be a scalar or have shape (n,), got shape {x.shape}.")
    if known(x):
        v = _in_jax(x)
        if positive or not_negative:
            sign = "> 0" if positive else ">= 0"
            refuse(name, x, ~(v > 0 if positive else v >= 0), f"must be {sign}")
        refuse(name, x, ~np.isfinite(v), "must be finite")
    return _own(value) if isinstance(value, Wrapped) else jnp.array(as_floating(x))


def above(name: str, value: Any, bound: str, low: Any, *, equal: bool = False) -> None:
    """Raise if a parameter is not above another one, or has another length.

    With `equal`, both may be equal.
    """
    x, y = plain(value), plain(low)
    fits(name, x, bound, y)
    if known(x) and known(y):
        x, y = np.asarray(x), np.asarray(y)
        refuse(name, x, ~(x >= y if equal else x > y), f"must be above {bound}")


def fits(name: str, value: Any, other: str, reference: Any) -> None:
    """Raise if two parameters are not scalars and have different shapes."""
    a, b = np.shape(plain(value)), np.shape(plain(reference))
    if a and b and a != b:
        raise ValueError(f"{name} must be a scalar or have shape {b}, as {other}, got shape {a}.")


# ------------------------------------------------------------------ one value


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is one real number, finite or not. Booleans are not numbers."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_whole(value: Any) -> TypeGuard[int]:
    """Return whether a value is one integer, of Python or NumPy. Booleans are not integers."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def number(
    name: str,
    value: Any,
    expected: str = "a finite number",
    is_good: Callable[[float], bool] = lambda _: True,
) -> float:
    """Convert `value` to a float. Raise unless it is one finite number that satisfies `is_good`."""
    try:
        good = is_number(value) and math.isfinite(value) and is_good(value)
    except OverflowError:  # an integer beyond the range of floats
        good = False
    if not good:
        raise wrong(name, value, expected)
    return float(value)


def positive(name: str, value: Any) -> float:
    """Convert `value` to a float. Raise unless it is finite and > 0."""
    return number(name, value, "a finite number > 0", lambda v: v > 0)


def not_negative(name: str, value: Any) -> float:
    """Convert `value` to a float. Raise unless it is finite and >= 0."""
    return number(name, value, "a finite number >= 0", lambda v: v >= 0)


def count(name: str, value: Any) -> int:
    """Convert `value` to an int. Raise unless it is an integer from 1 to 2**31 - 1."""
    return whole(name, value)


def whole(name: str, value: Any, low: int = 1, high: int = LARGEST) -> int:
    """Convert `value` to an int. Raise unless it is an integer from `low` to `high`."""
    if not is_whole(value) or not low <= value <= high:
        upper = f" and <= {high}" if high < LARGEST or (is_whole(value) and value > high) else ""
        raise wrong(name, value, f"an integer >= {low}{upper}")
    return int(value)


def index(name: str, value: Any, n: int) -> int:
    """Convert `value` to an int. Raise unless it is an integer from 0 to `n` - 1."""
    if not is_whole(value) or value not in range(n):
        raise wrong(name, value, f"an integer in 0 ... {n - 1}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """Convert `value` to a bool. Raise unless it is a boolean of Python or NumPy."""
    if not isinstance(value, bool | np.bool_):
        raise wrong(name, value, "True or False")
    return bool(value)


def choice(name: str, value: Any, options: Sequence[str]) -> Any:
    """Return `value`. Raise unless it is one of the strings in `options`."""
    if not isinstance(value, str) or value not in options:
        raise wrong(name, value, " or ".join(f'"{option}"' for option in options))
    return value


def function(name: str, value: Any, expected: str = "a function") -> Any:
    """Return `value`. Raise unless it is callable."""
    if not callable(value):
        raise wrong(name, value, expected)
    return value


def instance(name: str, value: Any, kind: Any, expected: str) -> Any:
    """Return `value`. Raise unless it is an instance of `kind`, one or several classes."""
    if not isinstance(value, kind):
        raise wrong(name, value, expected)
    return value


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Convert `value` to a tuple of ints. Raise unless all elements are integers >= 0."""
    expected = "a tuple of integers >= 0"
    sizes = instance(name, value, list | tuple, expected)
    if not all(is_whole(n) and 0 <= n <= LARGEST for n in sizes):
        raise wrong(name, value, expected)
    return tuple(int(n) for n in sizes)


def key(name: str, value: Any) -> Any:
    """Return `value`. Raise unless it is one JAX random key, typed or raw."""
    typed = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    old = isinstance(value, jax.Array | np.ndarray) and value.dtype == np.uint32
    if not (typed and value.ndim == 0) and not (old and value.shape in ((2,), (4,))):
        raise wrong(name, value, "one key of jax.random.key")
    return value


def path(name: str, value: Any) -> pathlib.Path:
    """Convert `value` to a path.

    **Raises:** `TypeError` unless it is a string, or an `os.PathLike` object that returns one.
    """
    try:
        return pathlib.Path(value)
    except TypeError:
        raise TypeError(f"{name} must be a path, got {shown(value)}.") from None


def real_dtype(name: str, value: Any) -> Any:
    """Return `value`. Raise unless it is a dtype of booleans, integers or floats."""
    expected = "a dtype of real numbers"
    if value is None:
        raise wrong(name, value, expected)
    try:
        found = jnp.dtype(value)
    except TypeError:
        raise wrong(name, value, expected) from None
    if not any(jnp.issubdtype(found, kind) for kind in (np.bool_, np.integer, np.floating)):
        raise wrong(name, value, expected)
    return value


# ------------------------------------------------------------------ arguments of a network


def weight_matrix(value: Any, receptors: int = 1) -> Any:
    """Convert weights of shape `(n + n_in, receptors * n)` to floating point.

    Wrapped weights stay wrapped.
    """
    columns = "n" if receptors == 1 else f"{receptors} n"
    expected = f"have shape (n + n_in, {columns}), rows are sources (neurons, then input channels)"
    w = numbers("weights", plain(value), f"real numbers and {expected}")
    whole_blocks = w.ndim == 2 and w.shape[1] > 0 and w.shape[1] % receptors == 0
    if not whole_blocks or w.shape[0] < w.shape[1] // receptors:
        raise ValueError(f"weights must {expected}, got shape {w.shape}.")
    return _own(value) if isinstance(value, Wrapped) else jnp.array(as_floating(w))


def precision(dtype: Any) -> None:
    """Raise for weights of 16 bits or fewer in the event mode, which give wrong spike times."""
    if jnp.finfo(dtype).bits < 32:
        raise ValueError(f"weights must be float32 or float64 in the event mode, got {dtype}.")


def mask_like(value: Any, shape: tuple[int, ...]) -> Array | None:
    """Convert a mask to a boolean array of the shape of the weights. None is returned unchanged."""
    if value is None:
        return None
    m = raw(value)
    if m is None:
        raise wrong("mask", value, f"boolean and have the shape {shape} of weights")
    if m.shape != shape or m.dtype != bool:
        raise ValueError(
            f"mask must be boolean and have the shape {shape} of weights, "
            f"got {m.dtype} of shape {m.shape}."
        )
    return jnp.asarray(m)


def delays(value: Any, shapes: tuple[tuple[int, ...], ...], dtype) -> Any:
    """Convert delays to a dtype. Raise unless they have one of the shapes and are finite and >= 0.

    Wrapped delays stay wrapped. None is returned unchanged.
    """
    if value is None:
        return None
    d = numbers("delays", plain(value))
    if d.shape not in shapes:
        wanted = " (axonal) or ".join(map(str, shapes))
        raise ValueError(f"delays must have shape {wanted} (synaptic), got shape {d.shape}.")
    refuse_values("delays", d, lambda v: (v >= 0) & np.isfinite(v), "finite and >= 0")
    return _own(value, dtype) if isinstance(value, Wrapped) else jnp.array(d, dtype)


def neuron_parameters(neuron: PyTree, n: int, dtype) -> PyTree:
    """Convert the parameters of a neuron to the dtype of the weights.

    Raise unless each is a scalar or has shape `(n,)`. Each parameter gets its own buffer.
    """

    def one(path, x):
        if not eqx.is_inexact_array(x):
            return x
        if x.shape not in ((), (n,)):
            name = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".raw")
            raise ValueError(
                f"neuron parameter {name} must be a scalar or have shape ({n},), one value for "
                f"each column of weights, got shape {x.shape}."
            )
        return jnp.array(x, dtype)

    return jax.tree_util.tree_map_with_path(one, neuron)


def _own(tree: PyTree, dtype: Any = None) -> PyTree:
    """Copy the floating-point arrays of a pytree to their own buffers, in a dtype."""
    return jax.tree.map(lambda x: jnp.array(x, dtype) if eqx.is_inexact_array(x) else x, tree)


def output_indices(value: Any, n: int) -> tuple[int, ...]:
    """Convert the outputs to a tuple. Raise unless they are distinct neuron indices."""
    x = raw(value)
    seen = x is not None and known(x) and is_integer(x)
    out = tuple(int(i) for i in np.asarray(x).reshape(-1)) if seen else ()
    if not out or not all(0 <= i < n for i in out) or len(set(out)) < len(out):
        raise wrong("outputs", value, f"different neuron indices in 0 ... {n - 1}")
    return out


def input_times(value: Any, n_inputs: int, dtype) -> Array:
    """Convert input spike times of shape `(..., n_inputs, k)` to a dtype.

    Raise for NaN and negative times. `inf` is padding.
    """
    x = numbers("in_times", value)
    if x.ndim < 2 or x.shape[-2] != n_inputs:
        raise ValueError(
            f"in_times must have shape (..., {n_inputs}, k), one row per input channel, "
            f"got shape {x.shape}."
        )
    refuse_values("in_times", x, lambda v: v >= 0, ">= 0 (inf: no spike) and not NaN")
    return jnp.asarray(x, dtype)


def observation_times(value: Any, t_max: float, dtype) -> Array:
    """Convert observation times of shape `(k,)` to a dtype. Raise unless they are in [0, t_max]."""
    t = numbers("times", value)
    if t.ndim != 1:
        raise ValueError(f"times must have shape (k,), got shape {t.shape}.")
    if known(t):
        outside = ~((np.asarray(t) >= 0) & (np.asarray(t) <= t_max))
        refuse("times", t, outside, f"must lie in [0, t_max = {t_max}]")
    return jnp.asarray(t, dtype)
