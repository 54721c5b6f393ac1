"""Table of every public callable: a valid call, and bad values for each of its arguments."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import nir
import numpy as np
import optax
from jax.experimental.sparse import BCOO
from matplotlib.animation import FuncAnimation

import eventsnn as esn
from eventsnn import connect, discrete, encoders, losses, plots, surrogates, train
from eventsnn.data import arrays as arrays_
from eventsnn.data import (
    folders,
    heidelberg,
    idx,
    images,
    japanese_vowels,
    membrane,
    mnist,
    moving_mnist,
    spike_time_regression,
    yin_yang,
)

# ------------------------------------------------------------------ bad values by kind

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
THING, FUNCTION_ = object(), lambda: 0
MASKED = np.ma.array([1.0, 2.0], mask=[False, True])

#: Values that are neither a number nor an array.
NONSENSE = ("a", b"a", None, THING, FUNCTION_, {1}, {"a": 1}, 1j, [[1], [1, 2]], HUGE)
NUMBER = (*NONSENSE, True, [1.0, 2.0], np.ones(3), np.complex64(1), NAN, INF)
POSITIVE = (*NUMBER, 0, -1.0, np.float32(-1))
NOT_NEGATIVE = (*NUMBER, -1.0, -INF)
SHARE = (*NUMBER, -0.1, 1.1)
COUNT = (*NUMBER, 0, -1, 1.5, 2.0, 2**31)
FLAG = ("no", None, 1, 0.0, NAN, THING, [True], np.array([True]))
CHOICE = ("other", None, 1, NAN, b"log", ["log"], THING, np.array(["log"]))
TEXT = (None, 1, NAN, b"a", ["a"], THING)
FUNCTION = (None, 1, NAN, "a", [FUNCTION_], THING)
INSTANCE = (None, 1, NAN, "a", [1], {"a": 1}, THING, FUNCTION_)
KEY = (None, "a", 0.5, NAN, 1j, THING, np.zeros(3), [0, 1], np.zeros((3, 2), np.uint32))
DTYPE = (None, 1, "no", THING, "complex64", complex, object)

#: Values that are no array of real numbers.
ARRAY = (*NONSENSE, MASKED, np.array([None, 1]), np.array(["a"]), np.array([1j]), [1, "a"], [None])
PARAMETER = (*ARRAY, True, NAN, INF, -INF, np.array([1.0, NAN]), np.ones((2, 2)))
TAU = (*PARAMETER, 0, -1.0, np.array([1.0, -1.0]))
#: The same for arguments of any shape.
FREE = (*ARRAY, True, NAN, INF, -INF, np.array([1.0, NAN]))
FREE_TAU = (*FREE, 0, -1.0, np.array([1.0, -1.0]), np.array([[1.0, 0.0]]))
RATES = (*FREE, -0.1, 1.1, np.array([0.5, -1.0]))


def optional(values: tuple) -> tuple:
    """Remove None, which stands for a default, from the bad values."""
    return tuple(value for value in values if value is not None)


def like(value: Any, *others: Any) -> tuple:
    """Bad values for an array of fixed shape."""
    x = np.asarray(value)
    return (*ARRAY, x[..., None, None], np.zeros((3, *x.shape[1:], 7), x.dtype), *others)


class Arg(NamedTuple):
    """A valid value of an argument, and bad ones."""

    good: Any
    bad: tuple


class Row(NamedTuple):
    """A callable and its arguments. The valid call is "traced" (nothing is compiled), "called" if
    it is cheap, or left to other tests (None)."""

    call: Callable
    args: dict[str, Arg]
    try_it: str | None


def row(call: Callable, try_it: str | None = "traced", /, **args: tuple[Any, tuple]) -> Row:
    return Row(call, {name: Arg(*arg) for name, arg in args.items()}, try_it)


# ------------------------------------------------------------------ good values

KEY_ = jax.random.key(0)
LIF = esn.LIF(10.0, 5.0)
WEIGHTS = np.ones((3, 2))
TWO: dict[str, Any] = {"weights": WEIGHTS, "outputs": (0, 1), "t_max": 20.0}
NET = esn.EventNetwork(LIF, **TWO)
DELAYED = esn.EventNetwork(LIF, **TWO, delays=np.ones(3))
SCAN = esn.discretise(NET, 1.0)
LAYER = esn.EventLinear(LIF, np.ones((1, 2)), t_max=20.0, max_spikes=2)
SEQUENCE = esn.EventSequential([LAYER])
TIMES_IN = np.array([[1.0, INF]])
T, B, C = 5, 4, 3
SPIKES = (np.arange(T * B * C).reshape(T, B, C) % 3 == 0).astype(float)
LABELS = np.array([0, 1, 2, 1])
FIRST = np.array([[1.0, 2.0, INF]] * B)
POTENTIALS = np.linspace(0, 1, B * C * T).reshape(B, C, T)
IMAGES = np.linspace(0, 1, B * 36).reshape(B, 6, 6)
XY = np.full((B, 2), 0.5)
ANIMATION = FuncAnimation.__new__(FuncAnimation)  # constructed, not drawn

IN_TIMES = (*ARRAY, [[NAN, 1.0]], [[-1.0, 1.0]], [[-INF, 1.0]], np.zeros((1, 2), bool))
IN_TIMES += (1.0, np.ones(2), np.ones((2, 2)), np.ones((3, 2, 2)))
WHEN = (*ARRAY, [NAN], [-1.0], [21.0], [INF], 1.0, np.ones((2, 2)))
OUTPUTS = (*ARRAY, 1.9, [1.9], ["0"], [1j], [True, False], [2], [-1], [0, 0], [], NAN, [NAN])
DELAYS = optional(like(np.ones(3), [1.0, NAN, 1.0], [1.0, -1.0, 1.0], [1.0, INF, 1.0], 1.0, True))
MASK = optional((*ARRAY, np.ones((3, 2)), np.ones((2, 2), bool), True, NAN))
SOLVER = (*optional(INSTANCE), diffrax.Tsit5, esn.TaylorQIF(), esn.ExactTheta())
SIZES = (*NONSENSE, [2.5, 3], [1], [], [1, 0], [1, -1], [1, "2"], [1, NAN], [1, True], [1, HUGE])
INIT = (None, 1, NAN, "a", THING, [FUNCTION_] * 5, lambda *_: "a", lambda *_: jnp.ones(7))
NEURON = (*INSTANCE, esn.LIF, np.ones(3))
PSEUDOSPIKES = (*optional(INSTANCE), 2.0, esn.Pseudospikes(np.ones(5), 1.0))
RECORD = (*ARRAY, 1.0, np.ones(3), np.ones((0, B, C)))
LABEL = (*ARRAY, LABELS[:2], LABELS[:, None], LABELS + 0.5, LABELS > 0, LABELS - 1, LABELS + 1)
LENGTHS = (*optional(ARRAY), 2, np.ones(3, int), np.ones(4), np.zeros(4, int), np.full(4, 99))
PAIR = (*NUMBER, -1, 1.5, 2.0, (1,), (1, 2, 3), (1, -1), (1.0, 1), (1, True), (1, "a"))
NOT_ZERO = (*PAIR, 0, (1, 0))
KERNEL = (
    *ARRAY,
    np.ones(3),
    np.ones((1, 1, 2)),
    np.ones((0, 1, 2, 2)),
    np.ones((1, 1, 2, 2), bool),
)
OF_KERNEL = np.ones((1, 2, 2, 2))
IMAGE = (*ARRAY, 1.0, np.ones((1, 2, 2)), np.ones((1, 1, 2, 2)))
TRAINS = (*ARRAY, [], [np.ones(2)], [np.ones((2, 1)), np.ones((3, 1))], [np.ones((2, 1)), "a"])
WEIGHT = optional(like(np.ones(C), [1.0, NAN, 1.0], [1.0, -1.0, 1.0], [1.0, INF, 1.0], 1.0))
CLASSES = (*optional(COUNT), 2)
RATE = (*ARRAY, NAN, INF, -0.1, 1.1, np.ones(C + 1), np.full(C, 2.0))
TARGET = (*ARRAY, NAN, INF, np.ones(7))
LATENCIES = (*ARRAY, NAN, INF, -0.1, 1.1, [0.5, 2.0], [NAN, 0.5])
VALUES = (*ARRAY, NAN, INF, np.array([0.5, NAN]))
ROWS_ = (*ARRAY, 1.0, np.ones((2, 6, 6)), np.ones((0, 6, 6)))
SPEED = (*optional(NUMBER),)
CANVAS = (*optional(COUNT), 3)
CELL = {
    "threshold": (1.0, FREE_TAU),
    "surrogate": (surrogates.ATan(), (*INSTANCE[:-1], surrogates.ATan)),
    "reset": ("set", CHOICE),
    "v_reset": (0.0, (*FREE, 1.0, np.array([0.5, 2.0]))),
    "state_quant": (None, (*optional(FUNCTION), discrete.StateQuant)),
    "inhibition": (False, FLAG),
}
DELAY = {"reset_delay": (True, FLAG)}
LATENCY = {
    "tau": (1.0, POSITIVE),
    "threshold": (0.1, (*POSITIVE, 1.0)),
    "mode": ("log", CHOICE),
    "clip": (False, FLAG),
    "first_spike_time": (0.0, NOT_NEGATIVE),
}
ARCHITECTURE = {
    "neuron": (LIF, NEURON),
    "init": (lambda key, shape, dtype: jnp.ones(shape, dtype), optional(INIT)),
    "key": (KEY_, KEY),
    "readout": (None, optional(NEURON)),
    "t_max": (20.0, POSITIVE),
    "delays": (None, (*DELAYS, np.ones((9, 9)))),
    "pseudospikes": (None, PSEUDOSPIKES),
    "max_events": (9, COUNT),
    "max_steps": (None, optional(COUNT)),
    "queue_capacity": (None, optional(COUNT)),
    "solver": (None, SOLVER),
    "dt0": (None, (*optional(POSITIVE), 0.1)),
    "stepsize_controller": (None, (*optional(INSTANCE), diffrax.ConstantStepSize())),
    "adjoint": (None, optional(INSTANCE)),
    "max_spikes": (None, optional(COUNT)),
}
OF_LAYER = {
    name: ARCHITECTURE[name]
    for name in ("t_max", "max_steps", "solver", "dt0", "stepsize_controller", "adjoint")
}
OF_LAYER |= dict.fromkeys(("max_spikes", "max_events"), (2, optional(COUNT)))
OF_LAYER["truncate"] = (False, FLAG)
THROW = {"throw": (True, FLAG)}
NETWORK = {"in_times": (TIMES_IN, IN_TIMES)} | THROW
LINEAR = np.ones((2, 3))
POINTS = (*ARRAY, np.ones((2, 3)), 1.0)
UNIT_POINTS = (*POINTS, XY - 1, XY + 1, XY * NAN)
PICKS = (*FUNCTION, lambda net: None, lambda net: net.t_max, lambda net: net.weights + 1)
PICKS += (lambda net: net.outputs, lambda net: (net.weights, net.weights))
PARTS = (*INSTANCE, [], [LIF], [("LIF", 2)], [(LIF, 0)], [(LIF, 1.5)], [(LIF, HUGE)])
PARTS += ([(LIF, 1, 2)], [(LIF, NAN)], [(LIF, "a")], [(LIF, 1), (esn.EGRU(1.0, 1.0), 1)])
MATRIX = (*ARRAY, np.ones(3), np.ones((1, 2)), np.ones((0, 0)), np.ones((3, 2), bool))
SEED = (*KEY, -1, True, -(10**400))


def taus(**args: tuple) -> dict[str, tuple]:
    return {"tau_mem": (10.0, TAU), "tau_syn": (5.0, TAU), **args}


def real(*names: str, good: float = 0.0) -> dict[str, tuple]:
    return dict.fromkeys(names, (good, PARAMETER))


NEURONS = {
    "LIF": row(
        esn.LIF,
        **taus(threshold=(1.0, (*PARAMETER, 0.0, -1.0)), reset_mode=("set", CHOICE)),
        **real("v_reset", "bias"),
        v_init=(0.0, optional(PARAMETER)),
    ),
    "ALIF": row(
        esn.ALIF,
        **taus(
            threshold=(1.0, (*PARAMETER, 0.0)), reset_mode=("set", CHOICE), tau_adapt=(9.0, TAU)
        ),
        beta=(0.5, (*PARAMETER, -0.5)),
        **real("v_reset", "bias"),
        v_init=(0.0, optional(PARAMETER)),
    ),
    "EIF": row(
        esn.EIF,
        **taus(threshold=(2.0, (*PARAMETER, 0.0)), sharpness=(0.2, TAU)),
        **real("v_rheobase", "v_rest", "v_reset", "bias"),
        v_init=(0.0, optional(PARAMETER)),
    ),
    "EGRU": row(
        esn.EGRU, **taus(threshold=(0.5, TAU)), **real("bias_u", "bias_r", "bias_z", "c_init")
    ),
    "Izhikevich": row(
        esn.Izhikevich,
        tau_syn=(5.0, TAU),
        threshold=(30.0, (*PARAMETER, -65.0)),
        **real("a", "b", "d", "bias"),
        c=(-65.0, PARAMETER),
        v_init=(0.0, optional(PARAMETER)),
        u_init=(0.0, optional(PARAMETER)),
    ),
    "LeakyIntegrator": row(esn.LeakyIntegrator, **taus(), **real("bias", "v_init")),
    "QIF": row(esn.QIF, **taus(), **real("bias", "v_init")),
    "Theta": row(
        esn.Theta, tau_mem=(10.0, TAU), bias=(1.0, (*PARAMETER, 0.25)), v_init=(0.0, PARAMETER)
    ),
    "Populations": row(
        esn.Populations,
        parts=(
            [(LIF, 2)],
            PARTS,
        ),
    ),
    "Refractory": row(
        esn.Refractory,
        neuron=(LIF, (*NEURON, esn.Populations([(LIF, 1)]))),
        period=(2.0, (*PARAMETER, -1.0)),
    ),
    "Pseudospikes": row(
        esn.Pseudospikes,
        drive=(2.0, optional(PARAMETER)),
        duration=(5.0, optional(POSITIVE)),
        at_t_max=(False, FLAG),
    ),
    "Positive": row(esn.Positive, value=(2.0, (*VALUES, True, 0.0, -1.0))),
    "Bounded": row(
        esn.Bounded,
        value=(0.5, (*VALUES, True, 0.0, 1.0, -1.0, [0.5, 2.0])),
        lower=(0.0, (*NUMBER, 1.0, 2.0, -INF)),
        upper=(1.0, (*NUMBER, 0.0, -1.0, -INF)),
    ),
    "constrain": row(
        esn.constrain,
        tree=(DELAYED, ()),  # any tree
        where=(
            lambda net: net.delays,
            PICKS,
        ),
        wrapper=((0.0, 9.0), (*FUNCTION, lambda x: x, (1.0, 0.0), (0.0, INF), (0.0,), ("a", 1))),
    ),
    "unwrap": row(esn.unwrap, tree=(NET, ())),
}

LAYERS = {
    "EventLinear": row(
        esn.EventLinear,
        neuron=(LIF, NEURON),
        weights=(np.ones((3, 2)), (*ARRAY, np.ones(3), np.ones((0, 2)), np.ones((3, 2), bool))),
        mask=(None, MASK),
        delays=(None, (*DELAYS, np.ones((9, 9)))),
        pseudospikes=(None, PSEUDOSPIKES),
        **OF_LAYER,
    ),
    "EventConv2d": row(
        esn.EventConv2d,
        neuron=(LIF, (*NEURON, esn.EGRU(1.0, 1.0))),
        kernel=(OF_KERNEL, KERNEL),
        mask=(None, (*MASK, np.ones((2, 2), bool))),
        delays=(None, optional(like(OF_KERNEL, -OF_KERNEL, OF_KERNEL * NAN, 1.0))),
        stride=(1, NOT_ZERO),
        padding=(0, PAIR),
        pseudospikes=(None, PSEUDOSPIKES),
        **OF_LAYER,
    ),
    "EventPool2d": row(
        esn.EventPool2d,
        size=(2, NOT_ZERO),
        stride=(None, optional(NOT_ZERO)),
        padding=(0, PAIR),
        max_spikes=(None, optional(COUNT)),
    ),
    "EventFlatten": row(esn.EventFlatten),
    "EventSequential": row(
        esn.EventSequential, layers=([LAYER], (*INSTANCE, [], [LAYER, 1], [None]))
    ),
    "merge": row(esn.merge, trains=([np.ones((2, 1))], TRAINS)),
    "AbstractLayer.ttfs": row(LAYER.ttfs, None, **NETWORK),
    "AbstractLayer.spikes": row(LAYER.spikes, None, max_spikes=(2, COUNT), **NETWORK),
    "AbstractLayer.potentials_at": row(LAYER.potentials_at, None, times=([1.0], WHEN), **NETWORK),
    "AbstractLayer.counts": row(LAYER.counts, None, **NETWORK),
    "AbstractLayer.integrals": row(LAYER.integrals, None, **NETWORK),
    "AbstractLayer.maxima": row(LAYER.maxima, None, **NETWORK),
    "AbstractLayer.simulate": row(LAYER.simulate, None, **NETWORK),
    "EventLinear.as_network": row(LAYER.as_network, max_events=(9, COUNT)),
    "EventSequential.trains": row(SEQUENCE.trains, None, **NETWORK),
    "EventSequential.ttfs": row(SEQUENCE.ttfs, None, **NETWORK),
    "EventSequential.spikes": row(SEQUENCE.spikes, None, max_spikes=(2, COUNT), **NETWORK),
    "EventSequential.potentials_at": row(
        SEQUENCE.potentials_at, None, times=([1.0], WHEN), **NETWORK
    ),
    "EventSequential.counts": row(SEQUENCE.counts, None, **NETWORK),
    "EventSequential.integrals": row(SEQUENCE.integrals, None, **NETWORK),
    "EventSequential.maxima": row(SEQUENCE.maxima, None, **NETWORK),
    "EventSequential.simulate": row(SEQUENCE.simulate, None, **NETWORK),
    "EventSequential.as_network": row(SEQUENCE.as_network, max_events=(9, COUNT)),
    # Calls have no name of their own.
    "call of EventNetwork": row(
        esn.EventNetwork(LIF, **TWO, max_spikes=2).__call__, None, **NETWORK
    ),
    "call of EventLinear": row(LAYER.__call__, None, **NETWORK),
    "call of EventSequential": row(SEQUENCE.__call__, None, **NETWORK),
    "call of EventConv2d": row(
        esn.EventConv2d(LIF, OF_KERNEL, t_max=20.0, max_spikes=2).__call__,
        None,
        in_times=(np.ones((2, 2, 2, 1)), (*IMAGE, np.ones((2, 1, 2, 1)), np.ones((1, 2, 2, 1)))),
        **THROW,
    ),
    "call of EventPool2d": row(
        esn.EventPool2d(2).__call__,
        in_times=(np.ones((1, 2, 2, 1)), (*IMAGE[:-1], np.ones((1, 1, 2, 1)))),
    ),
    "call of EventFlatten": row(
        esn.EventFlatten().__call__, in_times=(np.ones((1, 2, 2, 1)), IMAGE[:-1])
    ),
}

STEPPED = discrete.Sequential(
    [
        discrete.MaskedLinear(LINEAR, LINEAR > 0),
        discrete.Leaky(0.9, reset="zero", reset_delay=False),
    ]
)
GRAPH = esn.to_nir(LAYER)
EVENTS = nir.data_ir.EventData(np.array([[0, 1, -1]]), np.array([[0.001, 0.002, INF]]), 2, 0.02)


def changed(**fields: Any) -> nir.data_ir.EventData:
    return dataclasses.replace(EVENTS, **fields)


EVENT_LISTS = (
    *INSTANCE,
    nir.data_ir.ValuedEventData(
        EVENTS.idx, EVENTS.time, n_neurons=2, t_max=0.02, value=EVENTS.time
    ),
    changed(idx=np.array([[0, 2, -1]])),
    changed(idx=np.array([[0, -2, -1]])),
    changed(time=np.array([[NAN, 0.002, INF]])),
    changed(time=np.array([[-1.0, 0.002, INF]])),
    changed(time=np.array([[INF, 0.002, INF]])),
)
UNITS = {"unit": (1e-3, POSITIVE), "spike_area": (None, optional(POSITIVE))}
EXCHANGE = {
    "to_nir": row(
        esn.to_nir,
        "called",
        model=(LAYER, (*INSTANCE, LIF, esn.EventLinear)),
        input_shape=(None, ("a", NAN, THING, {"a": 1}, FUNCTION_, (1.5,), (-1,), (2,), ("a",))),
        dt=(None, (*optional(POSITIVE), 1.0)),
        **UNITS,
    ),
    "to_nir of a discrete-time model": row(
        lambda dt, spike_area: esn.to_nir(STEPPED, dt=dt, spike_area=spike_area),
        "called",
        dt=(1.0, POSITIVE),
        spike_area=(None, (1.0, NAN)),
    ),
    "from_nir": row(
        lambda graph, t_max, dt, unit, spike_area: esn.from_nir(
            graph, t_max=t_max, dt=dt, unit=unit, spike_area=spike_area
        ),
        "called",
        graph=(GRAPH, INSTANCE),
        t_max=(20.0, POSITIVE),
        dt=(None, (*optional(POSITIVE), 1.0)),
        **UNITS,
    ),
    "to_event_data": row(
        esn.to_event_data,
        "called",
        times=(TIMES_IN, (*ARRAY, 1.0, np.ones(3), [[NAN]], [[-1.0]], [[21.0]])),
        t_max=(20.0, POSITIVE),
        unit=(1e-3, POSITIVE),
    ),
    "from_event_data": row(
        esn.from_event_data,
        "called",
        data=(EVENTS, EVENT_LISTS),
        unit=(1e-3, POSITIVE),
        max_spikes=(None, optional(COUNT)),
    ),
}

DRIVE = {
    "neuron": (LIF, NEURON),
    "t_max": (20.0, POSITIVE),
    "window": (10.0, (*optional(POSITIVE), 21.0)),
}
ON_DATA = {"model": (LAYER, INSTANCE), "in_times": (np.ones((2, 1, 1)), IN_TIMES)}
NETWORKS = {
    "EventNetwork": row(
        esn.EventNetwork,
        **{
            name: arg
            for name, arg in ARCHITECTURE.items()
            if name not in ("init", "key", "readout")
        },
        weights=(
            WEIGHTS,
            MATRIX,
        ),
        mask=(None, MASK),
        outputs=((0, 1), OUTPUTS),
    ),
    "recurrent": row(
        esn.recurrent,
        inputs=(1, (*NUMBER, -1, 1.5)),
        hidden=(1, COUNT),
        outputs=(1, COUNT),
        self_connections=(False, FLAG),
        **ARCHITECTURE,
    ),
    "feedforward": row(
        esn.feedforward,
        sizes=([1, 2], SIZES),
        **{
            name: arg for name, arg in (ARCHITECTURE | OF_LAYER).items() if name != "queue_capacity"
        },
    ),
    "feedforward_network": row(esn.feedforward_network, sizes=([1, 2], SIZES), **ARCHITECTURE),
    "recurrent_mask": row(
        esn.recurrent_mask,
        inputs=(1, (*NUMBER, -1, 1.5)),
        hidden=(1, COUNT),
        outputs=(1, COUNT),
        self_connections=(False, FLAG),
    ),
    "feedforward_mask": row(esn.feedforward_mask, sizes=([1, 2], SIZES)),
    "trainable": row(
        lambda model, names: esn.trainable(model, *names),
        model=(NET, ()),
        names=(("weights",), (*([name] for name in CHOICE), ["flow"])),
    ),
    "init.normal": row(
        esn.init.normal,
        **DRIVE,
        mean=(0.5, NUMBER),
        deviation=(2.0, NOT_NEGATIVE),
    ),
    "init.critical_drive": row(esn.init.critical_drive, **DRIVE),
    "activity": row(esn.activity, None, **ON_DATA),
    "calibrate": row(
        esn.calibrate,
        None,
        **ON_DATA,
        firing=(0.5, (*NUMBER, 0.0, 1.0)),
        spikes=(None, optional(POSITIVE)),
        first_spike=(None, optional(POSITIVE)),
        potential=(1.0, POSITIVE),
    ),
    "EventNetwork.ttfs": row(NET.ttfs, None, **NETWORK),
    "EventNetwork.spikes": row(NET.spikes, None, max_spikes=(2, COUNT), **NETWORK),
    "EventNetwork.potentials_at": row(
        NET.potentials_at,
        None,
        times=([1.0], WHEN),
        **NETWORK,
    ),
    "EventNetwork.as_dense": row(NET.as_dense, None),
    "EventNetwork.counts": row(NET.counts, None, **NETWORK),
    "EventNetwork.integrals": row(NET.integrals, None, **NETWORK),
    "EventNetwork.maxima": row(NET.maxima, None, **NETWORK),
    "EventNetwork.simulate": row(
        NET.simulate,
        None,
        state=(None, (*optional(INSTANCE), DELAYED.initial_state(), NET.initial_state((2,)))),
        **NETWORK,
    ),
    "EventNetwork.initial_state": row(
        NET.initial_state,
        None,
        batch=((), (*NONSENSE, 1.5, NAN, (1.5,), (-1,), (HUGE,), ("a",), (True,), (None,))),
    ),
    "EventProp": row(esn.EventProp, min_speed=(0.0, NOT_NEGATIVE)),
    "TaylorQIF": row(
        esn.TaylorQIF,
        order=(None, (*optional(COUNT), 2, 3, 65)),
        max_turn=(None, (*optional(POSITIVE), 1.6)),
        max_decay=(None, optional(POSITIVE)),
    ),
    "ODEFlow": row(
        esn.ODEFlow,
        solver=(None, (*optional(INSTANCE), diffrax.Tsit5, diffrax.Sil3())),
        dt0=(None, optional(POSITIVE)),
        stepsize_controller=(None, (*optional(INSTANCE), diffrax.StepTo(np.arange(3.0)))),
        nodes=(8, COUNT),
    ),
    "discretise": row(
        esn.discretise,
        net=(NET, (*INSTANCE, LIF, DELAYED, esn.EventNetwork(esn.QIF(10.0, 5.0), **TWO))),
        dt=(1.0, (*POSITIVE, 20.5)),
        surrogate=(None, (*optional(FUNCTION), surrogates.ATan)),
    ),
    "Discretised.bin": row(SCAN.bin, None, in_times=(TIMES_IN, IN_TIMES)),
    "Discretised.simulate": row(SCAN.simulate, None, in_times=(TIMES_IN, IN_TIMES)),
    "Discretised.ttfs": row(SCAN.ttfs, None, in_times=(TIMES_IN, IN_TIMES)),
    "Discretised.spikes": row(
        SCAN.spikes, None, in_times=(TIMES_IN, IN_TIMES), max_spikes=(2, COUNT)
    ),
    "Discretised.potentials_at": row(
        SCAN.potentials_at, None, in_times=(TIMES_IN, IN_TIMES), times=([1.0], WHEN)
    ),
    "summary": row(
        esn.summary,
        "called",
        model=(LAYER, INSTANCE),
        in_shape=((1,), (1, NAN, "a", THING, {"a": 1}, (1.5,), (-1,), (2,), ("a",), (True,))),
    ),
    "operations": row(
        esn.operations,
        None,
        model=(discrete.Sequential([discrete.Leaky(0.9)]), (*INSTANCE, eqx.nn.Identity())),
        inputs=(np.ones((3, 4, 2)), (*ARRAY, 1.0)),
        num_steps=(None, optional(COUNT)),
        key=(None, optional(KEY)),
    ),
    "operations of the event mode": row(
        lambda inputs, num_steps, key: esn.operations(
            SEQUENCE, inputs, num_steps=num_steps, key=key
        ),
        None,
        inputs=(np.ones((2, 1, 1)), IN_TIMES),
        num_steps=(None, (3, "a")),
        key=(None, (3, "a")),
    ),
    "prepare_cpu": row(esn.prepare_cpu, None, devices=(None, (*optional(COUNT),))),
}

SYNAPSES = esn.Synapses([0, 2, 2], [1, 0, 1], [1.0, 2.0, 3.0], (3, 2), [1.0, 2.0, 3.0])
INDICES = (*ARRAY, 1, True, 0.5, [0.0, 1.0, 1.0], [0, 1], [[0, 1, 1]], [0, 1, 3], [0, 1, -1])
EACH = (*ARRAY, True, NAN, INF, [1.0, NAN, 1.0], np.ones(2), np.ones((3, 1)), np.ones(3, bool))
EACH_DELAY = optional((*EACH, -1.0, [1.0, 1.0, -1.0], np.ones((2, 3))))
BCOO_ = BCOO((np.ones(3), np.array([[0, 1], [2, 0], [2, 1]])), shape=(3, 2))
BCOOS = (
    *INSTANCE,
    WEIGHTS,
    BCOO((np.ones(1), np.zeros((1, 2), int)), shape=(2, 3)),  # fewer rows than columns
    BCOO((np.ones((3, 1)), np.zeros((3, 1, 1), int)), shape=(3, 2)),  # a batch axis
    BCOO((np.ones((1, 2)), np.zeros((1, 1), int)), shape=(3, 2)),  # a dense axis
    BCOO((np.ones(1), np.zeros((1, 1), int)), shape=(3,)),
)
POPULATION = (*NONSENSE, MASKED, True, 0, -1, 1.5, [], [0.5], [-1], [[0]], [1, 1], [2**31])
POSITIONS = (*ARRAY, 1.0, np.ones(3), np.ones((0, 2)), np.ones((3, 0)), [[NAN]], [[0.0], [INF]])
RULE = {
    "key": (KEY_, KEY),
    "sources": (3, POPULATION),
    "targets": (range(3), POPULATION),
    "self_connections": (False, FLAG),
}
CONNECTIVITY = {
    "Synapses": row(
        esn.Synapses,
        "called",
        sources=([0, 2, 2], INDICES),
        targets=([1, 0, 1], INDICES),
        weights=(np.ones(3), EACH),
        shape=(
            (3, 2),
            (*INSTANCE, (3,), (3, 2, 1), (2, 3), (3, 0), (3.0, 2), (3, True), (HUGE, 2)),
        ),
        delays=(None, EACH_DELAY),
    ),
    "Synapses.from_dense": row(
        esn.Synapses.from_dense,
        "called",
        weights=(WEIGHTS, (*MATRIX, np.full((3, 2), NAN))),
        mask=(None, MASK),
        delays=(None, (*EACH_DELAY, -np.ones((3, 2)))),
    ),
    "Synapses.from_bcoo": row(
        esn.Synapses.from_bcoo,
        "called",
        matrix=(BCOO_, BCOOS),
        delays=(None, EACH_DELAY),
    ),
    "Synapses.synaptic_delays": row(SYNAPSES.synaptic_delays),
    "Synapses.to_dense": row(SYNAPSES.to_dense),
    "Synapses.mask": row(SYNAPSES.mask),
    "Synapses.dense_delays": row(SYNAPSES.dense_delays),
    "Synapses.out_degrees": row(SYNAPSES.out_degrees),
    "Synapses.in_degrees": row(SYNAPSES.in_degrees),
    "connect.fixed_in_degree": row(
        connect.fixed_in_degree,
        "called",
        degree=(2, (*COUNT, 3)),
        multapses=(False, FLAG),
        **RULE,
    ),
    "connect.fixed_probability": row(
        connect.fixed_probability, "called", probability=(0.5, SHARE), **RULE
    ),
    "connect.one_to_one": row(
        connect.one_to_one,
        "called",
        sources=(3, POPULATION),
        targets=(None, (*optional(POPULATION), 2)),
    ),
    "connect.distance_dependent": row(
        connect.distance_dependent,
        "called",
        positions_from=(np.ones((3, 2)), (*POSITIONS, np.ones((3, 1)))),
        positions_to=(np.ones((3, 2)), (*POSITIONS, np.ones((3, 1)))),
        probability_of_distance=(
            lambda d: 0.5 + 0 * d,
            (*FUNCTION, lambda d: "a", lambda d: d + 2, lambda d: d[:1], lambda d: NAN),
        ),
        max_distance=(None, optional(NOT_NEGATIVE)),
        period=(None, optional((*ARRAY, True, NAN, INF, 0.0, -1.0, [1.0, 0.0], np.ones(3)))),
        **(RULE | {name: (None, (*optional(POPULATION), 2)) for name in ("sources", "targets")}),
    ),
    "connect.join": row(
        connect.join,
        "called",
        connections=(
            [connect.one_to_one(2), connect.one_to_one(3)],
            (*INSTANCE, [], [([0], [1])], connect.one_to_one(2)),
        ),
    ),
}

STEPS = {"lengths": (np.array([1, 2, 3, T]), LENGTHS)}
LOSSES = {
    "accuracy_rate": row(
        losses.accuracy_rate,
        spikes=(SPIKES, RECORD),
        **STEPS,
        labels=(LABELS, LABEL),
        num_classes=(None, CLASSES),
    ),
    "accuracy_temporal": row(
        losses.accuracy_temporal, spikes=(SPIKES, RECORD), **STEPS, labels=(LABELS, LABEL)
    ),
    "sum_populations": row(
        losses.sum_populations, x=(SPIKES, (*ARRAY, 1.0)), num_classes=(3, CLASSES)
    ),
    "ce_rate": row(
        losses.ce_rate,
        spikes=(SPIKES, RECORD),
        **STEPS,
        labels=(LABELS, LABEL),
        weight=(None, WEIGHT),
    ),
    "ce_count": row(
        losses.ce_count,
        spikes=(SPIKES, RECORD),
        **STEPS,
        labels=(LABELS, LABEL),
        num_classes=(None, CLASSES),
        weight=(None, WEIGHT),
    ),
    "mse_count": row(
        losses.mse_count,
        spikes=(SPIKES, RECORD),
        **STEPS,
        labels=(LABELS, LABEL),
        correct_rate=(0.8, SHARE),
        incorrect_rate=(0.1, SHARE),
        num_classes=(None, CLASSES),
        weight=(None, WEIGHT),
    ),
    "soft_counts": row(
        losses.soft_counts, times=(FIRST, (*ARRAY, 1.0)), t_max=(9.0, POSITIVE), tau=(1.0, POSITIVE)
    ),
    "mse_soft_count": row(
        losses.mse_soft_count,
        times=(FIRST, (*ARRAY, 1.0)),
        targets=(np.ones(B), like(np.ones(B))),
        t_max=(9.0, POSITIVE),
        tau=(1.0, POSITIVE),
    ),
    "ce_max_membrane": row(
        losses.ce_max_membrane,
        membranes=(SPIKES, RECORD),
        **STEPS,
        labels=(LABELS, LABEL),
        weight=(None, WEIGHT),
    ),
    "ce_membrane": row(
        losses.ce_membrane,
        membranes=(SPIKES, RECORD),
        **STEPS,
        labels=(LABELS, LABEL),
        weight=(None, WEIGHT),
    ),
    "mse_membrane": row(
        losses.mse_membrane,
        membranes=(SPIKES, RECORD),
        **STEPS,
        targets=(LABELS, (*ARRAY, LABELS[:2], np.ones((B, 1)), LABELS - 1, LABELS + 1)),
        on_target=(1.0, TARGET),
        off_target=(0.0, TARGET),
        weight=(None, WEIGHT),
    ),
    "l1_rate_sparsity": row(
        losses.l1_rate_sparsity,
        spikes=(SPIKES, RECORD),
        **STEPS,
        strength=(1.0, (*ARRAY, NAN, INF, np.ones(3))),
    ),
    "target_rate": row(losses.target_rate, spikes=(SPIKES, RECORD), **STEPS, rate=(0.5, RATE)),
    "rate_range": row(
        losses.rate_range,
        spikes=(SPIKES, RECORD),
        **STEPS,
        lower=(0.1, (*RATE, 0.6)),
        upper=(0.5, (*RATE, 0.05)),
    ),
    "ce_temporal": row(
        losses.ce_temporal,
        spikes=(SPIKES, RECORD),
        **STEPS,
        labels=(LABELS, LABEL),
        inverse=("negate", CHOICE),
        weight=(None, WEIGHT),
    ),
    "first_spike_steps": row(losses.first_spike_steps, spikes=(SPIKES, RECORD), **STEPS),
    "spike_steps": row(
        losses.spike_steps, spikes=(SPIKES, RECORD), **STEPS, count=(2, (*COUNT, T + 1))
    ),
    "mse_temporal": row(
        losses.mse_temporal,
        spikes=(SPIKES, RECORD),
        **STEPS,
        targets=(LABELS, (*ARRAY, LABELS[:2], np.ones((B, 1)), LABELS - 1, LABELS + 1)),
        on_target=(0, (*ARRAY, NAN, INF, [1, 2], [[1]], [])),
        off_target=(-1, (*ARRAY, NAN, INF, [1, 2], [[1]], [])),
        tolerance=(0, NOT_NEGATIVE),
        weight=(None, WEIGHT),
    ),
    "mae_time": row(
        losses.mae_time,
        times=(FIRST, like(FIRST)),
        targets=(FIRST, like(FIRST)),
        t_max=(9.0, POSITIVE),
    ),
    "mse_time": row(
        losses.mse_time,
        times=(FIRST, like(FIRST)),
        targets=(FIRST, like(FIRST)),
        t_max=(9.0, POSITIVE),
    ),
    "van_rossum": row(
        losses.van_rossum,
        times_a=(FIRST, (*ARRAY, 1.0, FIRST[:1])),
        times_b=(FIRST, (*ARRAY, 1.0, FIRST[:1])),
        tau=(1.0, POSITIVE),
    ),
    "accuracy_ttfs": row(
        losses.accuracy_ttfs,
        times=(FIRST, (*ARRAY, 1.0, np.ones((0, C)))),
        labels=(LABELS, LABEL),
        t_max=(9.0, optional(POSITIVE)),
    ),
    "ce_ttfs": row(
        losses.ce_ttfs,
        times=(FIRST, (*ARRAY, 1.0, np.ones((0, C)))),
        labels=(LABELS, LABEL),
        tau0=(1.0, POSITIVE),
        t_max=(9.0, POSITIVE),
        tau1=(1.0, POSITIVE),
        alpha=(0.1, NOT_NEGATIVE),
    ),
    "ce_integrated_potential": row(
        losses.ce_integrated_potential,
        potentials=(POTENTIALS, (*ARRAY, 1.0, np.ones((0, C, T)))),
        labels=(LABELS, LABEL),
        times=(
            np.arange(5.0),
            like(np.arange(5.0), np.zeros(T), -np.arange(5.0), [0, 1, NAN, 2, 3]),
        ),
    ),
    "ce_max_potential": row(
        losses.ce_max_potential,
        potentials=(POTENTIALS, (*ARRAY, 1.0, np.ones((0, C, T)))),
        labels=(LABELS, LABEL),
    ),
}

EVENT_TIMES, EVENT_ROWS = np.array([1.0, 2.0]), np.array([0, 1])
SIGNALS, STEPS_ = np.array([[0.0, 1.0], [1.2, 0.3], [1.6, 0.0]]), np.array([0.0, 1.0, 2.0])
ENCODERS = {
    "spike_targets": row(
        encoders.spike_targets,
        spikes=(SPIKES, (*ARRAY, NAN, [NAN])),
        on_target=(1.0, TARGET),
        off_target=(0.0, TARGET),
    ),
    "ramp_targets": row(
        encoders.ramp_targets,
        spikes=(SPIKES, (*ARRAY, 1.0, [NAN])),
        on_target=(1.0, TARGET),
        off_target=(0.0, TARGET),
    ),
    "one_hot": row(
        encoders.one_hot,
        labels=(LABELS, (*ARRAY, NAN, True, [0.5], [-1], [3], 3)),
        num_classes=(3, COUNT),
        dtype=(float, DTYPE),
    ),
    "targets_rate": row(
        encoders.targets_rate,
        labels=(LABELS, (*ARRAY, NAN, True, [0.5], [-1], [3])),
        num_classes=(3, COUNT),
        num_steps=(4, COUNT),
        correct_rate=(0.5, SHARE),
        incorrect_rate=(0.2, (*SHARE, 0.6)),
        on_target=(1.0, TARGET),
        off_target=(0.0, TARGET),
        first_spike_time=(0, (*NUMBER, -1, 4, 0.5)),
        interpolate=(False, FLAG),
        dtype=(float, DTYPE),
    ),
    "targets_latency": row(
        encoders.targets_latency,
        labels=(LABELS, (*ARRAY, NAN, True, [0.5], [-1], [3])),
        num_classes=(3, COUNT),
        num_steps=(4, COUNT),
        on_target=(1.0, TARGET),
        off_target=(0.0, TARGET),
        interpolate=(False, FLAG),
        normalize=(False, FLAG),
        dtype=(float, DTYPE),
        **LATENCY,
    ),
    "delta": row(
        encoders.delta,
        xs=(SPIKES, (*ARRAY, 1.0, np.ones((0, 2)), [1.0, NAN], [1.0, INF])),
        threshold=(0.1, POSITIVE),
        off_spike=(False, FLAG),
        padding=(False, FLAG),
    ),
    "latency": row(
        encoders.latency,
        x=(IMAGES, LATENCIES),
        num_steps=(4, COUNT),
        normalize=(False, FLAG),
        **LATENCY,
    ),
    "latency_times": row(
        encoders.latency_times,
        x=(IMAGES, LATENCIES),
        last_spike_time=(2.0, (*optional(NOT_NEGATIVE),)),
        **LATENCY,
    ),
    "from_events": row(
        encoders.from_events,
        "called",
        times=(EVENT_TIMES, (*ARRAY, 1.0, [NAN, 1.0], [-1.0, 1.0], [1.0, INF])),
        channels=(EVENT_ROWS, (*ARRAY, 1, [0], [0, 3], [0, -1], [0, 0.5], [[0, 1]])),
        n_channels=(3, COUNT),
        samples=(EVENT_ROWS, optional((*ARRAY, 1, [0], [0, -1], [0, 0.5]))),
        n_samples=(2, optional(COUNT)),
        max_spikes=(2, optional(COUNT)),
    ),
    "to_events": row(
        encoders.to_events, "called", times=(TIMES_IN, (*ARRAY, 1.0, np.ones(3), [[NAN]], [[-1.0]]))
    ),
    "level_crossing_times": row(
        encoders.level_crossing_times,
        "called",
        xs=(SIGNALS, (*ARRAY, 1.0, np.ones((1, 2)), [1.0, NAN, 1.0], [1.0, INF, 1.0])),
        times=(STEPS_, (*ARRAY, 1.0, np.ones(2), [1.0, NAN, 2.0], [-1.0, 0.0, 1.0], [1, 3, 2])),
        threshold=(0.5, POSITIVE),
        max_spikes=(4, (*optional(COUNT), 1)),
    ),
    "population_times": row(
        encoders.population_times,
        x=(IMAGES, (*ARRAY, NAN, [0.5, NAN], INF)),
        n=(4, (*COUNT, 2)),
        low=(0.0, (*ARRAY, NAN, INF, np.ones(7))),
        high=(1.0, (*ARRAY, NAN, INF, np.ones(7), 0.0, -1.0)),
        tau=(1.0, POSITIVE),
        beta=(1.5, POSITIVE),
        threshold=(0.1, SHARE),
    ),
    "rate": row(
        encoders.rate,
        key=(KEY_, KEY),
        x=(IMAGES, (*ARRAY, NAN, [0.5, NAN])),
        num_steps=(4, optional(COUNT)),
        gain=(1.0, TARGET),
        offset=(0.0, TARGET),
        first_spike_time=(0, (*NUMBER, -1, 4, 0.5)),
    ),
}

NOT_A_LIST = (None, 1, NAN, "a", {"a": 1}, THING)
FOLDER = (1, NAN, THING, ["a"], {"a": 1})
WORDS = heidelberg.SpikeTrains(
    np.ones((4, 2, 1), np.float32),
    np.zeros(4, np.int32),
    np.arange(4) + 3,
    np.zeros(4, np.int32),
    ("a",),
)
FRAMES = np.linspace(0, 1, 84).reshape(7, 12)
UNEQUAL = (*((value, LABELS) for value in ROWS_), (), (IMAGES, LABELS[:2]), (1,))
DATA = {
    "data.images.load": row(
        images.load,
        dataset=("digits", CHOICE),
        data_dir=(None, (1, NAN, THING, ["a"], {"a": 1})),
    ),
    "data.arrays.batches": row(
        lambda key, arrays, batch_size, epochs, drop_last: arrays_.batches(
            key, *arrays, batch_size=batch_size, epochs=epochs, drop_last=drop_last
        ),
        "called",
        key=(KEY_, SEED),
        arrays=((IMAGES, LABELS), UNEQUAL),
        batch_size=(2, (*COUNT, 5)),
        epochs=(None, optional(COUNT)),
        drop_last=(True, FLAG),
    ),
    "data.arrays.padded_batches": row(
        lambda arrays, batch_size: arrays_.padded_batches(*arrays, batch_size=batch_size),
        "called",
        arrays=((IMAGES, LABELS), UNEQUAL),
        batch_size=(2, COUNT),
    ),
    "data.membrane.sample": row(
        membrane.sample,
        key=(KEY_, KEY),
        num_steps=(4, COUNT),
        mode=("sqrt", CHOICE),
        num_samples=(None, optional(COUNT)),
    ),
    "data.moving_mnist.default_canvas": row(moving_mnist.default_canvas, size=(8, COUNT)),
    "data.moving_mnist.sequences": row(
        moving_mnist.sequences,
        key=(KEY_, KEY),
        images=(IMAGES, (*ARRAY, np.ones(3), np.ones((0, 0)))),
        num_frames=(3, COUNT),
        canvas=(None, CANVAS),
        speed=(None, SPEED),
    ),
    "data.moving_mnist.batches": row(
        moving_mnist.batches,
        "called",
        key=(KEY_, KEY),
        images=(IMAGES, ROWS_),
        labels=(LABELS, (*ARRAY, LABELS[:2], 1)),
        batch_size=(2, (*COUNT, 5)),
        num_frames=(3, COUNT),
        canvas=(None, CANVAS),
        speed=(None, SPEED),
        epochs=(None, optional(COUNT)),
    ),
    "data.moving_mnist.test_batches": row(
        moving_mnist.test_batches,
        "called",
        key=(KEY_, KEY),
        images=(IMAGES, ROWS_),
        labels=(LABELS, (*ARRAY, LABELS[:2], 1)),
        batch_size=(2, COUNT),
        num_frames=(3, COUNT),
        canvas=(None, CANVAS),
        speed=(None, SPEED),
    ),
    "data.spike_time_regression.target": row(spike_time_regression.target, x=(np.ones(3), ARRAY)),
    "data.spike_time_regression.event_inputs": row(
        spike_time_regression.event_inputs, x=(np.ones(3), ARRAY)
    ),
    "data.spike_time_regression.sample": row(
        spike_time_regression.sample,
        key=(KEY_, KEY),
        shape=((2,), (*NONSENSE, 1.5, NAN, (1.5,), (-1,), (HUGE,), ("a",), (True,), (None,))),
    ),
    "data.spike_time_regression.grid": row(spike_time_regression.grid, n=(5, COUNT)),
    "data.spike_time_regression.batches": row(
        spike_time_regression.batches, "called", key=(KEY_, KEY), batch_size=(2, COUNT)
    ),
    "data.yin_yang.classify": row(yin_yang.classify, xy=(XY, POINTS)),
    "data.yin_yang.sample": row(yin_yang.sample, key=(KEY_, KEY), n=(3, COUNT)),
    "data.yin_yang.generate": row(
        yin_yang.generate,
        None,
        key=(KEY_, KEY),
        train=(3, COUNT),
        validation=(3, COUNT),
        test=(3, COUNT),
    ),
    "data.yin_yang.published": row(
        yin_yang.published, train=(3, COUNT), validation=(3, COUNT), test=(3, COUNT)
    ),
    "data.yin_yang.event_inputs": row(
        yin_yang.event_inputs,
        xy=(XY, UNIT_POINTS),
        t_max=(9.0, POSITIVE),
        bias_time=(0.0, NOT_NEGATIVE),
    ),
    "data.yin_yang.batches": row(
        yin_yang.batches,
        "called",
        key=(KEY_, SEED),
        data=(yin_yang.Samples(XY, LABELS.astype(np.int32)), (*INSTANCE, (XY, LABELS))),
        batch_size=(2, (*COUNT, 5)),
        epochs=(None, optional(COUNT)),
    ),
    "data.mnist.find": row(mnist.find, None, data_dir=(None, FOLDER)),
    "data.heidelberg.find": row(
        heidelberg.find,
        None,
        dataset=("shd", CHOICE),
        split=("train", CHOICE),
        data_dir=(None, FOLDER),
    ),
    "data.japanese_vowels.find": row(japanese_vowels.find, None, data_dir=(None, FOLDER)),
    "data.mnist.read": row(mnist.read, None, data_dir=(None, FOLDER)),
    "data.idx.read": row(idx.read, None, path=("a", (None, *FOLDER))),
    "data.folders.given": row(folders.given, "called", data_dir=(None, FOLDER)),
    "data.folders.find": row(
        folders.find,
        "called",
        folder=("a", (None, *FOLDER)),
        subfolders=(("",), NOT_A_LIST),
        names=(("a",), NOT_A_LIST),
    ),
    "data.heidelberg.read": row(
        heidelberg.read,
        None,
        dataset=("shd", CHOICE),
        split=("train", CHOICE),
        data_dir=(None, FOLDER),
        merge=(1, (*COUNT, 3)),
        thin=(1, COUNT),
        max_spikes=(2, COUNT),
    ),
    "data.heidelberg.draw_speakers": row(
        heidelberg.draw_speakers,
        "called",
        key=(KEY_, KEY),
        data=(WORDS, INSTANCE),
        n=(1, (*COUNT, 4)),
    ),
    "data.heidelberg.split_by_speaker": row(
        heidelberg.split_by_speaker,
        "called",
        data=(WORDS, INSTANCE),
        speakers=([3, 5], (*INSTANCE, [], [9], [3, 4, 5, 6])),
    ),
    "data.heidelberg.synthetic": row(
        heidelberg.synthetic,
        "called",
        key=(KEY_, KEY),
        n_samples=(6, COUNT),
        n_classes=(2, COUNT),
        n_speakers=(3, COUNT),
        n_channels=(2, COUNT),
        max_spikes=(2, COUNT),
        duration=(9.0, POSITIVE),
    ),
    "data.japanese_vowels.read": row(japanese_vowels.read, None, data_dir=(None, FOLDER)),
    "data.japanese_vowels.encode": row(
        japanese_vowels.encode,
        "called",
        series=([FRAMES], (*INSTANCE, [], [1.0], [FRAMES[:, 1:]], [FRAMES * NAN], [FRAMES[0]])),
        mean=(FRAMES[0], like(FRAMES[0], FRAMES[0] * NAN, 1.0)),
        deviation=(FRAMES[0] + 1, like(FRAMES[0], FRAMES[0], 1.0, FRAMES[0] - INF)),
        duration=(9.0, POSITIVE),
        n_spikes=(2.0, POSITIVE),
    ),
}

STEPS = np.array([1, 2, 3])
CURVE = np.array([1.0, 2.0, 3.0])
LAYER = np.array([[1.0, 0.0], [2.0, 0.0]])
VECTOR = like(STEPS, np.ones((0,)))
NAMES = ("a", 1, THING, ["a"], [THING] * C)
FIGURE_TARGET = (*optional(NUMBER), -1, C, 1.5)
NUMBER_OR_NONE = (*optional(NUMBER),)
PLOTS = {
    "plots.activity": row(
        plots.activity,
        counts=({"a": LAYER}, (*INSTANCE[:5], {}, {1: LAYER}, {"b": LAYER}, {"a": "b"}, {"a": 1})),
        first_spikes=(
            {"a": LAYER},
            (*INSTANCE[:5], {}, {1: LAYER}, {"b": LAYER}, {"a": "b"}, {"a": CURVE}),
        ),
        title=("", TEXT),
    ),
    "plots.convergence": row(
        plots.convergence,
        dts=(
            np.array([1.0, 2.0]),
            (*ARRAY, 1.0, [1.0], [1.0, 1.0], [1.0, NAN], [1.0, -1.0]),
        ),
        errors=(np.array([1.0, 2.0]), (*ARRAY, 1.0, [1.0], [1.0, NAN], [1.0, 0.0], [1.0, INF])),
        order=(1, NUMBER),
        x_label=("x", TEXT),
        y_label=("y", TEXT),
        title=("", TEXT),
    ),
    "plots.membranes": row(
        plots.membranes,
        times=(CURVE, VECTOR),
        traces=(np.ones((2, 3)), like(np.ones((2, 3)))),
        outputs=((0,), (*ARRAY, [0.5], [[1]], 1)),
        in_times=((), ARRAY),
        target=(None, NUMBER_OR_NONE),
    ),
    "plots.phase": row(plots.phase, v=(CURVE, ARRAY)),
    "plots.prediction": row(
        plots.prediction, x=(CURVE, VECTOR), target=(CURVE, VECTOR), predicted=(CURVE, VECTOR)
    ),
    "plots.raster": row(
        plots.raster,
        times=(np.array([1.0, INF]), (*ARRAY, [1.0, 2.0, 3.0])),
        sources=(np.array([0, -1]), (*ARRAY, [1, 2, 3], [0.5, 1.0], [[0, 1]])),
        n_neurons=(2, COUNT),
        outputs=((0, 1), (*ARRAY, [0.5], [[1]], 1)),
        t_max=(9.0, POSITIVE),
        target=(None, NUMBER_OR_NONE),
        shown=(None, optional((*ARRAY, [0.5], [[1]], 1))),
        labels=(None, NAMES),
        correct=(None, FIGURE_TARGET),
    ),
    "plots.animation": row(
        plots.animation,
        None,
        images=(np.ones((T, 2, 2)), optional((*ARRAY, 1.0, np.ones((2, 2, 2))))),
        spikes=(np.ones((T, 2)), optional((*ARRAY, 1.0, np.ones(3)))),
        title=("", TEXT),
        interval=(100.0, POSITIVE),
    ),
    "plots.count_animation": row(
        plots.count_animation,
        None,
        spikes=(SPIKES[:, 0], (*ARRAY, 1.0, np.ones(3))),
        target=(None, FIGURE_TARGET),
        labels=(None, NAMES),
        title=("", TEXT),
        interval=(100.0, POSITIVE),
    ),
    "plots.frames": row(
        plots.frames,
        images=(np.ones((C, 2, 2)), (*ARRAY, 1.0, np.ones(3))),
        titles=(None, NAMES),
        row_titles=(None, ("a", 1, THING, [1, 2], [THING])),
    ),
    "plots.save_gif": row(
        plots.save_gif,
        None,
        animation=(ANIMATION, INSTANCE),
        path=("a.gif", INSTANCE[:3]),
        fps=(10, COUNT),
    ),
    "plots.parameter_history": row(
        plots.parameter_history,
        steps=(STEPS, VECTOR),
        weights=(np.ones((3, 2)), like(np.ones((3, 2)))),
        biases=(np.ones((3, 2)), like(np.ones((3, 2)))),
    ),
    "plots.weights": row(
        plots.weights,
        before=({"a": CURVE}, (*INSTANCE[:5], {}, {"b": CURVE}, {1: CURVE}, {"a": "b"}, {"a": 1j})),
        after=({"a": CURVE}, (*INSTANCE[:5], {}, {"b": CURVE}, {1: CURVE}, {"a": "b"}, {"a": [1]})),
    ),
    "plots.confusion": row(
        plots.confusion,
        matrix=(np.eye(C), like(np.eye(C))),
        labels=(None, NAMES),
        title=("", TEXT),
    ),
    "plots.curves": row(
        plots.curves,
        named=({"a": CURVE}, (*INSTANCE[:5], {}, {1: CURVE}, {"a": "b"}, {"a": np.ones((2, 2))})),
        x=(None, (*INSTANCE[1:5], {"b": CURVE}, {1: CURVE}, {"a": "b"}, {"a": [1]})),
        x_label=("x", TEXT),
        y_label=("y", TEXT),
        log=(False, FLAG),
        window=(None, optional(COUNT)),
        title=("", TEXT),
    ),
    "plots.loss_curve": row(plots.loss_curve, losses=(CURVE, (*ARRAY, 1.0, np.ones((2, 2)), []))),
    "plots.membrane_traces": row(
        plots.membrane_traces,
        membranes=(SPIKES[:, 0], (*ARRAY, 1.0, np.ones(3), np.ones((3, 31)))),
        spikes=(None, optional(like(SPIKES[:, 0]))),
        threshold=(None, optional((*ARRAY, np.ones(C + 1)))),
        labels=(None, NAMES),
        title=("", TEXT),
    ),
    "plots.spike_counts": row(
        plots.spike_counts,
        spikes=(SPIKES[:, 0], (*ARRAY, 1.0, np.ones((3, 2, 2)))),
        target=(None, FIGURE_TARGET),
        labels=(None, NAMES),
        title=("", TEXT),
    ),
    "plots.spike_raster": row(
        plots.spike_raster,
        spikes=(SPIKES[:, 0], (*ARRAY, 1.0, np.ones(3), {"a": "b"}, {})),
        title=("", TEXT),
        target=(None, FIGURE_TARGET),
    ),
    "plots.target_trace": row(
        plots.target_trace,
        times=(CURVE, VECTOR),
        target=(CURVE, VECTOR),
        output=(CURVE, VECTOR),
        x_label=("x", TEXT),
        y_label=("y", TEXT),
        title=("", TEXT),
    ),
}

X = (*ARRAY, np.ones(3, int), np.ones(3, bool))
SURROGATES = {
    "surrogates.ATan": row(surrogates.ATan, alpha=(2.0, FREE_TAU)),
    "surrogates.FastSigmoid": row(surrogates.FastSigmoid, slope=(2.0, FREE_TAU)),
    "surrogates.Sigmoid": row(surrogates.Sigmoid, slope=(2.0, FREE_TAU)),
    "surrogates.StraightThrough": row(surrogates.StraightThrough),
    "surrogates.Heaviside": row(surrogates.Heaviside),
    "surrogates.Triangular": row(
        surrogates.Triangular, width=(2.0, FREE_TAU), height=(1.0, FREE_TAU)
    ),
    "surrogates.SpikeRateEscape": row(
        surrogates.SpikeRateEscape, beta=(2.0, FREE_TAU), slope=(1.0, FREE_TAU)
    ),
    "surrogates.SparseFastSigmoid": row(
        surrogates.SparseFastSigmoid, slope=(2.0, FREE_TAU), boundary=(1.0, FREE)
    ),
    "surrogates.StochasticSpike": row(
        surrogates.StochasticSpike, mean=(0.0, FREE), variance=(0.2, (*FREE, -1.0))
    ),
    "surrogates.LeakySpike": row(surrogates.LeakySpike, slope=(0.1, FREE)),
    "surrogates.Custom": row(surrogates.Custom, function=(jnp.ones_like, FUNCTION)),
    "surrogates.ATan.__call__": row(surrogates.ATan().__call__, x=(np.ones(3), X), key=(None, ())),
}

LEAKY = discrete.Leaky(0.9)
LSTM = eqx.nn.LSTMCell(2, 2, key=KEY_)
LINEAR_2 = eqx.nn.Linear(2, 2, key=KEY_)
NO_RESET = {name: CELL[name] for name in ("threshold", "surrogate", "inhibition")}
NORMALISED = discrete.BatchNorm(2)
IN_STEPS = {
    "delays": (1.0, (*FREE, -1.0, 4.0, np.array([1.0, 4.0]))),
    "max_delay": (3, COUNT),
    "width": (1.0, (*FREE, 0.5, np.ones(2))),
}
CONV = eqx.nn.Conv2d(2, 4, 3, padding=1, key=KEY_)
UNKNOWN = ("a", b"beta", None, 1, NAN, THING, ["beta"], np.ones(2))
STACK = discrete.Sequential([LEAKY])
RUN = {
    "model": (LEAKY, (*INSTANCE, discrete.Leaky, eqx.nn.Identity())),
    "num_steps": (None, optional(COUNT)),
    "layers": (-1, (*NUMBER, 1.5, 7, [7], [0, True], [])),
    "state": (None, ()),  # a tree of the model's own structure
    "key": (None, optional(KEY)),
    "parallel": (False, FLAG),
    "checkpoint_every": (None, optional(COUNT)),
    "truncate_every": (None, optional(COUNT)),
    "record": ((), (*TEXT, "", [""], ["mem", 1], "syn", ["mem.x"])),
}
DISCRETE = {
    "discrete.Leaky": row(discrete.Leaky, beta=(0.9, RATES), graded=(1.0, FREE), **CELL, **DELAY),
    "discrete.ALIF": row(
        discrete.ALIF,
        beta=(0.9, RATES),
        rho=(0.95, RATES),
        strength=(0.1, (*FREE, -1.0)),
        **CELL,
    ),
    "discrete.DeltaLeaky": row(discrete.DeltaLeaky, beta=(0.9, RATES), **NO_RESET),
    "discrete.LeakyParallel": row(
        discrete.LeakyParallel, beta=(0.9, RATES), graded=(1.0, FREE), **NO_RESET
    ),
    "discrete.AssociativeLeaky": row(
        discrete.AssociativeLeaky,
        to_v=(LINEAR_2, (*INSTANCE, LSTM)),
        to_k=(LINEAR_2, (*INSTANCE, LSTM)),
        to_alpha=(LINEAR_2, (*INSTANCE, LSTM, eqx.nn.Linear(2, 3, key=KEY_))),
        to_q=(None, (*optional(INSTANCE), LSTM, LINEAR_2)),
        **NO_RESET,
    ),
    "discrete.LeakyIntegrator": row(discrete.LeakyIntegrator, beta=(0.9, RATES)),
    "discrete.Synaptic": row(
        discrete.Synaptic, alpha=(0.9, RATES), beta=(0.8, RATES), **CELL, **DELAY
    ),
    "discrete.Alpha": row(discrete.Alpha, alpha=(0.9, RATES), beta=(0.8, RATES), **CELL),
    "discrete.RLeaky": row(
        discrete.RLeaky,
        beta=(0.9, RATES),
        feedback=(discrete.OneToOne(), FUNCTION),
        **CELL,
        **DELAY,
    ),
    "discrete.RSynaptic": row(
        discrete.RSynaptic,
        alpha=(0.9, RATES),
        beta=(0.8, RATES),
        feedback=(discrete.OneToOne(), FUNCTION),
        **CELL,
        **DELAY,
    ),
    "discrete.Lapicque": row(
        discrete.Lapicque,
        beta=(None, optional(RATES)),
        resistance=(5.0, optional(FREE_TAU)),
        capacitance=(1.0, optional(FREE_TAU)),
        time_step=(1.0, FREE_TAU),
        **CELL | {"surrogate": (None, optional(CELL["surrogate"][1]))},
    ),
    "discrete.BatchNorm": row(
        discrete.BatchNorm,
        channels=(3, COUNT),
        num_steps=(None, optional(COUNT)),
        eps=(1e-5, POSITIVE),
        inference=(False, FLAG),
    ),
    "discrete.with_statistics": row(
        discrete.with_statistics,
        model=(NORMALISED, (*INSTANCE, LEAKY)),
        state=(NORMALISED.init_state(jnp.ones(2)), (*INSTANCE, discrete.LeakyState(jnp.ones(2)))),
        momentum=(0.1, (*SHARE, 0.0)),
    ),
    "discrete.Delay": row(discrete.Delay, **IN_STEPS),
    "discrete.DelayedLinear": row(
        discrete.DelayedLinear, linear=(LINEAR_2, (*INSTANCE, LSTM)), **IN_STEPS
    ),
    "discrete.SLSTM": row(discrete.SLSTM, lstm=(LSTM, (*INSTANCE, LSTM.weight_ih)), **CELL),
    "discrete.SConv2dLSTM": row(
        discrete.SConv2dLSTM,
        conv=(CONV, (*INSTANCE, LSTM, eqx.nn.Conv2d(1, 1, 3, key=KEY_))),
        pool=(None, optional(FUNCTION)),
        **CELL,
    ),
    "discrete.Frozen": row(discrete.Frozen, layer=(LEAKY, FUNCTION)),
    "discrete.MaskedLinear": row(
        discrete.MaskedLinear,
        weight=(LINEAR, (*ARRAY, np.ones(3))),
        mask=(LINEAR > 0, (*ARRAY, np.ones((2, 3)), np.ones((3, 3), bool))),
        bias=(None, optional((*ARRAY, np.ones(3)))),
    ),
    "discrete.OneToOne": row(discrete.OneToOne, v=(1.0, FREE)),
    "discrete.StateQuant": row(
        discrete.StateQuant,
        num_bits=(4, (*COUNT, 17)),
        uniform=(False, FLAG),
        thr_centered=(True, FLAG),
        threshold=(1.0, POSITIVE),
        lower_limit=(0.1, NOT_NEGATIVE),
        upper_limit=(0.1, NOT_NEGATIVE),
        multiplier=(None, optional(POSITIVE)),
    ),
    "discrete.Sequential": row(
        discrete.Sequential,
        layers=([LEAKY], (*INSTANCE, [], [1], [None], [discrete.Leaky])),
    ),
    "discrete.trainable": row(
        lambda model, names: discrete.trainable(model, *names),
        model=(LEAKY, (*INSTANCE, discrete.Leaky)),
        names=((), tuple([name] for name in UNKNOWN)),
    ),
    "discrete.run": row(
        discrete.run,
        None,
        xs=(np.ones((3, 2)), (*ARRAY, 1.0)),
        lengths=(None, optional((*COUNT, 4, np.ones(4, int)))),
        **RUN,
    ),
    "discrete.run_batch": row(
        discrete.run_batch,
        None,
        xs=(np.ones((3, 4, 2)), (*ARRAY, 1.0)),
        lengths=(None, LENGTHS),
        **RUN,
    ),
}


def _loss(model, batch):
    return jnp.sum(model)


TRAIN = {
    "train.make_step": row(
        train.make_step,
        loss_fn=(_loss, FUNCTION),
        optimizer=(optax.sgd(0.1), INSTANCE),
        filter_spec=(eqx.is_inexact_array, ()),  # any tree
        devices=(None, (1, NAN, "a", THING, [], [1], jax.devices)),
    ),
    "train.fit": row(
        train.fit,
        None,
        model=(jnp.ones(3), ()),
        batches=([np.ones((2, 3))] * 3, (None, 1, NAN, THING, [], FUNCTION_, ["a"], [[]])),
        loss_fn=(_loss, FUNCTION),
        optimizer=(optax.sgd(0.1), INSTANCE),
        steps=(3, COUNT),
        key=(None, optional(KEY)),
        steps_per_dispatch=(1, COUNT),
        filter_spec=(eqx.is_inexact_array, ("a", NAN, [True, False], False, lambda x: False)),
        devices=(None, (1, NAN, "a", THING, [], [1], [jax.devices()[0]] * 2)),
        snapshot=(None, optional(FUNCTION)),
        snapshot_every=(None, optional(COUNT)),
        average=(None, (*optional(COUNT), 4)),
        monitor=(None, optional(FUNCTION)),
        outputs=(None, optional(FUNCTION)),
        gradient_norms=(False, FLAG),
        callbacks=((), (None, 1, NAN, THING, FUNCTION_, [1], [None])),
        checkpoint=(None, (1, NAN, ["a"], THING)),
        checkpoint_every=(None, optional(COUNT)),
        resume=(False, FLAG),
        progress=(False, FLAG),
    ),
    "train.Evaluation": row(
        train.Evaluation,
        None,
        fn=(jnp.sum, FUNCTION),
        every=(1, COUNT),
        patience=(None, optional(COUNT)),
        larger_is_better=(True, FLAG),
    ),
    "train.TensorBoard": row(train.TensorBoard, None, folder=("runs", INSTANCE[:3])),
    "train.diagnose": row(
        train.diagnose,
        "called",
        loss=(0.5, optional((*ARRAY, True, [0.5], np.ones((2, 2))))),
        model=(np.ones(3), ()),  # any tree, as the next ones
        grads=(np.ones(3), ()),
        outputs=(FIRST, optional((*ARRAY, 1.0, np.ones(3), np.ones((0, 3)), np.ones((1, 2, 3))))),
        batch=(np.ones(3), ()),
    ),
}

ROWS = {
    **NEURONS,
    **EXCHANGE,
    **LAYERS,
    **NETWORKS,
    **CONNECTIVITY,
    **LOSSES,
    **ENCODERS,
    **DATA,
    **PLOTS,
    **SURROGATES,
    **DISCRETE,
    **TRAIN,
}

#: Records returned by the package, flows and adjoints without arguments, and base classes.
NO_ROW = {
    "AbstractAdjoint",
    "AbstractBiased",
    "AbstractClampable",
    "AbstractDrivable",
    "AbstractFlow",
    "AbstractLaneFlow",
    "AbstractLayer",
    "AbstractNeuron",
    "AbstractReadoutFlow",
    "AbstractWrapper",
    "Activity",
    "Autodiff",
    "Discretised",
    "Events",
    "ExactIntegrator",
    "ExactLIF",
    "ExactTheta",
    "LayerActivity",
    "LayerOperations",
    "LayerSummary",
    "NetworkState",
    "Operations",
    "Solution",
    "Status",
    "Summary",
    "connect.Connections",
    "data.heidelberg.SpikeTrains",
    "data.images.ImageData",
    "data.japanese_vowels.Utterances",
    "data.yin_yang.Samples",
    "data.yin_yang.YinYangData",
    "discrete.AbstractCell",
    "discrete.ALIFState",
    "discrete.AbstractResettingCell",
    "discrete.AbstractSpikingCell",
    "discrete.AssociativeState",
    "discrete.AlphaState",
    "discrete.BatchNormState",
    "discrete.DelayState",
    "discrete.LeakyState",
    "discrete.RLeakyState",
    "discrete.RSynapticState",
    "discrete.Run",
    "discrete.SLSTMState",
    "discrete.SynapticState",
    "surrogates.AbstractSurrogate",
    "train.Diagnosis",
    "train.FitResult",
    "train.Progress",
}
