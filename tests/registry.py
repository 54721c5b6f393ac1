"""What the laws are checked on: a new neuron model, flow or cell is tested by adding a line here.

A `Model` names a neuron of the package, its counterpart in `reference.py` and a random choice of
parameters; a `Case` is a model with a flow. `problem` draws a recurrent network and its input, as
a dictionary of arrays; `network` builds it, also from traced arrays, so that a loss may
differentiate by every entry.

`CELLS` are those of the discrete-time mode: functions of a generator and of the cell's keywords,
with parameters that make it fire now and then.
"""

import dataclasses
import math
from collections.abc import Callable

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import reference as ref
from numpy.typing import ArrayLike

import eventsnn as esn
from eventsnn import discrete

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


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    neuron: Callable
    reference: Callable
    parameters: Callable  # besides the two time constants
    scale: float  # of the weights
    constants: tuple[str, ...] = ("tau_mem", "tau_syn")


@dataclasses.dataclass(frozen=True)
class Case:
    model: Model
    flow: str
    options: Callable[[], dict] = dict  # of EventNetwork

    def __str__(self):
        return f"{self.model.name}-{self.flow}"


def _with_reset(kind, reset):
    def build(**parameters):
        return kind(**parameters, reset=reset)

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
)
THETA = Model("theta", esn.Theta, ref.Theta, _theta, 0.6, constants=("tau_mem",))
ALIF = Model("alif", _with_reset(esn.ALIF, "set"), _with_reset(ref.ALIF, "set"), _alif, 0.8)
EIF = Model("eif", esn.EIF, ref.EIF, _eif, 0.6)
IZHIKEVICH = Model(
    "izhikevich", esn.Izhikevich, ref.Izhikevich, _izhikevich, 3.0, constants=("tau_syn",)
)


def constant_steps(dt0=0.5):
    return {"solver": dfx.Dopri8(), "dt0": dt0}


def short_steps():
    return constant_steps(0.25)


def shorter_steps():
    return constant_steps(0.1)


def tolerance(rtol):
    return {
        "solver": dfx.Dopri5(),
        "dt0": 0.1,
        "stepsize_controller": dfx.PIDController(rtol=rtol, atol=rtol * 1e-2),
    }


EXACT = [Case(model, "exact") for model in MODELS]
ODE = [Case(LIF_SET, "ode", constant_steps), Case(QIF, "ode", constant_steps)]
CASES = EXACT + ODE

# Each law once, in test_neurons.py: what they share with the above is tested there at length.
FURTHER = [
    Case(INTEGRATOR, "exact"),
    Case(THETA, "exact"),
    Case(ALIF, "ode", constant_steps),
    Case(EIF, "ode", short_steps),
    Case(IZHIKEVICH, "ode", shorter_steps),
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
    """Parameters by name, with `weights` and `in_times`; every array one row or entry a neuron."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, model.scale, (N + N_IN, N))
    weights[N:] = 4 * np.abs(weights[N:])
    in_times = rng.uniform(0.0, until, (N_IN, K))  # in no order
    in_times[0, 1] = np.inf
    tau_mem = np.broadcast_to(tau_mem, (N,)).copy()
    constants = {"tau_mem": tau_mem, "tau_syn": tau_mem / ratio}
    return {
        "weights": weights,
        "in_times": in_times,
        **{name: constants[name] for name in model.constants},
        **model.parameters(rng, N),
    }


def network(
    case, params, *, mask=MASK, outputs=tuple(range(N)), t_max=50.0, max_events=300, **options
):
    neuron = {k: v for k, v in params.items() if k not in ("weights", "in_times")}
    return esn.EventNetwork(
        neuron=case.model.neuron(**neuron),
        weights=params["weights"],
        mask=mask,
        outputs=outputs,
        t_max=t_max,
        max_events=max_events,
        **{**case.options(), **options},
    )


def reference(model, params, *, mask=MASK, t_max=50.0, query=()):
    neuron = {k: v for k, v in params.items() if k not in ("weights", "in_times")}
    return ref.simulate(
        model.reference(**neuron),
        params["weights"],
        params["in_times"],
        t_max,
        mask=mask,
        query=query,
        max_step=0.5,
    )


def linear(n_in, n_out, rng):
    """A layer that keeps what follows it busy."""
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
}


def stack(n_in, rng, **options):
    """All of them, one after the other, each behind a linear layer; in the end one that never
    fires. The cells are every second layer."""
    layers = [linear(n_in, N, rng)]
    for cell in CELLS.values():
        layers += [cell(rng, **options), linear(N, N, rng)]
    return discrete.Sequential([*layers, discrete.LeakyIntegrator(0.9)])
