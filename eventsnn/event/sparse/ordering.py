"""Sort of the first entries of a table with unused entries at its end."""

from collections.abc import Sequence

from jax import lax
from jaxtyping import Array, Int

#: Ratio of the sizes between which a sort chooses.
_RATIO = 8


def sort_first(count: Int[Array, ""], columns: Sequence[Array], keys: int = 3) -> tuple[Array, ...]:
    """Sort the rows of the columns; the first columns are the keys.

    Rows from number `count` on must be at the end already. The time depends on `count`: only the
    first rows are sorted, as many as the smallest of a few sizes that is large enough.
    """
    size = columns[0].size
    sizes = [size]
    while sizes[0] > 64:
        sizes.insert(0, -(-sizes[0] // _RATIO))

    def sort(m: int):
        def first(columns):
            new = lax.sort(tuple(x[:m] for x in columns), num_keys=keys)
            return tuple(
                lax.dynamic_update_slice(x, y, (0,)) for x, y in zip(columns, new, strict=True)
            )

        return first

    which = sum(((count > m).astype("int32") for m in sizes[:-1]), start=count * 0)
    return lax.switch(which, [sort(m) for m in sizes], tuple(columns))
