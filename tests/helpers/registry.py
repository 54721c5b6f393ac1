"""Registry of tested models: a new neuron model, flow or cell is tested by adding an entry here.

A `Model` names a neuron of the package, its counterpart in `reference.py` and a random choice of
parameters; a `Case` is a model with a flow. `problem` draws a recurrent network and its input, as a
dictionary of arrays; `network` builds it, also from traced arrays, so that a loss can be
differentiated with respect to every entry.

`CELLS` are the cells of the discrete-time mode: functions of a generator and of the cell's
keywords, with parameters that make them fire occasionally.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

import eventsnn as esn
from eventsnn import discrete
from eventsnn.cpu import known_options
from eventsnn.event.flows import PopulationsFlow, RefractoryFlow
from helpers import reference as ref

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,  # with all cores in use, more cost time
}


def quick(fn):
    """Compile in a third of the time, for functions whose compilation takes longer than their
    run."""
    return jax.jit(fn, compiler_options=known_options(QUICK))


def careful(fn):
    """Compile with few optimisations.

    Without any optimisation, and without fusion emitters, XLA of jaxlib 0.10 generates a wrong
    program for the derivative of an implicit step: its first velocity is wrong by a third, unless a
    value is printed.
    """
    return jax.jit(fn, compiler_options=known_options({"xla_backend_optimization_level": 1}))


N, N_IN, K = 6, 2, 3
MASK = np.ones((N + N_IN, N), bool)
MASK[:N] &= ~np.eye(N, dtype=bool)
MASK[1, 4] = MASK[N, 2] = False


def _lif(rng, n):
    return {
        "threshold": rng.uniform(0.8, 1.2, n),
        "v_reset": rng.uniform(-0.3, 0.3, n),
        "v_init": rng.uniform(-0.3, 0.3, n),
        "bias": rng.uniform(-0.2, 1.4, n),
    }


def _qif(rng, n):
    return {"bias": rng.uniform(-0.3, 0.6, n), "v_init": rng.uniform(-0.5, 0.5, n)}


def _integrator(rng, n):
    return {"bias": rng.uniform(-0.2, 1.4, n), "v_init": rng.uniform(-0.3, 0.3, n)}


def _theta(rng, n):
    return {"bias": rng.uniform(3.0, 8.0, n), "v_init": rng.uniform(-0.5, 0.5, n)}


def _alif(rng, n):
    adaptive = {"beta": rng.uniform(0.1, 0.6, n), "tau_adapt": rng.uniform(10.0, 40.0, n)}
    return _lif(rng, n) | adaptive


def _eif(rng, n):
    v_rheobase, sharpness = rng.uniform(0.8, 1.2, n), rng.uniform(0.2, 0.4, n)
    return _lif(rng, n) | {
        "sharpness": sharpness,
        "v_rheobase": v_rheobase,
        "v_rest": rng.uniform(-0.2, 0.2, n),
        "threshold": v_rheobase + rng.uniform(2.0, 2.5, n) * sharpness,
    }


def _egru(rng, n):
    return {
        "threshold": rng.uniform(0.3, 0.4, n),
        "bias_u": rng.uniform(0.5, 1.5, n),
        "bias_r": rng.uniform(-0.5, 0.5, n),
        "bias_z": rng.uniform(0.2, 1.0, n),
        "c_init": rng.uniform(-0.1, 0.1, n),
    }


def _izhikevich(rng, n):
    return {
        "a": rng.uniform(0.02, 0.1, n),
        "b": rng.uniform(0.18, 0.25, n),
        "c": rng.uniform(-65.0, -50.0, n),
        "d": rng.uniform(2.0, 8.0, n),
        "bias": rng.uniform(2.0, 15.0, n),
        "threshold": rng.uniform(28.0, 32.0, n),
        "v_init": rng.uniform(-70.0, -60.0, n),
        "u_init": rng.uniform(-15.0, -10.0, n),
    }


class Compartments(NamedTuple):
    soma: jax.Array
    dendrite: jax.Array
    current: jax.Array


class TwoCompartment(esn.AbstractClampable, esn.AbstractBiased):
    """Custom model of the notebook `custom_neuron.ipynb`."""

    receptors = 2

    tau_soma: jax.Array
    tau_dendrite: jax.Array
    tau_syn: jax.Array
    coupling: jax.Array
    plateau: jax.Array
    threshold: jax.Array
    bias: jax.Array

    def init_state(self, n):
        return Compartments(jnp.zeros(n), jnp.zeros(n), jnp.zeros(n))

    def vector_field(self, state):
        inward = self.coupling * (state.dendrite - state.soma)
        plateau = self.plateau * jax.nn.sigmoid((state.dendrite - 0.5) / 0.1)
        return Compartments(
            (inward - state.soma + plateau + state.current + self.bias) / self.tau_soma,
            (-inward - state.dendrite) / self.tau_dendrite,
            -state.current / self.tau_syn,
        )

    def threshold_gap(self, state):
        return self.threshold - state.soma

    def receive(self, state, current):
        onto_soma, onto_dendrite = current
        return state._replace(
            current=state.current + onto_soma, dendrite=state.dendrite + onto_dendrite
        )

    def reset(self, state, spiked):
        return state._replace(soma=jnp.where(spiked, 0.0, state.soma))

    def observe(self, state):
        return state.soma

    def advance_clamped(self, state, dt):
        leak = 1.0 + self.coupling
        rest = self.coupling / leak * state.soma
        done = -jnp.expm1(-dt * leak / self.tau_dendrite)
        return state._replace(
            dendrite=state.dendrite + (rest - state.dendrite) * done,
            current=state.current * jnp.exp(-dt / self.tau_syn),
        )


def _two_compartment(rng, n):
    return {
        "tau_soma": rng.uniform(4.0, 8.0, n),
        "tau_dendrite": rng.uniform(10.0, 20.0, n),
        "coupling": rng.uniform(0.5, 1.0, n),
        "plateau": rng.uniform(1.0, 2.0, n),
        "threshold": rng.uniform(0.5, 0.8, n),
        "bias": rng.uniform(0.8, 1.6, n),
    }


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    neuron: Callable
    reference: Callable
    parameters: Callable  # in addition to the two time constants
    scale: float  # scale of the weights
    constants: tuple[str, ...] = ("tau_mem", "tau_syn")
    receptors: int = 1
    fires: bool = True  # whether all neurons fire; otherwise potentials are compared, not spikes


@dataclasses.dataclass(frozen=True)
class Case:
    model: Model
    flow: str
    options: Callable[[], dict] = dict  # options of EventNetwork

    def __str__(self):
        return f"{self.model.name}-{self.flow}"


def _with_reset(kind, reset):
    def build(**parameters):
        return kind(**parameters, reset_mode=reset)

    return build


LIF_SET = Model("lif_set", _with_reset(esn.LIF, "set"), _with_reset(ref.LIF, "set"), _lif, 0.6)
LIF_SUBTRACT = Model(
    "lif_subtract", _with_reset(esn.LIF, "subtract"), _with_reset(ref.LIF, "subtract"), _lif, 0.6
)
QIF = Model("qif", esn.QIF, ref.QIF, _qif, 9.0)
MODELS = [LIF_SET, LIF_SUBTRACT, QIF]

INTEGRATOR = Model(
    "integrator",
    esn.LeakyIntegrator,
    lambda **parameters: ref.LIF(**parameters, threshold=1e9),
    _integrator,
    0.6,
    fires=False,
)
THETA = Model("theta", esn.Theta, ref.Theta, _theta, 0.6, constants=("tau_mem",))
ALIF = Model("alif", _with_reset(esn.ALIF, "set"), _with_reset(ref.ALIF, "set"), _alif, 0.8)
EIF = Model("eif", esn.EIF, ref.EIF, _eif, 0.6)
IZHIKEVICH = Model(
    "izhikevich", esn.Izhikevich, ref.Izhikevich, _izhikevich, 3.0, constants=("tau_syn",)
)
EGRU = Model("egru", esn.EGRU, ref.EGRU, _egru, 1.0, receptors=3)
TWO_COMPARTMENT = Model(
    "two_compartment",
    TwoCompartment,
    ref.TwoCompartment,
    _two_compartment,
    0.15,
    constants=("tau_syn",),
    receptors=2,
)


def refractory(model):
    def build(wrap, inner):
        return lambda period, **parameters: wrap(inner(**parameters), period)

    def parameters(rng, n):
        return model.parameters(rng, n) | {"period": rng.uniform(0.5, 4.0, n)}

    return dataclasses.replace(
        model,
        name=f"refractory_{model.name}",
        neuron=build(esn.Refractory, model.neuron),
        reference=build(ref.Refractory, model.reference),
        parameters=parameters,
    )


def mixture(name, scale, *parts):
    """Populations of the given models and sizes; parameter names are prefixed with the model's
    name."""

    def build(mix, kind):
        def of(model, parameters):
            start = f"{model.name}_"
            own = {k: v for k, v in parameters.items() if k.startswith(start)}
            return getattr(model, kind)(**{k.removeprefix(start): v for k, v in own.items()})

        def neuron(**parameters):
            return mix([(of(model, parameters), size) for model, size in parts])

        return neuron

    def parameters(rng, n):
        drawn = {}
        for model, size in parts:
            tau_mem = rng.uniform(6.0, 12.0, size)
            constants = {"tau_mem": tau_mem, "tau_syn": tau_mem / rng.uniform(0.8, 3.0, size)}
            own = {k: constants[k] for k in model.constants} | model.parameters(rng, size)
            drawn |= {f"{model.name}_{k}": v for k, v in own.items()}
        return drawn

    neuron, reference = build(esn.Populations, "neuron"), build(ref.Populations, "reference")
    fires = all(model.fires for model, _ in parts)
    return Model(name, neuron, reference, parameters, scale, constants=(), fires=fires)


REFRACTORY_LIF, REFRACTORY_QIF = refractory(LIF_SET), refractory(QIF)
REFRACTORY_ALIF, REFRACTORY_OWN = refractory(ALIF), refractory(TWO_COMPARTMENT)
MIXTURE = mixture("mixture", 1.0, (LIF_SET, 2), (QIF, 2), (INTEGRATOR, 2))
FLOWS = mixture("flows", 0.6, (REFRACTORY_LIF, 3), (EIF, 3))


def constant_steps(dt0=0.5):
    return {"solver": dfx.Dopri8(), "dt0": dt0}


class RK4(dfx.AbstractSolver):
    """Custom solver. Its four stages are unrolled, so JAX traces it several times faster than
    diffrax's solvers, where they are a loop."""

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar = dfx.ThirdOrderHermitePolynomialInterpolation

    def order(self, terms):
        return 4

    def init(self, terms, t0, t1, y0, args):
        return None

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        def slope(y):
            return jax.tree.map(lambda d: d * (t1 - t0), terms.vf(t0, y, args))

        def ahead(share, k):
            return jax.tree.map(lambda y, d: y + share * d, y0, k)

        a = slope(y0)
        b = slope(ahead(0.5, a))
        c = slope(ahead(0.5, b))
        d = slope(ahead(1.0, c))
        end = jax.tree.map(lambda y, a, b, c, d: y + (a + 2 * (b + c) + d) / 6, y0, a, b, c, d)
        dense = {"y0": y0, "y1": end, "k0": a, "k1": slope(end)}
        return end, None, dense, None, dfx.RESULTS.successful


def rk4(dt0):
    # Short steps, in which one search for crossings is sufficient.
    return lambda: {"solver": esn.ODEFlow(RK4(), dt0=dt0, nodes=1)}


def flows():
    """Flow for each part."""
    ode = rk4(0.1)()["solver"]
    return {"solver": PopulationsFlow((RefractoryFlow(esn.ExactLIF()), ode))}


def tolerance(rtol):
    return {
        "solver": dfx.Dopri5(),
        "dt0": 0.1,
        "stepsize_controller": dfx.PIDController(rtol=rtol, atol=rtol * 1e-2),
    }


EXACT = [Case(model, "exact") for model in MODELS]
ODE = [Case(LIF_SET, "ode", constant_steps), Case(QIF, "ode", constant_steps)]
CASES = EXACT + ODE

# Each property once, in test_neurons.py: their common parts are tested there extensively.
FURTHER = [
    Case(INTEGRATOR, "exact"),
    Case(THETA, "exact"),
    Case(MIXTURE, "exact"),
    Case(REFRACTORY_LIF, "exact"),
    Case(REFRACTORY_QIF, "exact"),
    Case(ALIF, "ode", rk4(0.1)),
    Case(EIF, "ode", rk4(0.1)),
    Case(IZHIKEVICH, "ode", rk4(0.0125)),
    Case(EGRU, "ode", rk4(0.1)),
    Case(FLOWS, "ode", flows),
    Case(REFRACTORY_ALIF, "ode", rk4(0.1)),
    Case(REFRACTORY_OWN, "ode", rk4(0.1)),
]

RATIOS = {  # tau_mem / tau_syn
    "1": 1.0,
    "2": 2.0,
    "half": 0.5,
    "pi/3": math.pi / 3,
    "1+1e-9": 1 + 1e-9,
    "1-1e-9": 1 - 1e-9,
    "4": 4.0,
    "mixed": np.array([1.0, 2.0, 0.5, math.sqrt(3), 1 - 1e-9, 5.0]),
}


def problem(model, seed, ratio: ArrayLike = 2.0, tau_mem: ArrayLike = 10.0, until=40.0):
    """Parameters by name, with `weights` and `in_times`; every array has one row or entry per
    neuron."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, model.scale, (N + N_IN, model.receptors * N))
    weights[N:] = 4 * np.abs(weights[N:])
    in_times = rng.uniform(0.0, until, (N_IN, K))  # unordered
    in_times[0, 1] = np.inf
    tau_mem = np.broadcast_to(tau_mem, (N,)).copy()
    constants = {"tau_mem": tau_mem, "tau_syn": tau_mem / ratio}
    return {
        "weights": weights,
        "in_times": in_times,
        **{name: constants[name] for name in model.constants},
        **model.parameters(rng, N),
    }


def mask_of(model):
    return np.tile(MASK, model.receptors)


def network(
    case, params, *, mask=None, outputs=tuple(range(N)), t_max=50.0, max_events=300, **options
):
    neuron = {k: v for k, v in params.items() if k not in ("weights", "in_times")}
    return esn.EventNetwork(
        neuron=case.model.neuron(**neuron),
        weights=params["weights"],
        mask=mask_of(case.model) if mask is None else mask,
        outputs=outputs,
        t_max=t_max,
        max_events=max_events,
        **{**case.options(), **options},
    )


def reference(model, params, *, mask=None, t_max=50.0, query=()):
    neuron = {k: v for k, v in params.items() if k not in ("weights", "in_times")}
    return ref.simulate(
        model.reference(**neuron),
        params["weights"],
        params["in_times"],
        t_max,
        mask=mask_of(model) if mask is None else mask,
        query=query,
        max_step=0.5,
    )


def linear(n_in, n_out, rng):
    """Layer whose output keeps the following layer active."""
    layer = eqx.filter_eval_shape(eqx.nn.Linear, n_in, n_out, key=jax.random.key(0))
    weight = jnp.asarray(rng.normal(size=(n_out, n_in)) / math.sqrt(n_in))
    bias = jnp.asarray(rng.uniform(0.3, 0.9, n_out))
    return eqx.tree_at(lambda to: (to.weight, to.bias), layer, (weight, bias))


CELLS = {  # of N neurons
    "Leaky": lambda rng, **kw: discrete.Leaky(0.8, **{"reset": "zero", "graded": 0.5} | kw),
    "RLeaky": lambda rng, **kw: discrete.RLeaky(0.8, linear(N, N, rng), **kw),
    "Synaptic": lambda rng, **kw: discrete.Synaptic(0.5, 0.7, **{"reset_delay": False} | kw),
    "RSynaptic": lambda rng, **kw: discrete.RSynaptic(
        0.4, 0.6, discrete.OneToOne(-0.5), **{"threshold": 1.3} | kw
    ),
    "Lapicque": lambda rng, **kw: discrete.Lapicque(0.7, **{"threshold": 0.4} | kw),
    "Alpha": lambda rng, **kw: discrete.Alpha(0.9, 0.7, **{"threshold": 0.3} | kw),
    "ALIF": lambda rng, **kw: discrete.ALIF(0.8, 0.9, 0.3, **kw),
}


def _conv(rng):
    """Convolution for the gates of one channel, from one channel."""
    conv = eqx.filter_eval_shape(eqx.nn.Conv2d, 2, 4, 3, padding=1, key=jax.random.key(0))
    weights = jnp.asarray(rng.normal(size=(4, 2, 3, 3))), jnp.asarray(rng.normal(size=(4, 1, 1)))
    return eqx.tree_at(lambda to: (to.weight, to.bias), conv, weights)


def _lstm(rng):
    lstm = eqx.filter_eval_shape(eqx.nn.LSTMCell, N, N, key=jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), lstm)


def _image(x):
    return x.reshape(1, 2, N // 2)


MODULES = {  # cells with weights, or with states or outputs of other shapes; from N to N values
    "SLSTM": lambda rng: [discrete.SLSTM(_lstm(rng), threshold=0.1)],
    "SConv2dLSTM": lambda rng: [
        _image,
        discrete.SConv2dLSTM(_conv(rng), threshold=0.1, reset="subtract"),
        jnp.ravel,
    ],
    "LeakyParallel": lambda rng: [discrete.LeakyParallel(0.8, threshold=0.5, graded=0.5)],
    "DeltaLeaky": lambda rng: [discrete.DeltaLeaky(0.8, threshold=0.5)],
    "Delay": lambda rng: [discrete.Delay(rng.uniform(0, 3, N), max_delay=3, width=1.5)],
    "DelayedLinear": lambda rng: [
        discrete.DelayedLinear(linear(N, N, rng), rng.uniform(0, 2, (N, N)), max_delay=2)
    ],
    "AssociativeLeaky": lambda rng: [
        discrete.AssociativeLeaky(*(linear(N, n, rng) for n in (2, 3, 3, 6)), threshold=0.5),
        linear(4, N, rng),
    ],
}


def modules(rng):
    """Stack of all modules, each behind a linear layer."""
    layers = [[linear(N, N, rng), *module(rng)] for module in MODULES.values()]
    return discrete.Sequential([layer for part in layers for layer in part])


def stack(n_in, rng, **options):
    """Stack of all cells, each behind a linear layer; the last cell never fires.

    The cells are every second layer.
    """
    layers = [linear(n_in, N, rng)]
    for cell in CELLS.values():
        layers += [cell(rng, **options), linear(N, N, rng)]
    return discrete.Sequential([*layers, discrete.LeakyIntegrator(0.9)])
