"""Exchange with NIR: round trips, graphs of snnTorch, spikes of the equations, and refusals."""

import io
import pathlib
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import eventsnn as esn
from eventsnn import discrete
from helpers.registry import linear

FIXTURES = np.load(pathlib.Path(__file__).parent / "fixtures" / "nir.npz")
OPTIONS = {"t_max": 40.0, "max_spikes": 8}


def through_file(graph, **options):
    nir.write(file := io.BytesIO(), graph)
    return nir.read(file, **options)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def positive(*shape, seed=0, low=3.0, high=20.0):
    return np.random.default_rng(seed).uniform(low, high, shape)


# ------------------------------------------------------------------ round trips

LIF = esn.LIF(positive(4), 5.1, 1.1, v_reset=-0.1, bias=draw(4) / 5)
READOUT = esn.LeakyIntegrator(20.3, positive(2), bias=0.3)
MIXED = esn.Populations([(LIF, 4), (esn.LIF(7.7, 3.3), 3), (READOUT, 2)])


def layer(neuron, n_in, n, **options):
    return esn.EventLinear(neuron, 2 * draw(n_in, n), **OPTIONS | options)


def conv(**options):
    neuron = esn.LIF(np.array([9.1, 12.7]), 4.9)
    return esn.EventConv2d(neuron, 2 + draw(2, 1, 3, 3), **OPTIONS | options)


def net(neuron=LIF, n=4, n_in=2, mask=None, outputs=None, **options):
    weights = 2 * draw(n + n_in, n)
    if mask is not None:
        weights = np.where(mask, weights, 0)
    outputs = range(n) if outputs is None else outputs
    return esn.EventNetwork(neuron, weights, mask, outputs=outputs, t_max=40.0, **options)


def silent(model):
    """Network whose neurons have no synapses to each other."""
    return eqx.tree_at(lambda m: m.weights, model, model.weights.at[: model.n_neurons].set(0.0))


def spiking(rows, n=9, n_in=2, seed=1):
    """Mask of a network in which the neurons of the last part, `n - rows`, never fire."""
    mask = np.random.default_rng(seed).random((n + n_in, n)) < 0.6
    mask[rows:n] = False
    return mask


AXONAL = np.where(np.isin(np.arange(11), (7, 8)), 0.0, positive(11, low=0.0))
EVENT = {
    "layer": (layer(LIF, 3, 4), {}),
    "readout": (layer(READOUT, 3, 2), {}),
    "mask": (layer(LIF, 3, 4, mask=np.ones((3, 4), bool)), {}),
    "delays": (layer(LIF, 3, 4, delays=positive(3)), {}),
    "float32": (layer(LIF, 3, 4, delays=positive(3)), {}),
    "sequence": (esn.EventSequential([layer(LIF, 3, 4), layer(READOUT, 4, 2)]), {}),
    "one": (esn.EventSequential([layer(LIF, 3, 4)]), {}),
    "conv": (
        esn.EventSequential(
            [conv(stride=2, padding=1), esn.EventPool2d(2), esn.EventFlatten(), layer(LIF, 8, 4)]
        ),
        {"input_shape": (1, 8, 8)},
    ),
    "unit": (layer(LIF, 3, 4, delays=positive(3)), {"unit": 0.7}),
    "spike_area": (layer(LIF, 3, 4), {"spike_area": 3e-4}),
    "network": (net(), {}),
    "no inputs": (net(n_in=0), {}),
    "network of readouts": (silent(net(READOUT, 2)), {}),
    "some outputs": (net(outputs=(2, 0)), {}),
    "recurrent mask": (net(mask=draw(6, 4) > 0), {}),
    "populations": (net(MIXED, 9, mask=spiking(7), outputs=(7, 8)), {}),
    "no feedback": (net(mask=np.repeat([False, True], [4, 2])[:, None].repeat(4, 1)), {}),
    "outputs of two": (net(MIXED, 9, mask=spiking(7), outputs=(8, 1, 2, 7)), {}),
    "axonal": (net(MIXED, 9, mask=spiking(7), outputs=(7, 8), delays=AXONAL), {}),
}
EVENT["float32"] = (
    jax.tree.map(lambda x: x.astype(np.float32) if eqx.is_array(x) else x, EVENT["float32"][0]),
    {},
)


def options_of(model):
    return {"t_max": 40.0} if isinstance(model, esn.EventNetwork) else OPTIONS


@pytest.mark.parametrize("name", EVENT)
def test_the_round_trip_of_the_event_mode_is_exact(name):
    model, units = EVENT[name]
    graph = esn.to_nir(model, **units)
    units = {k: v for k, v in units.items() if k != "input_shape"}
    for given in (graph, through_file(graph)):
        assert eqx.tree_equal(esn.from_nir(given, **options_of(model), **units), model)


@pytest.mark.parametrize("name", ["sequence", "conv", "delays", "axonal", "outputs of two"])
def test_graphs_without_metadata_have_the_same_spikes_and_potentials(name):
    model, units = EVENT[name]
    graph = esn.to_nir(model, **units)
    graph.metadata = {}
    for node in graph.nodes.values():
        node.metadata = {}
    back, options = esn.from_nir(graph, **options_of(model)), {"throw": False}
    assert isinstance(back, esn.EventNetwork | esn.EventSequential)
    x = np.sort(
        positive(*units.get("input_shape", (3 if name in ("sequence", "delays") else 2,)), 3)
    )
    np.testing.assert_allclose(back.ttfs(x, **options), model.ttfs(x, **options), rtol=1e-9)
    found, expected = (m.potentials_at(x, [9.0, 30.0], **options) for m in (back, model))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_network_without_mask_comes_back_without_mask():
    model = net(esn.Populations([(LIF, 4), (READOUT, 2)]), 6, outputs=(4, 5), max_events=3000)
    back = esn.from_nir(esn.to_nir(model), t_max=40.0, max_events=3000)
    x = np.sort(positive(2, 5, low=0.0))
    assert back.mask is None and not np.any(back.weights[4:6])
    assert np.array_equal(back.weights[:4], model.weights[:4])
    assert np.array_equal(back.potentials_at(x, [9.0, 20.0]), model.potentials_at(x, [9.0, 20.0]))


def test_wrapped_parameters_are_written_as_values():
    model = esn.constrain(layer(LIF, 3, 4), lambda m: (m.weights, m.neuron.tau_mem), bounded)
    back = esn.from_nir(esn.to_nir(model), **OPTIONS)
    assert eqx.tree_equal(back, esn.unwrap(model))


def bounded(x):
    return esn.Bounded(x, -50.0, 50.0)


def test_changed_fields_of_a_node_are_used():
    graph = esn.to_nir(layer(LIF, 3, 4, mask=np.array(draw(3, 4) > 0)))
    graph.nodes["layer_0_neurons"].tau_mem = np.full(4, 0.008)
    graph.nodes["layer_0_weights"].weight = np.ones((4, 3))
    back = esn.from_nir(graph, **OPTIONS)
    np.testing.assert_allclose(back.neuron.tau_mem, 8.0, rtol=1e-15)
    assert back.mask is None and np.all(back.weights == 1) and back.neuron.tau_syn == 5.1


def test_subgraphs_are_read():
    inner = esn.to_nir(layer(LIF, 3, 4))
    weights, neurons = inner.nodes["layer_0_weights"], inner.nodes["layer_0_neurons"]
    sub = nir.NIRGraph(
        {"in": nir.Input(np.array([4])), "n": neurons, "out": nir.Output(np.array([4]))},
        [("in", "n"), ("n", "out")],
    )
    ends = {"i": nir.Input(np.array([3])), "o": nir.Output(np.array([4]))}
    edges = [("i", "w"), ("w", "sub"), ("sub", "o")]
    graph = nir.NIRGraph({**ends, "w": weights, "sub": sub}, edges, type_check=False)
    back = esn.from_nir(graph, **OPTIONS)
    assert eqx.tree_equal(back, esn.EventSequential([layer(LIF, 3, 4)]))


def test_a_kernel_that_is_not_square():
    model = esn.EventConv2d(esn.LIF(9.0, 5.0), draw(2, 1, 3, 2), **OPTIONS)
    graph = through_file(esn.to_nir(model, input_shape=(1, 6, 7)), type_check=False)
    assert eqx.tree_equal(esn.from_nir(graph, **OPTIONS), model)


# ------------------------------------------------------------------ equations of NIR


def integrate(graph, in_times, t_end, area=1.0):
    """Spike times in seconds of one recurrent population, by integration of the NIR equations."""
    neurons, w_in, w_rec = (
        graph.nodes[name] for name in ("neurons_0", "input_to_neurons_0", "neurons_0_to_neurons_0")
    )
    n = len(neurons.tau_mem)

    def derivative(t, y):
        v, i = y[:n], y[n:]
        return np.concatenate(
            [(neurons.v_leak - v + neurons.r * i) / neurons.tau_mem, -i / neurons.tau_syn]
        )

    def crossing(k):
        def gap(t, y):
            return y[k] - neurons.v_threshold[k]

        gap.terminal, gap.direction = True, 1
        return gap

    def received(y, weights):
        return np.concatenate([y[:n], y[n:] + neurons.w_in * weights * area / neurons.tau_syn])

    arrivals = sorted((t, c) for c, row in enumerate(in_times) for t in row if t < t_end)
    t, y, spikes = 0.0, np.concatenate([neurons.v_reset, np.zeros(n)]), [[] for _ in range(n)]
    while t < t_end:
        stop = arrivals[0][0] if arrivals else t_end
        options = {"rtol": 1e-11, "atol": 1e-13, "events": [crossing(k) for k in range(n)]}
        out = solve_ivp(derivative, (t, stop), y, **options) if stop > t else None
        if out is not None:
            t, y = out.t[-1], out.y[:, -1]
        fired = [] if out is None else [k for k in range(n) if len(out.t_events[k])]
        for k in fired:
            spikes[k].append(t)
            y[k] = neurons.v_reset[k]
            y = received(y, w_rec.weight[:, k])
        if not fired and arrivals:
            y = received(y, w_in.weight[:, arrivals.pop(0)[1]])
    return spikes


@pytest.mark.parametrize("area", [1.0, 1e-4])
def test_spikes_are_those_of_the_equations_of_nir(area):
    model = net(outputs=range(4), max_events=200)
    model = eqx.tree_at(lambda m: m.weights, model, model.weights.at[4:].set(2 + draw(2, 4) ** 2))
    in_times = np.sort(positive(2, 4, low=0.0, high=30.0))
    graph = esn.to_nir(model, spike_area=area)
    expected = integrate(graph, 1e-3 * in_times, 0.04, area)
    found = np.asarray(model.spikes(in_times, 30))
    assert sum(map(len, expected)) > 10
    for row, times in zip(found, expected, strict=True):
        np.testing.assert_allclose(row[np.isfinite(row)], 1e3 * np.array(times), rtol=1e-7)


def test_the_weight_of_another_resistance_and_input_weight():
    graph = esn.to_nir(layer(LIF, 3, 4))
    node = graph.nodes["layer_0_neurons"]
    node.r, node.w_in = np.full(4, 3.0), np.full(4, 0.5)
    graph.nodes["layer_0_weights"].weight = np.arange(12).reshape(4, 3)  # integers
    weights = esn.from_nir(graph, **OPTIONS).weights
    expected = 3.0 * 0.5 / 5.1e-3 * np.arange(12.0).reshape(4, 3).T
    np.testing.assert_allclose(weights, expected, rtol=1e-14)


# ------------------------------------------------------------------ the discrete-time mode

SNNTORCH = sorted({name.removesuffix("_in") for name in FIXTURES if name.endswith("_in")})
SUBTRACT = {"reset": "subtract", "reset_delay": True}


@pytest.mark.parametrize("name", SNNTORCH)
def test_graphs_of_snntorch_give_its_spikes_and_membrane_potentials(name):
    graph = nir.read(io.BytesIO(FIXTURES[f"{name}_graph"].tobytes()))
    # The graph does not contain the reset: snnTorch writes v_reset = 0 for both.
    own = {} if name == "leaky_zero" else SUBTRACT
    model = esn.from_nir(graph, dt=0.1, **own)
    cells = [i for i, x in enumerate(model.layers) if isinstance(x, discrete.AbstractCell)]
    found = discrete.run_batch(model, jnp.asarray(FIXTURES[f"{name}_in"]), layers=cells)
    for i, spikes, potentials in zip(cells, found.spikes, found.membranes, strict=True):
        np.testing.assert_array_equal(spikes, FIXTURES[f"{name}_spikes_{i}"])
        np.testing.assert_allclose(potentials, FIXTURES[f"{name}_potentials_{i}"], atol=2e-6)


def test_graphs_of_snntorch_do_not_contain_the_reset():
    for name in ("leaky", "leaky_zero"):  # by subtraction after one step, and to zero at once
        graph = nir.read(io.BytesIO(FIXTURES[f"{name}_graph"].tobytes()))
        assert not graph.nodes["1"].v_reset.any()


RESET = {"reset": "zero", "reset_delay": False}
BETAS = np.array([0.3, 0.71, 0.9])


def dense(n_in, n_out, seed=0):
    return linear(n_in, n_out, np.random.default_rng(seed))


def image_layers():
    weights = eqx.nn.Conv2d(1, 2, 3, stride=2, padding=1, key=jax.random.key(0))
    cell = discrete.Leaky(jnp.array([0.4, 0.9])[:, None, None], **RESET)
    return [weights, cell, eqx.nn.AvgPool2d(2, 2), jnp.ravel, dense(8, 3)]


DISCRETE = {
    "Leaky": ([dense(2, 3), discrete.Leaky(BETAS, threshold=BETAS + 1, **RESET)], {}),
    "Synaptic": ([dense(2, 3), discrete.Synaptic(0.33, BETAS, **RESET)], {}),
    "RLeaky": ([dense(2, 3), discrete.RLeaky(0.77, dense(3, 3), **RESET)], {}),
    "RSynaptic": (
        [dense(2, 3), discrete.RSynaptic(0.2, 0.7, discrete.OneToOne(BETAS), **RESET)],
        {},
    ),
    "LeakyIntegrator": ([dense(2, 3), discrete.LeakyIntegrator(0.9)], {}),
    "MaskedLinear": ([discrete.MaskedLinear(np.tri(3) + np.eye(3), np.tri(3) > 0)], {}),
    "scale": ([discrete.OneToOne(BETAS), discrete.Leaky(BETAS, **RESET)], {"input_shape": (3,)}),
    "image": ([*image_layers(), discrete.Leaky(BETAS, **RESET)], {"input_shape": (1, 8, 8)}),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_the_round_trip_of_the_discrete_time_mode_is_exact(name):
    layers, shape = DISCRETE[name]
    model = discrete.Sequential(layers)
    graph = esn.to_nir(model, dt=0.7, **shape)
    for given in (graph, through_file(graph)):
        assert eqx.tree_equal(esn.from_nir(given, dt=0.7), model)


def test_a_single_cell():
    model = discrete.Leaky(0.8, **RESET)
    graph = esn.to_nir(model, dt=1.0, input_shape=(3,))
    assert eqx.tree_equal(esn.from_nir(graph, dt=1.0), model)


def test_the_factor_of_the_input_is_a_layer():
    graph = esn.to_nir(discrete.Sequential(DISCRETE["RLeaky"][0]), dt=1.0)
    graph.nodes["layer_1"].r = 3 * graph.nodes["layer_1"].r
    _, factor, cell = esn.from_nir(graph, dt=1.0).layers
    np.testing.assert_allclose(factor.v, 3.0, rtol=1e-15)
    np.testing.assert_allclose(cell.feedback.weight, 3 * dense(3, 3).weight, rtol=1e-15)
    np.testing.assert_allclose(cell.feedback.bias, 3 * dense(3, 3).bias, rtol=1e-15)


def test_an_event_network_in_small_steps():
    """The spikes of the two modes, read from one graph, converge."""
    model = layer(esn.LIF(10.0, 5.0), 2, 3)
    graph, dt = esn.to_nir(model, spike_area=1e-6), 1e-3
    in_times = np.array([[1.0, 6.0], [3.0, np.inf]])
    steps = np.floor(in_times[np.isfinite(in_times)] / dt).astype(int)
    xs = jnp.zeros((int(40 / dt), 2)).at[steps, np.array([0, 0, 1])].set(1.0)
    out = discrete.run(esn.from_nir(graph, dt=dt), xs)
    fired = np.asarray(out.spikes)
    first = np.where(fired.any(0), dt * (fired.argmax(0) + 1), np.inf)
    np.testing.assert_allclose(first, model.ttfs(in_times), atol=0.02)


# ------------------------------------------------------------------ spike trains


def test_the_round_trip_of_spike_trains_is_exact():
    times = np.sort(positive(3, 4, 5, low=0.0), axis=-1).astype(np.float32)
    times[0, 1, 2:] = times[2] = np.inf
    data = esn.to_event_data(times, t_max=20.0)
    assert (data.n_neurons, data.n_samples) == (4, 3) and np.isclose(data.t_max, 0.02)
    assert np.array_equal(data.idx == -1, np.isinf(data.time))
    assert np.array_equal(data.time, np.sort(data.time, axis=-1))
    back = np.asarray(esn.from_event_data(data))
    assert np.array_equal(back.astype(np.float32), times)
    assert np.array_equal(esn.from_event_data(data, max_spikes=7)[..., :5], back)


def test_one_sample_and_other_units():
    times = [[2.0, 1.0], [np.inf, 3.0]]
    data = esn.to_event_data(times, t_max=4.0, unit=1.0)
    assert data.idx.tolist() == [[0, 0, 1]] and data.time.tolist() == [[1.0, 2.0, 3.0]]
    assert esn.from_event_data(data, unit=1.0).tolist() == [[[1.0, 2.0], [3.0, np.inf]]]
    silent = esn.to_event_data(np.full((2, 3, 1), np.inf), t_max=1.0)
    assert silent.shape == (2, 0) and np.all(np.isinf(esn.from_event_data(silent)))
    assert data.to_time_gridded(1.0).data[0].sum() == 3


def test_example_of_the_documentation(capsys):
    page = (pathlib.Path(__file__).parents[1] / "docs" / "nir.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "nir.md", "exec"), names := {})
    assert capsys.readouterr().out == "[[0 1 0]] [[0.0, 9.0], [4.0, inf]]\n"
    assert eqx.tree_equal(names["net"], names["copy"])


# ------------------------------------------------------------------ refusals

QIF = esn.QIF(9.0, 5.0)
SUBTRACTING = esn.LIF(9.0, 5.0, reset_mode="subtract")
REFUSED_MODELS = {
    "QIF": (layer(QIF, 3, 4), r"neuron must be LIF.*got QIF"),
    "Refractory": (layer(esn.Refractory(LIF, 1.0), 3, 4), r"neuron must be LIF.*got Refractory"),
    "part": (net(esn.Populations([(LIF, 4), (QIF, 1)]), 5), r"neuron must be LIF.*got QIF"),
    "receptors": (
        esn.EventLinear(esn.EGRU(9.0, 5.0), draw(3, 12), **OPTIONS),
        r"neuron must be LIF.*got EGRU",
    ),
    "subtract": (layer(SUBTRACTING, 3, 4), r'reset_mode must be "set".*got "subtract"'),
    "v_init": (layer(esn.LIF(9.0, 5.0, v_init=0.5), 3, 4), r"v_init must be .*, got 0\.5"),
    "v_init of a readout": (
        layer(esn.LeakyIntegrator(9.0, 5.0, v_init=0.5), 3, 4),
        r"v_init must be .*, got 0\.5",
    ),
    "synaptic delays": (net(delays=np.ones((6, 4))), r"delays must have one value.*got shape"),
    "delays of a layer": (layer(LIF, 3, 4, delays=np.ones((3, 4))), r"delays must have one value"),
    "delays of a kernel": (conv(delays=np.ones((2, 1, 3, 3))), r"delays must be None .*got shape"),
    "mask of a kernel": (conv(mask=np.ones((2, 1, 3, 3), bool)), r"mask must be None.*got shape"),
    "pseudospikes": (
        net(pseudospikes=esn.Pseudospikes(3.0, 5.0)),
        r"pseudospikes must be None .*got Pseudospikes",
    ),
    "pooling": (esn.EventPool2d(2, max_spikes=1), r"max_spikes must be None .*got 1"),
    "network in a sequence": (
        esn.EventSequential([net(max_spikes=3)]),
        r"input_shape|layers of the types EventLinear.*got EventNetwork",
    ),
    "function": (esn.EventSequential([lambda x: x]), r"layers of the types EventLinear"),
    "image": (
        esn.EventSequential([conv(), esn.EventPool2d(2), layer(LIF, 8, 4)]),
        r"input_shape must lead to 8 input channels, got \(2, 3, 3\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED_MODELS)
def test_a_model_that_nir_cannot_express_is_refused_by_name(name):
    model, match = REFUSED_MODELS[name]
    shape = (1, 8, 8) if name in ("pooling", "function", "image") or "kernel" in name else None
    with pytest.raises(ValueError, match=match) as error:
        esn.to_nir(model, input_shape=shape)
    assert "\n" not in str(error.value)


REFUSED_CELLS = {
    "reset": (discrete.Leaky(0.9, reset_delay=False), r"reset must be 'zero'.*got 'subtract'"),
    "reset_delay": (discrete.Leaky(0.9, reset="zero"), r"reset_delay must be False.*got True"),
    "graded": (discrete.Leaky(0.9, graded=2.0, **RESET), r"graded must be 1 .*got .*2\.0"),
    "inhibition": (discrete.Leaky(0.9, inhibition=True, **RESET), r"inhibition must be False"),
    "state_quant": (
        discrete.Leaky(0.9, state_quant=discrete.StateQuant(2), **RESET),
        r"state_quant must be None .*got StateQuant",
    ),
    "beta": (discrete.Leaky(1.0, **RESET), r"beta must lie in \[0, 1\) in NIR, got 1\.0"),
    "feedback": (discrete.RLeaky(0.9, jnp.tanh, **RESET), r"feedback must be Linear.*got "),
    "cell": (discrete.Alpha(0.9, 0.8), r"layers of the types Leaky.*got Alpha"),
}


@pytest.mark.parametrize("name", REFUSED_CELLS)
def test_a_cell_that_nir_cannot_express_is_refused_by_name(name):
    cell, match = REFUSED_CELLS[name]
    with pytest.raises(ValueError, match=match):
        esn.to_nir(cell, dt=1.0, input_shape=(3,))


def changed(change):
    graph = esn.to_nir(esn.EventSequential([layer(LIF, 3, 4), layer(READOUT, 4, 2)]))
    change(graph.nodes)
    return graph


def replace(nodes, name, **fields):
    vars(nodes[name]).update(fields)


def sequence(*nodes):
    return nir.NIRGraph.from_list(*nodes)


ONES = np.ones(4)
CUBA = nir.CubaLIF(ONES, ONES, ONES, 0 * ONES, ONES)
WEIGHTS = nir.Linear(np.ones((4, 3)))
REFUSED_GRAPHS = {
    "LIF": (
        sequence(WEIGHTS, nir.LIF(ONES, ONES, ONES, 2 * ONES)),
        r"CubaLIF|got \['Linear', 'LIF",
    ),
    "bias": (sequence(nir.Affine(np.ones((4, 3)), ONES), CUBA), r"bias must be 0 .*got \[1\.0"),
    "Scale": (sequence(nir.Scale(ONES), CUBA), r"graph must have layers .*got Scale, CubaLIF"),
    "no neurons": (sequence(WEIGHTS), r"graph must end with neurons.*got \['Linear'\]"),
    "nan": (
        changed(lambda nodes: replace(nodes, "layer_0_neurons", r=ONES * np.nan)),
        r"r must be finite, got nan",
    ),
    "threshold": (
        changed(lambda nodes: replace(nodes, "layer_0_neurons", v_threshold=-ONES)),
        r"threshold must be above v_reset, got ",
    ),
}


@pytest.mark.parametrize("name", REFUSED_GRAPHS)
def test_a_graph_that_the_event_mode_cannot_express_is_refused_by_name(name):
    graph, match = REFUSED_GRAPHS[name]
    with pytest.raises(ValueError, match=match) as error:
        esn.from_nir(graph, **OPTIONS)
    assert "\n" not in str(error.value)


def recurrent_graph(**nodes):
    graph = esn.to_nir(net(MIXED, 9, mask=spiking(7), outputs=(7, 8), delays=AXONAL))
    graph.nodes.update(nodes)
    return graph


def with_edges(graph, *edges):
    graph.edges = [*graph.edges, *edges]
    return graph


REFUSED_NETWORKS = {
    "delay": (
        with_edges(recurrent_graph(), ("input", "neurons_0_to_neurons_1")),
        r"graph must have one edge to the node neurons_0_to_neurons_1, got 2",
    ),
    "two delays": (
        with_edges(
            recurrent_graph(other=nir.Linear(np.ones((4, 2)))),
            ("input", "other"),
            ("other", "neurons_0"),
        ),
        r"graph must have the same delays on all edges from input, got two",
    ),
    "no weights": (
        with_edges(recurrent_graph(), ("neurons_0", "neurons_1")),
        r"graph must have a Linear node before each node of neurons, got CubaLIF",
    ),
    "unknown node": (
        with_edges(recurrent_graph(), ("neurons_0", "nothing")),
        r"graph must have edges between its nodes, got \['nothing'\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED_NETWORKS)
def test_a_recurrent_graph_that_cannot_be_expressed_is_refused(name):
    graph, match = REFUSED_NETWORKS[name]
    with pytest.raises(ValueError, match=match):
        esn.from_nir(graph, t_max=40.0)


def test_other_weights_before_the_output_are_refused():
    graph = esn.to_nir(net(outputs=(2, 0)))
    graph.nodes["outputs_of_neurons_0"].weight *= 2
    with pytest.raises(ValueError, match=r"graph must select neurons as outputs.*got other"):
        esn.from_nir(graph, t_max=40.0)


DENSE = {name: np.full(4, value) for name, value in (("tau", 0.01), ("r", 1.0), ("v_leak", 0.0))}
REFUSED_STEPS = {
    "v_leak": (sequence(WEIGHTS, nir.LI(**DENSE | {"v_leak": ONES})), r"v_leak must be 0.*got \[1"),
    "v_reset": (
        sequence(WEIGHTS, nir.LIF(**DENSE, v_threshold=2 * ONES, v_reset=ONES)),
        r"v_reset must be 0 .*got \[1",
    ),
    "tau": (
        sequence(WEIGHTS, nir.LI(**DENSE | {"tau": ONES / 1e4})),
        r"tau must be >= dt = 0\.001 s, got ",
    ),
    "node": (sequence(WEIGHTS, nir.Delay(ONES)), r"graph must have nodes .*got Delay"),
    "branches": (recurrent_graph(), r"graph must be a sequence of nodes.*got the edges"),
}


@pytest.mark.parametrize("name", REFUSED_STEPS)
def test_a_graph_that_the_discrete_time_mode_cannot_express_is_refused(name):
    graph, match = REFUSED_STEPS[name]
    with pytest.raises(ValueError, match=match):
        esn.from_nir(graph, dt=1.0)


def test_an_error_names_the_node():
    graph, _ = REFUSED_GRAPHS["nan"]
    with pytest.raises(ValueError, match="r must be finite") as error:
        esn.from_nir(graph, **OPTIONS)
    assert error.value.__notes__ == ["This error is from the node 'layer_0_neurons' of the graph."]


def test_traced_models_are_refused():
    with pytest.raises(ValueError, match=r"model must have concrete arrays.*got traced"):
        eqx.filter_jit(esn.to_nir)(layer(LIF, 3, 4))


def test_without_nir_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (
        lambda: esn.to_nir(layer(LIF, 3, 4)),
        lambda: esn.from_nir(None, t_max=1.0),
        lambda: esn.to_event_data([[1.0]], t_max=2.0),
        lambda: esn.from_event_data(None),
    ):
        with pytest.raises(
            ModuleNotFoundError, match=r"nir must be.*pip install 'eventsnn\[nir\]'"
        ):
            call()
