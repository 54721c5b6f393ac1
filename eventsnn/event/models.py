"""Several models in one simulation: conditions of loops that hold for all of them.

`jax.vmap` of a loop whose condition depends on the model copies every carried array, by a `select`,
at each iteration. The conditions here are the same for all models, so that one loop runs until all
models are finished. As for the samples of a batch, the loop must not change a finished model.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Num

# Name of the axis of models.
_MODELS = "eventsnn_models"


def over_models(fn: Callable, models: Sequence[bool] | None) -> Callable:
    """Map a function over the axis of models, the first axis of the arguments in `models`.

    None: there is one model.
    """
    if models is None:
        return fn
    return jax.vmap(fn, in_axes=tuple(0 if has else None for has in models), axis_name=_MODELS)


def one_after_another(fn: Callable, models: Sequence[bool] | None) -> Callable:
    """Map a function over the axis of models as `over_models` does, one model after the other."""
    if models is None:
        return fn

    def call(*args):
        mapped = [x for x, has in zip(args, models, strict=True) if has]

        def one(xs):
            rest = iter(xs)
            return fn(*(next(rest) if has else x for x, has in zip(args, models, strict=True)))

        return lax.map(one, mapped)

    return call


def anywhere(mask: Bool[Array, "..."]) -> Bool[Array, ""]:
    """Return whether an entry of the mask is true, in any model; false if there is none."""
    return largest(jnp.any(mask).astype(jnp.int32)) > 0


def largest(x: Num[Array, "..."]) -> Num[Array, ""]:
    """Return the largest entry, over all models; there is at least one."""
    try:
        lax.axis_size(_MODELS)
    except NameError:  # there is one model
        return jnp.max(x)
    return lax.pmax(jnp.max(x), _MODELS)
