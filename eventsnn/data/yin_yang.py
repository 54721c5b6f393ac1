"""Yin-yang data set: classification of points by the part of the yin-yang figure they are in.

Kriener, Göltz & Petrovici, The Yin-Yang dataset, NICE 2022, arXiv:2102.08211. The three classes are
equally likely, and points are uniformly distributed within their class.
"""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int32, PRNGKeyArray

from .. import checks
from . import arrays

__all__ = [
    "CLASSES",
    "R_BIG",
    "R_SMALL",
    "SEEDS",
    "Samples",
    "YinYangData",
    "batches",
    "classify",
    "event_inputs",
    "generate",
    "published",
    "sample",
]

#: Radius of the figure, a disc around (1/2, 1/2).
R_BIG = 0.5
#: Radius of the two dots.
R_SMALL = 0.1
#: Names of the classes 0, 1 and 2.
CLASSES = ("yin", "yang", "dot")
#: Seeds of the published sets.
SEEDS = {"train": 42, "validation": 41, "test": 40}


class Samples(NamedTuple):
    """Points and their classes."""

    xy: Float[Array | np.ndarray, "n 2"]
    """Points in the disc of radius 1/2 around (1/2, 1/2), with coordinates in [0, 1]."""
    labels: Int32[Array | np.ndarray, " n"]
    """Classes. 0: yin, 1: yang, 2: dot."""


@dataclasses.dataclass(frozen=True)
class YinYangData:
    """Disjoint training, validation and test sets."""

    train: Samples
    """Training set."""
    validation: Samples
    """Validation set."""
    test: Samples
    """Test set."""


def classify(xy: Float[ArrayLike, "*batch 2"]) -> Int32[Array, "*batch"]:
    r"""Return the class of points: 0 (yin), 1 (yang), 2 (dot), or -1 outside the figure.

    Let $d_l$ and $d_r$ be the distances to the centres (1/4, 1/2) and (3/4, 1/2) of the dots. A
    point is in class 2 if $\min(d_l, d_r) < 1/10$. Otherwise it is in class 1 if $d_l \le 1/4$, or
    if $y > 1/2$ and $d_r > 1/4$. Otherwise it is in class 0. Yang is thus the upper half with a
    bulge downwards on the left. A rotation by 180 degrees swaps yin and yang.

    **Arguments:**

    - `xy`: points, with the two coordinates on the last axis.

    **Returns:** one class per point.

    **Raises:** `ValueError` unless the last axis has length 2.
    """
    xy = _points(xy)

    def distance(x):
        return jnp.hypot(xy[..., 0] - x, xy[..., 1] - R_BIG)

    left, right = distance(0.5 * R_BIG), distance(1.5 * R_BIG)
    upper = (xy[..., 1] > R_BIG) & (right > 0.5 * R_BIG)
    yang = (left <= 0.5 * R_BIG) | upper
    inner = jnp.where(jnp.minimum(left, right) < R_SMALL, 2, yang.astype(jnp.int32))
    return jnp.where(distance(R_BIG) <= R_BIG, inner, -1).astype(jnp.int32)


def sample(key: PRNGKeyArray, n: int) -> Samples:
    """Sample `n` points.

    For each point a class is drawn first, then points in the square until one is in that class.

    **Arguments:**

    - `key`: a JAX random key.
    - `n`: number of points.

    **Raises:** `ValueError` for an invalid key, or if `n` is not an integer >= 1.
    """
    return _sample(checks.key("key", key), checks.count("n", n))


def generate(
    key: PRNGKeyArray, *, train: int = 5000, validation: int = 1000, test: int = 1000
) -> YinYangData:
    """Sample new training, validation and test sets.

    The sets use `key` folded with 0 (training), 1 (validation) and 2 (test). The probability that
    two sets have any point in common is below 1 in a million in float32. The default sizes are
    those of the publication.

    **Arguments:**

    - `key`: a JAX random key.
    - `train`, `validation`, `test`: numbers of points. Defaults: 5000, 1000 and 1000.

    **Raises:** `ValueError` for an invalid key, or if a number is not an integer >= 1.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    sizes = {name: checks.count(name, n) for name, n in sizes.items()}
    checks.key("key", key)
    drawn = {
        name: jax.device_get(sample(jax.random.fold_in(key, i), n))
        for i, (name, n) in enumerate(sizes.items())
    }
    return YinYangData(**drawn)


def published(*, train: int = 5000, validation: int = 1000, test: int = 1000) -> YinYangData:
    r"""Return the fixed points of the publication.

    The function reproduces the published generator (Kriener, Göltz & Petrovici,
    arXiv:2102.08211). It uses NumPy's `RandomState` with seed 42 for training, 41 for validation
    and 40 for test. For each point it draws a class from `randint(3)`, then pairs from `rand(2)`
    until one is in that class. Coordinates are computed in float64 and rounded to the default
    floating-point type of JAX.

    A smaller set consists of the first points of a larger set. Accuracies depend slightly on the
    choice of points: use [`generate`][] for other points.

    **Arguments:**

    - `train`, `validation`, `test`: numbers of points. Defaults: 5000, 1000 and 1000, as
        published.

    **Raises:** `ValueError` if a number is not an integer >= 1.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    sizes = {name: checks.count(name, n) for name, n in sizes.items()}
    return YinYangData(**{name: _published(SEEDS[name], n) for name, n in sizes.items()})


def event_inputs(
    xy: Float[ArrayLike, "*batch 2"], *, t_max: float = 30.0, bias_time: float = 0.0
) -> Float[Array, "*batch 5 1"]:
    r"""Encode points as one spike in each of five channels.

    The spike times are $t_\max (x, y, 1 - x, 1 - y)$ and `bias_time`.

    **Arguments:**

    - `xy`: points, with coordinates in [0, 1].
    - `t_max`: the latest spike time of the first four channels (ms), > 0. Default: 30.
    - `bias_time`: spike time of the fifth channel (ms), >= 0, the same in all samples. Default: 0.

    **Returns:** the input spike times (ms), one channel per row.

    **Raises:** `ValueError` for coordinates out of range, `t_max` <= 0, or `bias_time` < 0.
    """
    xy, t_max = _points(xy), checks.positive("t_max", t_max)
    checks.check_elements("xy", xy, lambda v: (v >= 0) & (v <= 1), "in [0, 1]")
    bias_time = checks.not_negative("bias_time", bias_time)
    bias = jnp.full_like(xy[..., :1], bias_time)
    return jnp.concatenate([t_max * xy, t_max * (1 - xy), bias], axis=-1)[..., None]


def batches(
    key: PRNGKeyArray | int, data: Samples, *, batch_size: int, epochs: int | None = None
) -> Iterator[Samples]:
    """Yield batches of the same size, in a random order that differs in every epoch.

    Samples at the end of an epoch that do not fill a batch are dropped. See
    [`eventsnn.data.arrays.batches`][].

    **Arguments:**

    - `key`: a JAX random key or an integer seed >= 0.
    - `data`: the points and their classes.
    - `batch_size`: number of points per batch.
    - `epochs`: number of epochs. Default: None, no end.

    **Raises:** `ValueError` for invalid arguments, as [`eventsnn.data.arrays.batches`][].
    """
    checks.instance("data", data, Samples, "Samples of points and labels")
    xy, labels = (np.asarray(part) for part in data)
    drawn = arrays.batches(key, xy, labels, batch_size=batch_size, epochs=epochs)
    return (Samples(*batch) for batch in drawn)


def _points(xy):
    points = checks.floating("xy", xy)
    if points.ndim == 0 or points.shape[-1] != 2:
        raise ValueError(f"xy must have shape (..., 2), got shape {points.shape}.")
    return points


def _published(seed, n):
    random, xy, labels = np.random.RandomState(seed), [], []
    for _ in range(n):
        wanted = random.randint(len(CLASSES))
        point = random.rand(2)
        while _class(*point) != wanted:
            point = random.rand(2)
        xy.append(point)
        labels.append(wanted)
    return Samples(np.array(xy, jnp.zeros(()).dtype), np.array(labels, np.int32))


def _class(x, y):
    """Equivalent of `classify` for one point in float64, without JAX."""
    left, right, centre = (math.hypot(x - c * R_BIG, y - R_BIG) for c in (0.5, 1.5, 1.0))
    if centre > R_BIG:
        return -1
    if min(left, right) < R_SMALL:
        return 2
    return int(left <= 0.5 * R_BIG or (y > R_BIG and right > 0.5 * R_BIG))


@partial(jax.jit, static_argnums=1)
def _sample(key, n):
    key_class, key_points = jax.random.split(key)
    wanted = jax.random.randint(key_class, (n,), 0, len(CLASSES), jnp.int32)

    def unfinished(carry):
        _, _, found = carry
        return ~jnp.all(found)

    def draw(carry):
        i, xy, found = carry
        drawn = jax.random.uniform(jax.random.fold_in(key_points, i), (n, 2), maxval=2 * R_BIG)
        accepted = ~found & (classify(drawn) == wanted)
        return i + 1, jnp.where(accepted[:, None], drawn, xy), found | accepted

    start = jnp.int32(0), jnp.zeros((n, 2)), jnp.zeros(n, bool)
    _, xy, _ = jax.lax.while_loop(unfinished, draw, start)
    return Samples(xy, wanted)
