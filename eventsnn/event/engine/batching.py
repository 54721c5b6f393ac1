"""Functions written for a batch, behind a single-sample interface.

`jax.vmap` of a `lax.while_loop` copies every carried array, including the record, by a `select` at
each iteration, which makes an event loop far too slow. The loop is therefore written for a batch,
and this module turns every `jax.vmap` over samples into one larger batch.

`jax.custom_batching.custom_vmap` is not sufficient. It has no transpose, and inside
`jax.custom_vjp` it cannot distinguish `grad(vmap(f))`, where weight cotangents are summed over the
batch, from `vmap(grad(f))`, where they must not be. A primitive has one rule per transformation
and can distinguish them.

This is the only module of the package that uses JAX's extension interface.
"""

import functools as ft
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from ..models import one_after_another, over_models
from .programs import program

#: Error message for derivatives that are not available.
_REVERSE_ONLY = (
    "EventProp gives reverse-mode first derivatives only; "
    "use adjoint=esn.Autodiff() for forward mode or second derivatives."
)

_NO_MESH = jax.sharding.AbstractMesh((), ())

P = ParamSpec("P")
R = TypeVar("R")


def on_any_mesh(query: Callable[P, R]) -> Callable[P, R]:
    """Wrap `query(net, in_times, ...)` for arrays on a mesh with explicit axes.

    Inside the query, XLA chooses the sharding of arrays, since the computation is elementwise over
    the samples. The result is sharded like the batch axes of `in_times`.
    """
    untyped: Any = query

    @ft.wraps(query)
    def call(*args: P.args, **options: P.kwargs) -> R:
        arrays, rest = eqx.partition((args, options), eqx.is_array)
        leaves = [x for x in jax.tree.leaves(arrays) if isinstance(x, jax.Array)]
        meshes = [jax.typeof(x).sharding.mesh for x in leaves]
        meshes = [mesh for mesh in meshes if mesh.explicit_axes]
        if not meshes:
            return query(*args, **options)

        def run(arrays) -> Any:
            args, options = eqx.combine(arrays, rest)
            return untyped(*args, **options)

        in_times = args[1] if len(args) > 1 else options["in_times"]
        placed = isinstance(in_times, jax.Array)
        axes = jax.typeof(in_times).sharding.spec[:-2] if placed else ()
        out = NamedSharding(meshes[0], PartitionSpec(*axes))
        automatic: Any = jax.sharding.auto_axes(run, out_sharding=out)
        return automatic(arrays)

    return call


class BatchNative:
    """Primitive for `fn(static, shared, batch)`, where arrays in `batch` have a leading batch axis.

    `static` is hashable; `shared` (parameters) and `batch` (samples) are pytrees of arrays. All
    outputs have the leading batch axis. With `sums=True` some outputs may be sums over the batch
    instead, as cotangents of `shared` are. With `sequential=True`, models follow one another.

    `vmap` of a call merges the new axis into the batch. If `shared` is mapped too (several models),
    or with `sums=True`, the new axis becomes an axis of models: `fn` is called once, within a
    `jax.vmap` over the models, whose loops run until all models are finished, see
    `event/models.py`. `models` marks the leaves that have this axis, as the first;
    None: there is one model.

    `derivative(static, shared, batch)` is differentiated instead of `fn`. Its `static` is a pair:
    the `static` of `fn`, and a tuple of booleans that marks the leaves of `(shared, batch)` that
    are being differentiated. None: differentiation raises `NotImplementedError`.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[[Any, PyTree, PyTree], PyTree],
        *,
        sums: bool = False,
        sequential: bool = False,
        derivative: Callable[[Any, PyTree, PyTree], PyTree] | None = None,
    ):
        self._fn = fn
        self._sums = sums
        self._over_models = one_after_another if sequential else over_models
        self._derivative = derivative or fn
        p = self._primitive = Primitive(name)
        p.multiple_results = True
        p.def_impl(lambda *xs, **kw: program(self._flat, **kw)(*xs))
        p.def_abstract_eval(self._avals)
        mlir.register_lowering(p, self._lower)
        batching.primitive_batchers[p] = self._batch
        ad.primitive_jvps[p] = _refuse if derivative is None else self._jvp

    def __call__(self, static: Hashable, shared: PyTree, batch: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten((shared, batch))
        n_shared = len(jax.tree.leaves(shared))
        kw = dict(static=static, tree=tree, n_shared=n_shared, models=None)
        leaves = varying(leaves, leaves)
        out = self._primitive.bind(*leaves, **kw)
        flat = self._flattened(static, tree)
        if flat.structure is None:
            self._shapes(leaves, **kw)
        return jax.tree.unflatten(flat.structure, out)

    def _flat(self, *leaves, static, tree, n_shared, models):
        kw = dict(static=static, tree=tree, n_shared=n_shared, models=models)
        if _is_empty(leaves, n_shared, models):
            return [jnp.zeros(shape, dtype) for shape, dtype in self._shapes(leaves, **kw)]
        return self._over_models(self._flattened(static, tree).traced, models)(*leaves)

    @ft.lru_cache(maxsize=256)  # noqa: B019 - instances live as long as the module
    def _flattened(self, static, tree) -> "_Flattened":
        return _Flattened(ft.partial(self._fn, static), tree)

    def _lower(self, ctx, *args, **kw):
        """Lower the primitive without mesh information.

        The loop does not depend on the sharding of its arrays, and its constants have none.
        """
        ctx = ctx.replace(avals_in=[ShapedArray(x.shape, x.dtype) for x in ctx.avals_in])
        return mlir.lower_fun(self._flat, multiple_results=True)(ctx, *args, **kw)

    def _avals(self, *leaves, **kw):
        return [_aval(*x, leaves[0]) for x in self._shapes(leaves, **kw)]

    def _shapes(self, leaves, *, models, **kw):
        """Shapes and dtypes of the outputs."""
        avals = tuple((x.shape, jnp.dtype(x.dtype)) for x in leaves)
        if models is not None:
            number = _mapped_size(leaves, models)
            one = [
                jax.ShapeDtypeStruct(shape[1:] if has else shape, dtype)
                for (shape, dtype), has in zip(avals, models, strict=True)
            ]
            shapes = self._shapes(one, models=None, **kw)
            return tuple(((number, *shape), dtype) for shape, dtype in shapes)
        if not _is_empty(leaves, kw["n_shared"]):
            return self._cached_shapes(avals, **kw)
        # The batch axis is the one whose size differs between one sample and two samples.
        one, two = (self._cached_shapes(_resized(avals, n, kw["n_shared"]), **kw) for n in (1, 2))
        return tuple(
            (tuple(0 if i != j else i for i, j in zip(a, b, strict=True)), dtype)
            for (a, dtype), (b, _) in zip(one, two, strict=True)
        )

    @ft.lru_cache(maxsize=256)  # noqa: B019 - instances live as long as the module
    def _cached_shapes(self, avals, static, tree, n_shared):
        args = [jax.ShapeDtypeStruct(*aval) for aval in avals]
        with jax.sharding.use_abstract_mesh(_NO_MESH):  # the context of lowering
            out = jax.eval_shape(self._flattened(static, tree).traced, *args)
        return tuple((x.shape, x.dtype) for x in out)

    def _batch(self, leaves, dims, *, n_shared, models, **kw):
        """Make a new axis an axis of samples or of models."""
        mapped = tuple(d is not None for d in dims)
        leaves = [
            x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(leaves, dims, strict=True)
        ]
        size = _mapped_size(leaves, mapped)
        kw |= dict(n_shared=n_shared)
        if not self._sums and not any(mapped[:n_shared]):
            out = self._bind_samples(leaves, mapped, size, models=models, **kw)
        elif models is None:
            out = self._primitive.bind(*leaves, models=mapped, **kw)
        else:
            out = self._bind_models(leaves, mapped, size, models=models, **kw)
        return out, [0] * len(out)

    def _bind_samples(self, leaves, mapped, size, *, n_shared, models, **kw):
        """Merge a new first axis of the leaves in `mapped` into the batch."""
        axes = [int(has) for has in models or [False] * len(leaves)]  # of the batch

        def merged(x, axis, has):
            x = x if has else jnp.broadcast_to(x, (size, *x.shape))
            x = jnp.moveaxis(x, 0, axis)
            return x.reshape(*x.shape[:axis], size * x.shape[axis + 1], *x.shape[axis + 2 :])

        batch = [
            merged(*x)
            for x in zip(leaves[n_shared:], axes[n_shared:], mapped[n_shared:], strict=True)
        ]
        many = leaves[n_shared].shape[axes[n_shared] + int(mapped[n_shared])]
        out = self._primitive.bind(
            *leaves[:n_shared], *batch, n_shared=n_shared, models=models, **kw
        )
        axis = 0 if models is None else 1
        out = [x.reshape(*x.shape[:axis], size, many, *x.shape[axis + 1 :]) for x in out]
        return [jnp.moveaxis(x, axis, 0) for x in out]

    def _bind_models(self, leaves, mapped, size, *, models, **kw):
        """Merge a new first axis of the leaves in `mapped` into the axis of models."""
        axes = zip(leaves, mapped, models, strict=True)
        number = next(x.shape[int(new)] for x, new, old in axes if old)

        def merged(x, new, old):
            x = x if new else jnp.broadcast_to(x, (size, *x.shape))
            x = x if old else jnp.broadcast_to(x[:, None], (size, number, *x.shape[1:]))
            return x.reshape(size * number, *x.shape[2:])

        both = tuple(new or old for new, old in zip(mapped, models, strict=True))
        leaves = [
            merged(x, new, old) if new or old else x
            for x, new, old in zip(leaves, mapped, models, strict=True)
        ]
        out = self._primitive.bind(*leaves, models=both, **kw)
        return [x.reshape(size, number, *x.shape[1:]) for x in out]

    def _jvp(self, primals, tangents, *, static, tree, n_shared, models):
        kw = dict(static=static, tree=tree, n_shared=n_shared, models=models)
        if _is_empty(primals, n_shared, models):
            out = self._primitive.bind(*primals, **kw)
            return out, [_zero(x) for x in out]
        active = tuple(not isinstance(t, ad.Zero) for t in tangents)

        flat = self._flattened(static, tree)

        def fn(*leaves):
            shared, batch = jax.tree.unflatten(tree, leaves)
            return tuple(flat.leaves(self._derivative((static, active), shared, batch)))

        def of_active(*xs):
            rest = iter(xs)
            leaves = [next(rest) if a else p for p, a in zip(primals, active, strict=True)]
            return self._over_models(fn, models)(*leaves)

        out, dout = jax.jvp(
            of_active,
            tuple(p for p, a in zip(primals, active, strict=True) if a),
            tuple(t for t, a in zip(tangents, active, strict=True) if a),
        )
        integer = [t.dtype == jax.dtypes.float0 for t in dout]
        return list(out), [_zero(x) if w else t for x, t, w in zip(out, dout, integer, strict=True)]


class _Flattened:
    """A function of flat arguments, with flat outputs.

    `structure` is the structure of the outputs, known from the first trace on. `traced` is traced
    only once for the same shapes: its abstract evaluation and its lowering share one trace.
    """

    def __init__(self, fn: Callable[..., PyTree], tree: Any):
        self.structure: Any = None
        self.traced = jax.jit(
            lambda *xs: self.leaves(fn(*jax.tree.unflatten(tree, xs))), inline=True
        )

    def leaves(self, out: PyTree) -> list:
        leaves, self.structure = jax.tree.flatten(out)
        return leaves


def _refuse(*_, **__):
    raise NotImplementedError(_REVERSE_ONLY)


def _identity(x, *, tangent: bool):
    return _refuse() if tangent else x


def _identity_jvp(primals, tangents, *, tangent: bool):
    (x,), (dx,) = primals, tangents
    out = _guard.bind(x, tangent=tangent)
    return out, dx if isinstance(dx, ad.Zero) else _guard.bind(dx, tangent=True)


def _identity_batched(x, *, tangent: bool):
    return _refuse() if tangent else _guard.bind(x, tangent=False)


_guard = Primitive("eventsnn_reverse_only")
_guard.def_impl(_identity)
_guard.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(_guard, mlir.lower_fun(_identity, multiple_results=False))
batching.primitive_batchers[_guard] = lambda xs, dims, **kw: (_identity_batched(*xs, **kw), *dims)
ad.primitive_jvps[_guard] = _identity_jvp
ad.primitive_transposes[_guard] = lambda cotangent, x, **_: [cotangent]


def reverse_only(tree: PyTree) -> PyTree:
    """Return the same arrays, and make forward mode raise `NotImplementedError`.

    The error message has one line. Without this guard, a later `jax.custom_vjp` would raise an
    error with a message of several lines.
    """
    return jax.tree.map(lambda x: _guard.bind(x, tangent=False), tree)


def no_cotangent(tree: PyTree) -> PyTree:
    """Zero cotangents of arrays; of integers and booleans in the dtype that JAX expects."""

    def one(x):
        floating = jnp.issubdtype(x.dtype, jnp.inexact)
        return jnp.zeros_like(x) if floating else np.zeros(x.shape, jax.dtypes.float0)

    return jax.tree.map(one, tree)


def varying(tree: PyTree, like: PyTree) -> PyTree:
    """Make arrays vary over every axis of `jax.shard_map` over which an array of `like` varies.

    The initial value of a loop needs this if the body of the loop combines it with `like`.
    """
    axes = _axes(*jax.tree.leaves(like))

    def one(x):
        more = tuple(sorted(axes - _axes(x)))
        return jax.lax.pcast(x, more, to="varying") if more else x

    return jax.tree.map(one, tree)


def _axes(*arrays) -> frozenset:
    return frozenset().union(*(jax.typeof(x).manual_axis_type.varying for x in arrays))


def _zero(x) -> ad.Zero:
    return ad.Zero(jax.typeof(x).to_tangent_aval())


def _mapped_size(leaves, models: Sequence[bool]) -> int:
    return next(x.shape[0] for x, has in zip(leaves, models, strict=True) if has)


def _is_empty(leaves, n_shared: int, models: tuple[bool, ...] | None = None) -> bool:
    """Return whether there are no samples, or no models."""
    shape = leaves[n_shared].shape
    if models is None:
        return shape[0] == 0
    return _mapped_size(leaves, models) == 0 or shape[int(models[n_shared])] == 0


def _resized(avals, size: int, n_shared: int):
    """Shapes and dtypes for a batch of `size` samples."""
    batch = (((size, *shape[1:]), dtype) for shape, dtype in avals[n_shared:])
    return (*avals[:n_shared], *batch)


def _aval(shape, dtype, like: ShapedArray) -> ShapedArray:
    """Abstract value that varies over the same axes of `jax.shard_map` as `like`."""
    sharding = like.sharding.update(spec=PartitionSpec(*[None] * len(shape)))
    return like.update(shape=shape, dtype=dtype, weak_type=False, sharding=sharding)
