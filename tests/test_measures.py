"""Summaries and operations of models, compared with lists of single synapses."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import discrete

INF = np.inf
KEY = jax.random.key(0)
LIF, READOUT = esn.LIF(20.0, 20.0), esn.LeakyIntegrator(20.0, 20.0)
OPTIONS = {"t_max": 20.0, "max_spikes": 3, "truncate": True}


def random(shape, key=1):
    return jax.random.normal(jax.random.key(key), shape)


@pytest.fixture(scope="module")
def convolutional():
    """Two layers with masks, the first one a convolution with a stride and a padding."""
    kernel_mask, mask = random((3, 2, 2, 3), 2) > -0.5, random((18, 4), 3) > 0
    return esn.EventSequential(
        [
            esn.EventConv2d(
                LIF, 4 * random((3, 2, 2, 3)), kernel_mask, stride=2, padding=(1, 0), **OPTIONS
            ),
            esn.EventFlatten(),
            esn.EventLinear(READOUT, random((18, 4)), mask, t_max=20.0),
        ]
    )


def synapses_of_convolution(layer, height, width):
    """List of pairs of an input pixel and a neuron."""
    out, channels, kh, kw = layer.kernel.shape
    (sy, sx), (py, px) = layer.stride, layer.padding
    rows, columns = (height + 2 * py - kh) // sy + 1, (width + 2 * px - kw) // sx + 1
    found = []
    for o, c, i, j in itertools.product(range(out), range(channels), range(kh), range(kw)):
        for y, x in itertools.product(range(rows), range(columns)):
            pixel = c, y * sy + i - py, x * sx + j - px
            inside = 0 <= pixel[1] < height and 0 <= pixel[2] < width
            if inside and (layer.mask is None or layer.mask[o, c, i, j]):
                found.append((pixel, (o, y, x)))
    return found


# ------------------------------------------------------------------ operations, event mode


def test_operations_of_layers_are_sums_over_synapses(convolutional, rng):
    in_times = rng.uniform(0.0, 30.0, (5, 2, 5, 6, 2))  # some of them after t_max
    in_times[rng.uniform(size=in_times.shape) < 0.2] = INF
    conv, _, readout = convolutional.layers
    hidden = np.asarray(eqx.filter_jit(conv)(in_times))
    received = (in_times <= 20.0).sum(-1)
    first = [
        sum(counts[pixel] for pixel, _ in synapses_of_convolution(conv, 5, 6))
        for counts in received
    ]
    spikes = np.isfinite(hidden).sum(-1).reshape(5, -1)
    pairs = [(i, j) for i in range(18) for j in range(4) if readout.mask[i, j]]
    second = [sum(counts[i] for i, _ in pairs) for counts in spikes]
    found = esn.operations(convolutional, in_times)
    assert [layer.name for layer in found.layers] == ["layers[0]", "layers[2]"]
    a, b = found.layers
    np.testing.assert_array_equal(a.operation_counts, first)
    np.testing.assert_array_equal(b.operation_counts, second)
    np.testing.assert_array_equal(a.spike_counts, spikes.sum(1))
    assert min(first) > 0 and min(second) > 0
    assert (a.n_neurons, b.n_neurons, b.spikes) == (18, 0, 0.0)
    np.testing.assert_allclose(a.spikes, spikes.sum(1).mean())
    np.testing.assert_allclose([a.sparsity, found.sparsity], np.mean(spikes == 0))
    np.testing.assert_allclose(found.operations, np.mean(first) + np.mean(second))
    assert np.isnan(b.sparsity) and np.isnan(found.dense) and found.multiplies == 0
    assert found.failed == 0


def test_operations_of_a_network_are_sums_over_events(rng):
    mask = rng.uniform(size=(6 + 3, 6)) < 0.6
    neuron = esn.Populations([(LIF, 5), (READOUT, 1)])
    weights = rng.normal(2.0, 3.0, mask.shape)
    net = esn.EventNetwork(neuron, weights, mask, outputs=(4, 5), t_max=20.0)
    in_times = rng.uniform(0.0, 25.0, (4, 3, 2))
    solution = eqx.filter_jit(net.simulate)(in_times)
    expected = np.zeros((2, 4), int)
    fired = np.zeros((4, 6), int)
    for sample in range(4):
        for source in np.asarray(solution.sources[sample]):
            for target in range(6):
                expected[int(target >= 4), sample] += source >= 0 and mask[source, target]
            if 0 <= source < 6:
                fired[sample, source] += 1
    hidden, outputs = esn.operations(net, in_times).layers
    assert (hidden.name, outputs.name) == ("hidden", "outputs")
    np.testing.assert_array_equal([hidden.operation_counts, outputs.operation_counts], expected)
    np.testing.assert_array_equal(hidden.spike_counts, fired[:, :4].sum(1))
    np.testing.assert_array_equal(outputs.spike_counts, fired[:, 4])
    assert (hidden.n_neurons, outputs.n_neurons) == (4, 1) and fired.sum() > 3
    np.testing.assert_allclose(hidden.sparsity, np.mean(fired[:, :4] == 0))


def test_a_failed_sample_is_left_out_and_every_spike_counts_without_a_limit():
    limited = esn.EventLinear(LIF, jnp.full((1, 2), 30.0), t_max=20.0, max_spikes=4)
    free = esn.EventLinear(LIF, jnp.eye(2), t_max=20.0)
    in_times = jnp.array([[[0.0, 0.0]], [[19.0, INF]], [[19.5, 19.5]]])
    found = esn.operations(esn.EventSequential([limited, free]), in_times)
    fired = np.asarray(limited.counts(in_times[1:])).sum(1)
    assert np.isclose(found.failed, 1 / 3) and fired.min() > 0
    np.testing.assert_array_equal(found.layers[0].operation_counts, [2, 4])
    np.testing.assert_array_equal(found.layers[0].spike_counts, fired)
    np.testing.assert_array_equal(found.layers[1].operation_counts, 2 * fired)
    assert "33% of the samples failed" in str(found)


# ------------------------------------------------------------------ operations, discrete time


def test_operations_in_discrete_time_are_sums_over_synapses(rng):
    mask = rng.uniform(size=(12, 12)) < 0.5
    model = discrete.Sequential(
        [
            eqx.nn.Conv2d(1, 2, (2, 3), stride=(1, 2), padding=1, key=KEY),
            jnp.ravel,
            discrete.Sequential(
                [discrete.RLeaky(0.8, discrete.MaskedLinear(random((12, 12)), mask), threshold=0.5)]
            ),
            discrete.Frozen(eqx.nn.Linear(12, 3, key=KEY)),
            discrete.RLeaky(0.9, discrete.OneToOne(1.0), threshold=0.1),
        ]
    )
    image = rng.uniform(size=(3, 1, 2, 4)) * (rng.uniform(size=(3, 1, 2, 4)) < 0.7)
    run = discrete.run_batch(model, jnp.asarray(image), num_steps=6, layers=(2, 4))
    hidden, out = (np.asarray(x) for x in run.spikes)
    conv = np.zeros(3)
    for sample, _, y, x, i, j in itertools.product(*map(range, (3, 2, 3, 2, 2, 3))):
        row, column = y + i - 1, 2 * x + j - 1
        if 0 <= row < 2 and 0 <= column < 4:
            conv[sample] += 6 * (image[sample, 0, row, column] != 0)
    fed_back = np.zeros(3)
    for step, sample, source in zip(*np.nonzero(hidden[:-1]), strict=True):
        assert step < 5
        fed_back[sample] += sum(mask[target, source] for target in range(12))
    found = {x.name: x for x in esn.operations(model, image, num_steps=6).layers}
    assert list(found) == ["layers[0]", "layers[2].layers[0]", "layers[3]", "layers[4]"]
    a, b, c, d = found.values()
    np.testing.assert_array_equal(a.operation_counts, conv)
    np.testing.assert_array_equal(b.operation_counts, fed_back)
    np.testing.assert_array_equal(c.operation_counts, 3 * (hidden != 0).sum((0, 2)))
    np.testing.assert_array_equal(d.operation_counts, (out[:-1] != 0).sum((0, 2)))
    np.testing.assert_array_equal(b.spike_counts, hidden.sum((0, 2)))
    assert a.multiplies > 0 == a.accumulates and b.accumulates > 0 == b.multiplies
    assert fed_back.min() > 0 and out.sum() > 0
    np.testing.assert_allclose([b.sparsity, d.sparsity], [1 - hidden.mean(), 1 - out.mean()])
    pairs = sum(
        0 <= y + i - 1 < 2 and 0 <= 2 * x + j - 1 < 4
        for _, y, x, i, j in itertools.product(*map(range, (2, 3, 2, 2, 3)))
    )
    assert [x.dense for x in (a, b, c, d)] == [6 * pairs, 6 * mask.sum(), 6 * 36, 6 * 3]


def test_synapses_that_are_not_known_are_refused():
    inner = eqx.nn.MLP(2, 2, 4, 1, key=KEY)
    for layer in (inner, discrete.RLeaky(0.9, inner), discrete.RLeaky(0.9, lambda s: s)):
        model = discrete.Sequential([layer, discrete.Leaky(0.9)])
        with pytest.raises(ValueError, match=r"^model must have weights only in .*, got"):
            esn.operations(model, np.ones((3, 1, 2)))


# ------------------------------------------------------------------ summaries


def test_summary_of_layers(convolutional):
    found = esn.summary(convolutional, (2, 5, 6))
    conv, flatten, readout = found.layers
    assert [layer.type for layer in found.layers] == [
        "EventConv2d (LIF)",
        "EventFlatten",
        "EventLinear (LeakyIntegrator)",
    ]
    assert (conv.input, conv.output) == ((2, 5, 6), (3, 3, 2))
    assert (flatten.input, flatten.output) == ((3, 3, 2), (18,)) == (conv.output, readout.input)
    masks = [np.asarray(convolutional[i].mask) for i in (0, 2)]
    assert [conv.masked, readout.masked] == [(~mask).sum() for mask in masks]
    scalars = [len(jax.tree.leaves(convolutional[i].neuron)) for i in (0, 2)]
    assert [conv.parameters, readout.parameters] == [
        mask.sum() + n for mask, n in zip(masks, scalars, strict=True)
    ]
    assert [conv.trainable, readout.trainable] == [mask.sum() + 1 for mask in masks]  # and a bias
    assert found.parameters == conv.parameters + readout.parameters and flatten.parameters == 0
    sizes = [x.nbytes for x in jax.tree.leaves(convolutional)]
    assert found.footprint == sum(sizes)
    missing = np.concatenate([~mask.ravel() for mask in masks])
    np.testing.assert_allclose(found.connection_sparsity, missing.mean())
    lines = str(found).splitlines()
    assert len(lines) == 6 and lines[1].split()[:3] == ["layers[0]", "EventConv2d", "(LIF)"]
    assert lines[4].split() == [
        "total",
        *map(str, (found.parameters, found.trainable, found.masked)),
    ]
    # Without the shape of the image, only the last layer has shapes.
    shapes = [(layer.input, layer.output) for layer in esn.summary(convolutional).layers]
    assert shapes == [(None, None), (None, None), ((18,), (4,))]
    with pytest.raises(
        ValueError, match=r"^in_shape must be accepted .* \(3, 5, 6\) at layers\[0\]"
    ):
        esn.summary(convolutional, (3, 5, 6))


def test_summary_of_a_network_with_constrained_delays():
    mask = np.array([[False, True], [True, False], [True, True]])
    net = esn.EventNetwork(
        esn.Populations([(esn.Refractory(LIF, 2.0), 1), (READOUT, 1)]),
        np.where(mask, [[1.0], [0.0], [2.0]], 3.0),
        mask,
        delays=np.full((3, 2), 2.0),
        outputs=(1,),
        t_max=20.0,
    )
    (row,) = esn.summary(esn.constrain(net, lambda net: net.delays)).layers
    assert row.type == "EventNetwork (Refractory LIF, LeakyIntegrator)"
    assert (row.name, row.input, row.output) == ("", (1,), (1,))
    assert row.masked == 2 and row.zeros == 1 and row.synapses == 6
    assert row.parameters == 4 + 4 + len(jax.tree.leaves(net.neuron))
    assert row.trainable == 4 + 4 + 2  # both biases


class Block(eqx.Module):
    """User-defined cell with an array of its own."""

    scale: jax.Array
    linear: eqx.nn.Linear
    cells: list


def test_summary_in_discrete_time():
    mask = np.eye(4, dtype=bool)
    model = discrete.Sequential(
        [
            jnp.ravel,
            eqx.nn.Linear(6, 4, key=KEY),
            discrete.RLeaky(0.9, discrete.MaskedLinear(np.ones((4, 4)), mask)),
            discrete.Frozen(eqx.nn.Linear(4, 2, key=KEY)),
            discrete.Leaky(np.full(2, 0.5)),
        ]
    )
    found = esn.summary(model, (2, 3))
    shapes = [layer.output for layer in found.layers]
    assert shapes == [(6,), (4,), (4,), (2,), (2,)] and found.layers[0].input == (2, 3)
    assert [layer.trainable for layer in found.layers] == [0, 28, 4, 0, 0]
    assert [layer.masked for layer in found.layers] == [0, 0, 12, 0, 0]
    leaves = [x.size for x in jax.tree.leaves(model) if eqx.is_inexact_array(x)]
    assert found.parameters == sum(leaves) - 12
    assert [layer.output for layer in esn.summary(model).layers] == [None, *shapes[1:]]
    block = Block(jnp.ones(3), model.layers[1], [discrete.Leaky(0.5), model])
    names = [layer.name for layer in esn.summary(block).layers]
    assert names[:3] == ["linear", "cells[0]", "cells[1].layers[0]"] and names[-1] == ""
    assert esn.summary(block).layers[0].output == (4,)
    assert esn.summary(block).layers[-1].parameters == 3
    net = esn.EventNetwork(LIF, np.ones((3, 2)), outputs=(0, 1), t_max=20.0)
    assert esn.summary(esn.discretise(net, 1.0)).layers[0].name == "model.layers[0]"


def test_pseudospikes_are_not_counted():
    lif, key = esn.LIF(20.0, 20.0), jax.random.key(0)
    hidden = {"t_max": 20.0, "max_spikes": 3, "truncate": True}
    in_times = jax.random.uniform(key, (2, 3, 1), maxval=20.0)
    for t_max, at_t_max in ((20.0, True), (90.0, False)):
        late = esn.Pseudospikes(at_t_max=at_t_max)
        first = esn.EventLinear(lif, jnp.full((3, 4), 1e-3), pseudospikes=late, **hidden)
        readout = esn.EventLinear(esn.LeakyIntegrator(20.0, 20.0), jnp.ones((4, 2)), t_max=t_max)
        found = esn.operations(esn.EventSequential([first, readout]), in_times)
        assert [layer.spikes for layer in found.layers] == [0, 0]
        assert [layer.operations for layer in found.layers] == [12, 0]


def test_operations_in_half_precision():
    layer = eqx.nn.Linear(300, 300, dtype=jnp.float16, key=jax.random.key(0))
    model = discrete.Sequential([layer, eqx.nn.LayerNorm(300), discrete.Leaky(0.9)])
    found = esn.operations(model, jnp.ones((1, 2, 300), jnp.float16))
    assert found.operations == found.dense == 300**2
