"""Run public callables and networks under jaxtyping and beartype: every annotation is executed.

Run by `test_types.py` in a process of its own, because the import hook has to be installed before
the package is imported. Programs are traced and not compiled; figures are drawn, and data sets
made.
"""

import sys
import traceback

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

#: Names of figures, data sets and connections. They take NumPy arrays and concrete random keys, and
#: are run.
UNTRACED = ("plots.", "data.", "connect.")

#: As in Python's type system, an int is accepted where a float is expected.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))

if __name__ == "__main__":
    install_import_hook("eventsnn", "typed.check")

    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")

    import eventsnn as esn
    from helpers.bad_calls import ROWS
    from helpers.registry import CASES, CELLS, EXACT, FURTHER, N_IN, N, modules, network, problem

    def cases():
        """Names of calls, and the calls, which are traced."""
        for name, row in ROWS.items():
            if row.try_it and not name.startswith(UNTRACED):
                good = {argument: array(arg.good) for argument, arg in row.args.items()}
                yield name, lambda row=row, good=good: row.call(**good)
        for case in CASES + FURTHER:
            differentiated = case in (EXACT[0], EXACT[-1], CASES[-1])
            yield f"{case}", lambda case=case, grads=differentiated: queries(case, grads)
        for shape in ((N + N_IN,), (N + N_IN, N)):
            for adjoint in (esn.EventProp(min_speed=0.1), esn.Autodiff()):
                options = {"delays": jnp.full(shape, 1.5), "adjoint": adjoint}
                name = f"delays {shape} {type(adjoint).__name__}"
                yield name, lambda options=options: queries(EXACT[0], True, **options)
        yield "Autodiff", lambda: queries(EXACT[0], True, adjoint=esn.Autodiff())
        drive = {"pseudospikes": esn.Pseudospikes(2.0, 9.0)}
        yield "Pseudospikes", lambda: queries(EXACT[0], True, **drive)
        rng = np.random.default_rng(0)
        yield "discrete modules", lambda: esn.discrete.run(modules(rng), jnp.ones((4, N)))
        options = {"lengths": jnp.array(3), "checkpoint_every": 2, "truncate_every": 3}
        for name, cell in CELLS.items():
            yield (
                f"discrete {name}",
                lambda cell=cell: esn.discrete.run(
                    cell(np.random.default_rng(0)), jnp.ones((4, N)), **options
                ),
            )

    def untraced():
        """Names of calls, and the calls, which are run."""
        for name, row in ROWS.items():
            if row.try_it and name.startswith(UNTRACED):
                good = {argument: arg.good for argument, arg in row.args.items()}
                yield name, lambda row=row, good=good: row.call(**good)

    def array(value):
        return jnp.asarray(value) if isinstance(value, np.ndarray) else value

    def queries(case, differentiated, **options):
        """First spikes, or the gradients of first spikes and of a readout."""
        params = problem(case.model, 0)
        net = network(case, params, **options)
        x = jnp.asarray(params["in_times"])

        def loss(net, x):
            return jnp.sum(net.ttfs(x)) + jnp.sum(net.maxima(x))

        return eqx.filter_grad(loss)(net, x) if differentiated else net.ttfs(x[None])

    def error_of(call):
        try:
            call()
        except Exception:
            return traceback.format_exc()

    traced = ((name, lambda call=call: eqx.filter_eval_shape(call)) for name, call in cases())
    found = {name: error for name, call in (*traced, *untraced()) if (error := error_of(call))}
    for name, error in found.items():
        print(f"--- {name}\n{error}", file=sys.stderr)
    print(f"{len(found)} failed")
