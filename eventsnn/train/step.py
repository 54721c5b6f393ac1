"""Gradient step, with the batch split across the devices."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from .. import axes, checks
from .selection import resolved_filter, trained_part

#: Function `(model, batch)` or, with a random key, `(model, batch, key)`.
LossFn = Callable[..., Float[Array, ""]]
Step = Callable[..., tuple[Any, PyTree, Float[Array, ""]]]

AXIS = axes.DEVICES
REPLICATED = PartitionSpec()

# Arrays with more entries than this are averaged separately, since copying them costs more.
_LARGE = 2**18


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    filter_spec: PyTree = None,
    devices: Sequence[jax.Device] | None = None,
) -> Step:
    """Make the function of one gradient step, for your own training loop.

    Wrap the function in `jax.jit` or `eqx.filter_jit`. With several devices, the batch is split
    along its first axis. Each device runs its part independently, including the event loop. Only
    the loss and the gradients are averaged across devices. The loss must therefore be a *mean* over
    the batch. Otherwise the step differs from a step on a single device.

    **Arguments:**

    - `loss_fn`: function `loss_fn(model, batch) -> scalar`, a mean over the batch. If the step is
        given a key, `loss_fn(model, batch, key)`.
    - `optimizer`: any Optax optimiser. Its initial state is
        `optimizer.init(eqx.filter(model, filter_spec))`, with the default filter below if
        `filter_spec` is None.
    - `filter_spec`: selection of the trained parameters, as for `equinox.partition`: a pytree of
        booleans or a function of a leaf. Default: None, weights, biases and delays, but no neuron
        parameters such as thresholds and time constants: `eventsnn.trainable(model)` if the model
        contains event networks or layers, and `eventsnn.discrete.trainable(model)` if it contains
        cells of the discrete-time mode. To train neuron parameters, pass such a filter with their
        names. Of any other model, every floating-point array.
    - `devices`: the devices that share a batch. Default: None, the largest number of local devices
        that divides the batch evenly.

    **Returns:** `step(model, opt_state, batch, key=None) -> (model, opt_state, loss)`. Every array
    in `batch` has the batch as its first axis. Pass a new `jax.random` key to each step of a
    stochastic loss, for example of a model with dropout. With several devices, device `d` uses the
    key `jax.random.fold_in(key, d)` for its part of the batch.

    **Raises:** `ValueError` for an invalid argument. The step raises `ValueError`, when it is
    traced, if the loss does not take these arguments or is not a scalar, or if the devices cannot
    share the batch evenly.

    Your own loop over several CPU devices should regularly wait for a result, with
    `jax.block_until_ready(loss)` or by printing the loss. XLA's CPU collectives can stall if dozens
    of programs are queued. [`fit`][] waits. Use [`diagnose`][] for a step whose loss or parameters
    are not finite.
    """
    step = gradient_step(loss_fn, optimizer, filter_spec, devices)

    def without_gradients(model, opt_state, batch, key=None):
        return step(model, opt_state, batch, key)[:3]

    return without_gradients


def gradient_step(loss_fn, optimizer, filter_spec, devices):
    """Like [`make_step`][], but the step requires `key`, and also returns the gradients."""
    loss_fn = scalar("loss_fn", loss_fn)
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise checks.value_error("optimizer", optimizer, "an optax.GradientTransformation")

    def local(model, batch, key):
        trained, fixed = eqx.partition(model, resolved_filter(model, filter_spec))

        def loss_of(trained):
            return loss_fn(eqx.combine(trained, fixed), batch, key)

        return jax.value_and_grad(loss_of)(trained)

    value_and_grad = data_parallel(local, devices)

    def step(model, opt_state, batch, key):
        trained = trained_part(model, filter_spec)
        loss, grads = value_and_grad(model, batch, key)
        updates, opt_state = optimizer.update(grads, opt_state, trained)
        return eqx.apply_updates(model, updates), opt_state, loss, grads

    return step


def scalar(name: str, fn: LossFn) -> LossFn:
    """Make a function `(model, batch, key)` that raises unless it returns a floating-point scalar.

    The key may be None.
    """
    fn = with_key(name, fn)

    def checked(model, batch, key):
        out = fn(model, batch, key)
        is_array = isinstance(out, jax.Array | np.ndarray | np.generic | float)
        if (
            not is_array
            or jnp.shape(out) != ()
            or not jnp.issubdtype(jnp.result_type(out), jnp.floating)
        ):
            found = f"{out.dtype}{list(out.shape)}" if hasattr(out, "dtype") else type(out).__name__
            raise ValueError(f"{name} must return a floating-point scalar, got {found}.")
        return jnp.asarray(out)

    return checked


def with_key(name: str, fn: Callable) -> Callable:
    """Make a function `(model, batch, key)`, which calls `fn` without key if the key is None."""
    checks.function(name, fn, "a function of (model, batch)")

    def call(model, batch, key):
        arguments = (model, batch) if key is None else (model, batch, key)
        if not _accepts(fn, len(arguments)):
            names = "(model, batch, key)"
            if key is None:
                names = "(model, batch), without a key, unless `key` is given"
            raise checks.value_error(name, fn, f"a function of {names}")
        return fn(*arguments)

    return call


def _accepts(fn, n_arguments):
    """Return whether a function takes this number of positional arguments."""
    try:
        inspect.signature(fn).bind(*range(n_arguments))
    except TypeError:
        return False
    except ValueError:  # a function of another language, whose signature is unknown
        pass
    return True


def data_parallel(fn: Callable, devices: Sequence[jax.Device] | None) -> Callable:
    """Make a function that splits the batch across devices and averages `fn(model, part, key)`.

    Each device has its own key, derived from the key of the batch.
    """
    devices = device_list(devices)

    def shared(model, batch, key):
        mesh = mesh_for(batch_size(batch), devices)
        if mesh.size == 1:
            return fn(model, batch, key)
        arrays, static = eqx.partition(model, eqx.is_array)

        def part(arrays, batch, key):
            if key is not None:
                key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
            return _mean_over_devices(fn(eqx.combine(arrays, static), batch, key))

        # check_vma=False: gradients belong to one part of the batch until the average above, and
        # event loops need not declare which of their values vary across devices.
        specs = (REPLICATED, PartitionSpec(AXIS), REPLICATED)
        return jax.shard_map(
            part, mesh=mesh, in_specs=specs, out_specs=REPLICATED, check_vma=False
        )(arrays, batch, key)

    return shared


def _mean_over_devices(tree):
    """Compute `pmean` of all leaves.

    Small leaves are sent in one message, since each message has a fixed cost: on 4 host devices and
    with a small network, nine messages cost as much as the step.
    """
    leaves, structure = jax.tree.flatten(tree)
    messages: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        alone = leaf.size > _LARGE
        messages.setdefault(i if alone else leaf.dtype, []).append(i)
    for together in messages.values():
        ends = np.cumsum([leaves[i].size for i in together])[:-1].tolist()
        message = jnp.concatenate([leaves[i].reshape(-1) for i in together])
        parts = jnp.split(jax.lax.pmean(message, AXIS), ends)
        for i, part in zip(together, parts, strict=True):
            leaves[i] = part.reshape(leaves[i].shape)
    return jax.tree.unflatten(structure, leaves)


def batch_size(batch: Any, name: str = "batch") -> int:
    """Length of the first axis, which all arrays of a batch must share."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(batch)]
    sizes = {shape[:1] for shape in shapes}
    if len(sizes) != 1 or sizes <= {(), (0,)}:
        raise ValueError(
            f"{name} must contain arrays, each with the batch as its first axis and at least one "
            f"sample, got shapes {shapes}."
        )
    return sizes.pop()[0]


def device_list(devices: Sequence[jax.Device] | None) -> list[jax.Device] | None:
    """Check the devices and return them as a list. None means: choose them for each batch."""
    if devices is None:
        return None
    found = list(devices) if isinstance(devices, Sequence | np.ndarray) else []
    good = found and all(isinstance(device, jax.Device) for device in found)
    if not good or len(set(found)) < len(found):
        raise checks.value_error("devices", devices, "distinct JAX devices, at least one")
    return found


def mesh_for(size: int, devices: list[jax.Device] | None) -> Mesh:
    """Mesh of the devices that share a batch of the given size."""
    if devices is None:
        devices = jax.local_devices()
        share = max(n for n in range(1, len(devices) + 1) if size % n == 0)
        devices = devices[:share]
    elif size % len(devices):
        raise ValueError(
            f"devices must share a batch of {size} evenly, got {len(devices)} devices."
        )
    return Mesh(np.array(devices), (AXIS,))
