"""Gradient step, with the batch split across the devices."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from .. import checks
from .diagnosis import path_name

LossFn = Callable[[Any, Any], Float[Array, ""]]
Step = Callable[[Any, PyTree, Any], tuple[Any, PyTree, Float[Array, ""]]]

AXIS = "batch"
REPLICATED = PartitionSpec()

MODEL_FUNCTION = "a function of the model"

# Arrays with more entries than this are averaged separately, since copying them costs more.
_LARGE = 2**18


def make_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    filter_spec: PyTree = eqx.is_inexact_array,
    devices: Sequence[jax.Device] | None = None,
) -> Step:
    """Make the function of one gradient step, for your own training loop.

    Wrap the function in `jax.jit` or `eqx.filter_jit`. With several devices, the batch is split
    along its first axis. Each device runs its part independently, including the event loop. Only
    the loss and the gradients are averaged across devices. The loss must therefore be a *mean* over
    the batch. Otherwise the step differs from a step on a single device.

    **Arguments:**

    - `loss_fn`: function `loss_fn(model, batch) -> scalar`, a mean over the batch.
    - `optimizer`: any Optax optimiser. Its initial state is
        `optimizer.init(eqx.filter(model, filter_spec))`.
    - `filter_spec`: selection of the trained parameters, as for `equinox.partition`: a pytree of
        booleans or a function of a leaf. Default: every floating-point array.
    - `devices`: the devices that share a batch. Default: None, the largest number of local devices
        that divides the batch evenly.

    **Returns:** `step(model, opt_state, batch) -> (model, opt_state, loss)`. Every array in `batch`
    has the batch as its first axis.

    **Raises:** `ValueError` for an invalid argument. The step raises `ValueError`, when it is
    traced, if the loss is not a scalar or the devices cannot share the batch evenly.

    Your own loop over several CPU devices should regularly wait for a result, with
    `jax.block_until_ready(loss)` or by printing the loss. XLA's CPU collectives can stall if dozens
    of programs are queued. [`fit`][] waits. Use [`diagnose`][] for a step whose loss or parameters
    are not finite.
    """
    step = gradient_step(loss_fn, optimizer, filter_spec, devices)
    return lambda model, opt_state, batch: step(model, opt_state, batch)[:3]


def gradient_step(loss_fn, optimizer, filter_spec, devices):
    """Like [`make_step`][], but the step also returns the gradients, as a fourth result."""
    loss_fn = scalar("loss_fn", loss_fn)
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise checks.value_error("optimizer", optimizer, "an optax.GradientTransformation")

    def local(model, batch):
        trained, fixed = eqx.partition(model, filter_spec)
        return jax.value_and_grad(lambda trained: loss_fn(eqx.combine(trained, fixed), batch))(
            trained
        )

    value_and_grad = data_parallel(local, devices)

    def step(model, opt_state, batch):
        trained = trained_part(model, filter_spec)
        loss, grads = value_and_grad(model, batch)
        updates, opt_state = optimizer.update(grads, opt_state, trained)
        return eqx.apply_updates(model, updates), opt_state, loss, grads

    return step


def scalar(name: str, fn: LossFn) -> LossFn:
    """Wrap a function so that it raises unless its result is a floating-point scalar."""
    checks.function(name, fn, MODEL_FUNCTION)

    def checked(model, batch):
        out = fn(model, batch)
        known = isinstance(out, jax.Array | np.ndarray | np.generic | float)
        if (
            not known
            or jnp.shape(out) != ()
            or not jnp.issubdtype(jnp.result_type(out), jnp.floating)
        ):
            found = f"{out.dtype}{list(out.shape)}" if hasattr(out, "dtype") else type(out).__name__
            raise ValueError(f"{name} must return a floating-point scalar, got {found}.")
        return jnp.asarray(out)

    return checked


def trained_part(model: Any, filter_spec: PyTree) -> PyTree:
    """Trained parameters: the model with None in place of everything else."""
    try:
        trained = eqx.filter(model, filter_spec)
    except (TypeError, ValueError) as error:
        expected = "a function of a leaf, or booleans in a pytree that fits model"
        raise checks.value_error("filter_spec", filter_spec, expected) from error
    leaves = jax.tree_util.tree_leaves_with_path(trained)
    if not leaves:
        found = f"{checks.short_repr(filter_spec)}, which selects none"
        raise ValueError(f"filter_spec must select arrays of model that train, got {found}.")
    for path, x in leaves:
        if not (isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.floating)):
            found = x.dtype if hasattr(x, "dtype") else type(x).__name__
            kind = "a NumPy array of " if isinstance(x, np.ndarray) else ""
            place = f" at {path_name(path)}" if path else ""
            raise ValueError(
                f"filter_spec must select JAX arrays in floating point, got {kind}{found}{place}."
            )
    return trained


def data_parallel(fn: Callable, devices: Sequence[jax.Device] | None) -> Callable:
    """Make a function that splits the batch across devices and averages `fn(model, part)`."""
    devices = device_list(devices)

    def shared(model, batch):
        mesh = mesh_for(batch_size(batch), devices)
        if mesh.size == 1:
            return fn(model, batch)
        arrays, static = eqx.partition(model, eqx.is_array)

        def part(arrays, batch):
            return _mean_over_devices(fn(eqx.combine(arrays, static), batch))

        # check_vma=False: gradients belong to one part of the batch until the average above, and
        # event loops need not declare which of their values vary across devices.
        specs = (REPLICATED, PartitionSpec(AXIS))
        return jax.shard_map(
            part, mesh=mesh, in_specs=specs, out_specs=REPLICATED, check_vma=False
        )(arrays, batch)

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
            f"{name} must hold arrays, each with the batch as its first axis and at least one "
            f"sample, got shapes {shapes}."
        )
    return sizes.pop()[0]


def device_list(devices: Sequence[jax.Device] | None) -> list[jax.Device] | None:
    """Check the devices and return them as a list. None means: choose them for each batch."""
    if devices is None:
        return None
    known = list(devices) if isinstance(devices, Sequence | np.ndarray) else []
    fits = known and all(isinstance(device, jax.Device) for device in known)
    if not fits or len(set(known)) < len(known):
        raise checks.value_error("devices", devices, "different JAX devices, at least one")
    return known


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
