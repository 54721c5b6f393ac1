"""The yin-yang data set: which part of the figure does a point of the plane belong to?

Kriener, Göltz & Petrovici, The Yin-Yang dataset, NICE 2022, arXiv:2102.08211. Points are uniform
within their class, and the three classes are equally likely.
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
from . import images

R_BIG = 0.5
R_SMALL = 0.1
CLASSES = ("yin", "yang", "dot")
#: The seeds of the published sets.
SEEDS = {"train": 42, "validation": 41, "test": 40}


class Samples(NamedTuple):
    """Points and what they belong to."""

    xy: Float[Array | np.ndarray, "n 2"]
    """Points of the disc of radius 1/2 around (1/2, 1/2), so in [0, 1]."""
    labels: Int32[Array | np.ndarray, " n"]
    """0: yin, 1: yang, 2: a dot."""


@dataclasses.dataclass(frozen=True)
class YinYangData:
    """Draws to train on, to choose by, and to test on; no point is in two of them."""

    train: Samples
    validation: Samples
    test: Samples


def classify(xy: Float[ArrayLike, "*batch 2"]) -> Int32[Array, "*batch"]:
    r"""The class of points: 0 (yin), 1 (yang), 2 (a dot); -1 outside of the figure.

    With distances $d_l$ and $d_r$ to the centres (1/4, 1/2) and (3/4, 1/2) of the dots, a point is
    of class 2 where $\min(d_l, d_r) < 1/10$; else of class 1 where $d_l \le 1/4$, or where
    $y > 1/2$ and $d_r > 1/4$; else of class 0. So yang is the upper half with a bulge downwards on
    the left, and a rotation by half a turn swaps yin and yang.
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
    """`n` points. For each a class is drawn, then points in the square until one is of that class.

    **Raises:** `ValueError` if `n` is not an integer >= 1.
    """
    return _sample(checks.key("key", key), checks.count("n", n))


def generate(
    key: PRNGKeyArray, *, train: int = 5000, validation: int = 1000, test: int = 1000
) -> YinYangData:
    """Three sets drawn with different keys: `key` folded with 0 (train), 1 (validation), 2 (test).

    Coordinates are continuous, so that (but for a chance of about 1 in 10 million in float32) no
    point is in two sets. The default sizes are those of the publication.

    **Arguments:**

    - `train`, `validation`, `test`: how many points.

    **Raises:** `ValueError` if one of them is not an integer >= 1.
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
    r"""The points of the publication, which are the same for everybody.

    They are made again here as its generator makes them (Kriener, Göltz & Petrovici,
    arXiv:2102.08211): from NumPy's `RandomState`, with seed 42 to train, 41 to validate and 40 to
    test, and for each point a class from `randint(3)`, then pairs from `rand(2)` until one is of
    that class. Coordinates are rounded to JAX's default type at the end.

    Of a set of another size the shorter is the beginning of the longer. Which points they happen
    to be matters a little: see [`generate`][] for others.

    **Arguments:**

    - `train`, `validation`, `test`: how many points.

    **Raises:** `ValueError` if one of them is not an integer >= 1.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    sizes = {name: checks.count(name, n) for name, n in sizes.items()}
    return YinYangData(**{name: _published(SEEDS[name], n) for name, n in sizes.items()})


def event_inputs(
    xy: Float[ArrayLike, "*batch 2"], *, t_max: float = 30.0, bias_time: float = 0.0
) -> Float[Array, "*batch 5 1"]:
    r"""One spike in each of five channels: at $t_\max (x, y, 1 - x, 1 - y)$, and at `bias_time`.

    **Arguments:**

    - `xy`: points, each coordinate in [0, 1].
    - `t_max`: the latest spike (ms).
    - `bias_time`: when the fifth channel spikes, in every sample alike (ms).

    **Raises:** `ValueError` for coordinates out of range, `t_max` <= 0, or `bias_time` < 0.
    """
    xy, t_max = _points(xy), checks.positive("t_max", t_max)
    checks.refuse_values("xy", xy, lambda v: (v >= 0) & (v <= 1), "in [0, 1]")
    bias_time = checks.not_negative("bias_time", bias_time)
    bias = jnp.full_like(xy[..., :1], bias_time)
    return jnp.concatenate([t_max * xy, t_max * (1 - xy), bias], axis=-1)[..., None]


def batches(
    key: PRNGKeyArray | int, data: Samples, batch_size: int, *, epochs: int | None = None
) -> Iterator[Samples]:
    """Batches in an order drawn anew for every epoch, all of one size: what is left over at the
    end of an epoch is left out. See [`eventsnn.data.images.batches`][]."""
    checks.instance("data", data, Samples, "Samples of points and labels")
    xy, labels = (np.asarray(part) for part in data)
    drawn = images.batches(key, xy, labels, batch_size=batch_size, epochs=epochs)
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
    """`classify` of one point in float64, without JAX."""
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

    def more(carry):
        _, _, found = carry
        return ~jnp.all(found)

    def draw(carry):
        turn, xy, found = carry
        drawn = jax.random.uniform(jax.random.fold_in(key_points, turn), (n, 2), maxval=2 * R_BIG)
        hit = ~found & (classify(drawn) == wanted)
        return turn + 1, jnp.where(hit[:, None], drawn, xy), found | hit

    start = jnp.int32(0), jnp.zeros((n, 2)), jnp.zeros(n, bool)
    _, xy, _ = jax.lax.while_loop(more, draw, start)
    return Samples(xy, wanted)
