"""Limiting cases of the discrete-time mode: membrane potentials exactly at the threshold, NaNs,
equal rates, parameters constrained during training; and the number of traces and compilations."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import eventsnn as esn
from eventsnn import discrete, losses
from helpers.arrays import agree, normal
from helpers.registry import CELLS, N, linear, stack

T, B, N_IN = 8, 3, 4
run = eqx.filter_jit(discrete.run)


def with_threshold(cell, threshold):
    return eqx.tree_at(lambda cell: cell.threshold, cell, jnp.broadcast_to(threshold, (N,)))


# ------------------------------------------------------------------ exactly at the threshold


@eqx.filter_jit
def of_thresholds(cells, thresholds, xs):
    """Run each cell with each of its thresholds, in one program."""
    return {
        name: [discrete.run(with_threshold(cell, theta), xs) for theta in thresholds[name]]
        for name, cell in cells.items()
    }


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_a_membrane_at_its_threshold_neither_fires_nor_resets(reset, rng):
    """As in snnTorch, where a spike is mem - threshold > 0."""
    cells = {name: cell(rng, reset=reset) for name, cell in CELLS.items()}
    xs = jnp.asarray(rng.uniform(0.1, 1.0, (T, N)))
    high = jnp.full(N, 1e9)
    free = of_thresholds(cells, {name: [high, high] for name in cells}, xs)
    peaks = {name: np.max(found[0].membranes, axis=0) for name, found in free.items()}
    below = {name: np.nextafter(peak, -np.inf) for name, peak in peaks.items()}
    found = of_thresholds(cells, {name: [peaks[name], below[name]] for name in cells}, xs)
    for name, (at, under) in found.items():
        assert np.all(peaks[name] > 0.1), name
        np.testing.assert_array_equal(at.spikes, 0, err_msg=name)
        np.testing.assert_array_equal(at.membranes, free[name][0].membranes, err_msg=name)
        # The next smaller threshold is exceeded where the membrane potential of a neuron is
        # highest; with feedback only up to the first spike.
        highest = np.argmax(free[name][0].membranes, axis=0)
        fired = np.asarray(under.spikes > 0)
        some = highest == np.min(highest) if name.startswith("R") else np.full(N, True)
        np.testing.assert_array_equal(np.argmax(fired, axis=0)[some], highest[some], err_msg=name)
        assert np.all(np.any(fired, axis=0)[some]), name


# ------------------------------------------------------------------ NaN


def test_a_nan_potential_gives_nan_spikes(rng):
    """NaN as input of one neuron of one sample: its spikes are NaN from that step on, all others
    are unchanged."""
    cells = {name: cell(rng) for name, cell in CELLS.items() if name != "RLeaky"}
    cells["RLeaky"] = discrete.RLeaky(0.8, discrete.OneToOne(-0.5))
    xs = jnp.asarray(rng.uniform(0.1, 1.0, (T, B, N)))
    bad = xs.at[3, 1, 2].set(jnp.nan)

    @jax.jit
    def solve(xs):
        return {name: discrete.run_batch(cell, xs) for name, cell in cells.items()}

    clean, found = solve(xs), solve(bad)
    for name in cells:
        hit = np.zeros((T, B, N), bool)
        hit[3 + (name == "Alpha") :, 1, 2] = True  # cells whose input takes effect one step later
        np.testing.assert_array_equal(np.isnan(found[name].membranes), hit, err_msg=name)
        np.testing.assert_array_equal(np.isnan(found[name].spikes), hit, err_msg=name)
        np.testing.assert_array_equal(found[name].spikes[~hit], clean[name].spikes[~hit])


@pytest.mark.parametrize("parallel", [False, True])
def test_a_nan_in_a_hidden_layer_reaches_every_loss(parallel, rng):
    options = {"reset": "none"} if parallel else {}
    model = stack(N_IN, rng, **options)
    model = discrete.Sequential([*model.layers, linear(N, 3, rng), discrete.Leaky(0.9)])
    weight = model.layers[2].weight.at[0, 0].set(jnp.nan)
    broken = eqx.tree_at(lambda model: model.layers[2].weight, model, weight)
    xs, labels = normal(rng, T, B, N_IN), jnp.arange(B)

    @eqx.filter_jit
    def all_losses(model):
        out = discrete.run_batch(model, xs, parallel=parallel)
        return [
            losses.ce_count(out.spikes, labels),
            losses.ce_rate(out.spikes, labels),
            losses.mse_count(out.spikes, labels),
            losses.ce_max_membrane(out.membranes, labels),
            losses.mse_membrane(out.membranes, labels),
        ]

    assert np.all(np.isfinite(all_losses(model)))
    assert np.all(np.isnan(all_losses(broken)))


# ------------------------------------------------------------------ Alpha, whose rates may meet

PAIRS = [(0.9, 0.3), (0.9, 0.899), (0.9, 0.9 - 1e-12), (0.9, 0.9), (0.3, 0.9), (0.9, 0.9 + 1e-9)]
EDGES = [(0.9, 0.0), (1.0, 0.5), (1.0, 1.0), (0.0, 0.4), (0.5, 1.0)]


def response(alpha, beta, k):
    """Membrane potential k steps after an input of 1, without spikes, computed with mpmath."""
    alpha, beta = mpmath.mpf(alpha), mpmath.mpf(beta)
    if beta == 0:
        return alpha**k if k else mpmath.mpf(0)
    if alpha == beta:
        return -mpmath.log(alpha) * k * alpha**k
    if alpha == 0:
        return mpmath.mpf(0)
    ratio = (alpha**k - beta**k) / (mpmath.log(alpha) - mpmath.log(beta))
    return -mpmath.log(beta) * ratio


def cell_of(alpha, beta, **options):
    """Cell with arbitrary rates, because trained rates may take any value."""
    cell = discrete.Alpha(0.9, 0.3, **options)
    return eqx.tree_at(lambda cell: (cell.alpha, cell.beta), cell, (alpha, beta))


WEIGHTS = np.cos(np.arange(T))


@functools.partial(jax.jit, static_argnames=("reset", "parallel"))
def responses(alphas, betas, reset, parallel):
    """Membrane potentials after a pulse, and gradients of their weighted sum with respect to the
    rates."""

    def total(rates):
        cell = cell_of(*rates, reset=reset, threshold=1e9)
        xs = jnp.zeros((T, 1), alphas.dtype).at[0].set(1)
        mem = discrete.run(cell, xs, parallel=parallel).membranes[:, 0]
        return jnp.sum(mem * WEIGHTS.astype(mem.dtype)), mem

    return jax.vmap(jax.grad(total, has_aux=True))((alphas, betas))


@pytest.mark.parametrize(
    ("reset", "parallel"), [("zero", False), ("none", False), ("subtract", False), ("none", True)]
)
def test_alpha_responds_as_the_closed_form_at_any_rates(reset, parallel):
    alphas, betas = (jnp.array(rates) for rates in zip(*PAIRS, *EDGES, strict=True))
    (d_alpha, d_beta), mem = responses(alphas, betas, reset, parallel)
    with mpmath.workdps(60):
        expected = [[float(response(*p, k)) for k in range(T)] for p in PAIRS + EDGES]
        np.testing.assert_allclose(mem, expected, rtol=1e-11, atol=1e-15)
        for i, (alpha, beta) in enumerate(PAIRS):
            pair = alpha, beta + 1e-12 * (alpha == beta)  # for differences with mpmath

            def total(a, b):
                return sum(mpmath.mpf(w) * response(a, b, k) for k, w in enumerate(WEIGHTS))

            for ours, order in ((d_alpha[i], (1, 0)), (d_beta[i], (0, 1))):
                exact = float(mpmath.diff(total, pair, order))
                np.testing.assert_allclose(ours, exact, rtol=1e-9, err_msg=f"{pair}, {order}")
    assert np.all(np.isfinite(d_alpha)) and np.all(np.isfinite(d_beta))


def test_alpha_of_rates_that_are_equal_when_rounded():
    """0.9 and 0.899 are equal in bfloat16."""
    rates = (jnp.full(1, rate, jnp.bfloat16) for rate in (0.9, 0.899))
    gradients, mem = responses(*rates, "zero", False)
    exact = [float(response(0.8984375, 0.8984375, k)) for k in range(T)]
    np.testing.assert_allclose(mem[0].astype(float), exact, rtol=0.03)
    assert all(np.all(np.isfinite(g.astype(float))) for g in gradients)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_alpha_with_equal_rates_has_finite_gradients_through_spikes(reset, rng):
    xs = jnp.asarray(rng.uniform(0.2, 1.0, (T, N)))

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(given):
        *rates, xs = given
        out = discrete.run(cell_of(*rates, reset=reset, threshold=0.3), xs)
        return jnp.sum(out.spikes) + jnp.sum(out.membranes), out

    gradients, out = gradient((jnp.asarray(0.9), jnp.asarray(0.9), xs))
    assert 0 < np.mean(out.spikes) < 1
    for leaf in jax.tree.leaves((gradients, out)):
        assert np.all(np.isfinite(leaf))


def test_alpha_continues_from_a_state_after_a_reset_by_subtraction(rng):
    """The membrane potential restarts from the excitatory current; compared with the definition in
    NumPy."""
    xs, (a, b) = rng.uniform(0.0, 0.6, (2 * T, N)), (0.9, 0.7)
    tau, exc, inh, mem = np.log(a) / (np.log(b) - np.log(a)) + 1, *np.zeros((3, N))
    expected = []
    for x in xs:
        over, before = mem > 0.3, inh
        exc, inh = a * exc + x, b * inh - x
        mem = tau * (exc + inh) + over * before
        exc, inh = exc - over * 0.3, inh * (1 - over)
        expected.append(mem)
    cell = discrete.Alpha(a, b, reset="subtract", threshold=0.3)
    first = run(cell, jnp.asarray(xs[:T]))
    second = run(cell, jnp.asarray(xs[T:]), state=first.state)
    np.testing.assert_allclose(
        np.concatenate([first.membranes, second.membranes]), expected, rtol=1e-11, atol=1e-12
    )
    assert np.sum(first.spikes) > 5 and np.any(first.state.syn_inh == 0)


# ------------------------------------------------------------------ parameters in a range


def constrained(model):
    """Constrain thresholds to positive values, rates to [0, 1] and weights to [-5, 5]."""
    spiking = [c for c in model.layers if isinstance(c, discrete.AbstractSpikingCell)]
    picks = [i for i, layer in enumerate(model.layers) if layer in spiking]
    model = esn.constrain(model, lambda m: [m.layers[i].threshold for i in picks])
    rates = [(i, n) for i in picks for n in ("alpha", "beta") if hasattr(model.layers[i], n)]
    pick_rates = lambda m: [getattr(m.layers[i], name) for i, name in rates]  # noqa: E731
    model = esn.constrain(model, pick_rates, esn.Bounded)
    signed = functools.partial(esn.Bounded, lower=-5.0, upper=5.0)
    return esn.constrain(
        model,
        lambda m: (m.layers[0].weight, m.layers[3].feedback.weight, m.layers[7].feedback.v),
        signed,
    )


def test_a_constrained_model_is_the_same_model(rng):
    model, xs = stack(N_IN, rng, reset="none"), normal(rng, T, N_IN)
    wrapped = constrained(model)
    assert isinstance(wrapped.layers[3].feedback.weight, esn.Bounded)
    assert isinstance(wrapped.layers[1].threshold, esn.Positive)
    step = eqx.filter_jit(lambda model, x: model(x, model.init_state(x)))
    agree(step(wrapped, xs[0]), step(model, xs[0]))
    for options in ({}, {"parallel": True}):
        agree(run(wrapped, xs, **options)[:2], run(model, xs, **options)[:2])
    batch = jnp.stack([xs, -xs], 1)
    run_batch = eqx.filter_jit(discrete.run_batch)
    agree(run_batch(wrapped, batch)[:2], run_batch(model, batch)[:2])
    # Each cell separately.
    for i in range(1, len(model.layers), 2):
        x = jnp.linspace(0.1, 1.0, N)
        agree(step(wrapped.layers[i], x), step(model.layers[i], x))
    masked = discrete.MaskedLinear(jnp.ones((2, 2)), np.eye(2, dtype=bool), jnp.ones(2))
    frozen = discrete.Frozen(masked)
    for layer in (
        esn.constrain(masked, lambda m: (m.weight, m.bias)),
        esn.constrain(frozen, lambda m: (m.layer.weight, m.layer.bias)),
    ):
        np.testing.assert_allclose(layer(jnp.array([1.0, 2.0])), [2.0, 3.0])
    flags = discrete.trainable(wrapped, "beta")
    assert flags.layers[1].beta.raw and not flags.layers[1].threshold.raw
    assert flags.layers[0].weight.raw


def test_a_rate_outside_its_range_stays_there_and_a_bounded_one_returns():
    """Steps of constant size, as by Adam, first upwards, then downwards."""

    @jax.jit
    @jax.grad
    def pull(beta):
        cell = eqx.tree_at(lambda c: c.beta, discrete.LeakyIntegrator(0.9), beta)
        return jnp.sum(discrete.run(cell, jnp.ones((5, 2))).membranes)

    def after(beta, step):
        for move in (step,) * 60 + (-step,) * 60:
            beta = jax.tree.map(lambda b, g, m=move: b + m * jnp.sign(g), beta, pull(beta))
        return beta

    plain = after(jnp.asarray(0.9), 0.01)
    assert 1 < plain < 1.02 and pull(plain) == 0
    bounded = after(esn.Bounded(0.9), 0.5)
    np.testing.assert_allclose(bounded.unwrap(), 0.9, rtol=1e-9)
    far = jax.tree.map(lambda raw: raw + 60 * 0.5, esn.Bounded(0.9))
    assert pull(far).raw > 0  # 1 - beta is 1e-14


@pytest.mark.parametrize(("lower", "upper"), [(0.0, 1.0), (-2.0, 3.0), (5.0, 20.0)])
def test_a_bounded_value_and_its_gradient(lower, upper):
    u = np.array([1e-12, 1e-3, 0.25, 0.5, 0.75, 0.999, 1 - 1e-12])
    x = lower + (upper - lower) * u
    wrapped = esn.Bounded(x, lower, upper)
    assert wrapped.shape == x.shape and wrapped.dtype == x.dtype
    np.testing.assert_allclose(wrapped.unwrap(), x, rtol=1e-12)
    slopes = jax.grad(lambda w: jnp.sum(w.unwrap()))(wrapped).raw
    x = np.asarray(wrapped.unwrap())
    np.testing.assert_allclose(slopes, (x - lower) * (upper - x) / (upper - lower), rtol=1e-3)
    np.testing.assert_allclose(slopes[1:-1], (upper - lower) * (u * (1 - u))[1:-1], rtol=1e-9)
    far = eqx.tree_at(lambda w: w.raw, wrapped, jnp.array([-800.0, -30.0, 0.0, 30.0, 800.0]))
    slopes = jax.grad(lambda w: jnp.sum(w.unwrap()))(far).raw / (upper - lower)
    tail = np.exp(-30.0)
    np.testing.assert_allclose(slopes, [0, tail, 0.25, tail, 0], rtol=1e-9, atol=1e-300)
    assert np.all((far.unwrap() >= lower) & (far.unwrap() <= upper))


def test_values_out_of_bounds_are_refused():
    for value in (0.0, 1.0, -0.5, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"^value must lie between 0\.0 and 1\.0, got .*\.$"):
            esn.Bounded(value)
    for bounds in ((1.0, 0.0), (0.0, 0.0), (0.0, np.inf), (np.nan, 1.0), ("0", 1.0)):
        with pytest.raises(
            ValueError, match=rf"^(lower|upper|lower and upper) must be .*, got ({bounds[0]!r}|inf)"
        ):
            esn.Bounded(0.5, *bounds)


# ------------------------------------------------------------------ number of compilations

COMPILATIONS = []


def count_compilations(event, duration, **kwargs):
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILATIONS.append(duration)


jax.monitoring.register_event_duration_secs_listener(count_compilations)


def compilations(function, *args):
    """Number of programs compiled by a call, whose result is discarded."""
    before = len(COMPILATIONS)
    jax.block_until_ready(jax.tree.leaves(eqx.filter(function(*args), eqx.is_array)))
    return len(COMPILATIONS) - before


def small(seed):
    rng = np.random.default_rng(seed)
    return discrete.Sequential(
        [
            jnp.negative,
            linear(N_IN, N, rng),
            discrete.RLeaky(jnp.asarray(rng.uniform()), linear(N, N, rng)),
            discrete.Leaky(0.8, threshold=rng.uniform(0.1, 1.0, N)),
        ]
    )


def test_streaming_compiles_once():
    models, frame, state = [small(seed) for seed in range(3)], np.ones((1, B, N_IN)), None
    counts = []
    for i in range(6):
        counts.append(
            compilations(lambda i=i, s=state: discrete.run_batch(models[i % 3], frame, state=s))
        )
        state = discrete.run_batch(models[i % 3], frame, state=state).state
    # Without a state and with one; the models differ only in their parameter values.
    assert counts[0] > 0 and counts[2:] == [0] * 4
    for call in (
        lambda m: discrete.run_batch(m, frame, state=state, layers=np.int64(3)),
        lambda m: discrete.run_batch(m, frame, state=state, layers=3, parallel=False),
    ):
        assert compilations(call, models[0]) == 0


def test_every_way_to_run_compiles_once():
    xs, key = jnp.ones((T, B, N_IN)), jax.random.key(0)

    def total(model):
        return jnp.sum(discrete.run_batch(model, xs).spikes)

    for call in (
        lambda m: discrete.run(m, xs[:, 0], layers=(2, 3), key=key),
        lambda m: discrete.run(m, xs[0, 0], num_steps=T, parallel=True),
        lambda m: discrete.run_batch(m, xs[0], num_steps=np.int64(T)),
        lambda m: jax.vmap(lambda x: discrete.run(m, x).spikes, in_axes=1)(xs),
        eqx.filter_grad(total),
    ):
        assert compilations(call, small(0)) > 0
        assert compilations(call, small(1)) == 0


def test_a_scan_of_an_event_network_compiles_once():
    def query(seed):
        net = esn.recurrent(
            esn.LIF(10.0, 5.0),
            inputs=2,
            hidden=2,
            outputs=1,
            init=jax.nn.initializers.uniform(8.0),
            key=jax.random.key(seed),
            t_max=2.0,
        )
        scan = esn.discretise(net, 0.1)
        in_times = jnp.ones((2, 2, 1))
        return lambda: (scan.ttfs(in_times), scan.potentials_at(in_times, jnp.ones(1)))

    first, second = query(0), query(1)
    assert compilations(first) > 0
    assert compilations(second) == 0


def traced():
    """Model, and a list of the inputs with which it is traced."""
    notes = []

    def layer(x):
        notes.append(x.shape)
        return x

    return notes, discrete.Sequential([layer, discrete.Leaky(0.9)])


def test_a_jit_around_a_run_is_one_program():
    notes, model = traced()
    around = jax.jit(lambda xs: discrete.run_batch(model, xs).spikes)
    assert compilations(around, jnp.ones((T, B, N))) == 1
    seen = len(notes)
    assert seen > 0 and compilations(around, 2 * jnp.ones((T, B, N))) <= 1  # of the matrix product
    assert len(notes) == seen
    lowered = around.lower(jnp.ones((T, B, N))).compile()
    assert "while" in lowered.as_text()


def test_invalid_calls_are_not_traced():
    notes, model = traced()
    xs = jnp.ones((T, B, N))
    for call in (
        lambda: discrete.run(model, xs, num_steps=0),
        lambda: discrete.run(model, xs, num_steps=1.5),  # pyright: ignore[reportArgumentType]
        lambda: discrete.run(model, xs, layers=2),
        lambda: discrete.run(model, xs, layers=()),
        lambda: discrete.run(model, xs, key=7),  # pyright: ignore[reportArgumentType]
        lambda: discrete.run(model, xs, parallel="no"),  # pyright: ignore[reportArgumentType]
        lambda: discrete.run(model, jnp.ones(())),
        lambda: discrete.run_batch(model, jnp.ones(3)),
        lambda: discrete.run_batch(model, xs, key=jax.random.split(jax.random.key(0), 2)),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert type(caught.value) is ValueError and "\n" not in str(caught.value)
        assert not getattr(caught.value, "__notes__", [])  # added by JAX during tracing
    assert not notes


class Normalised(discrete.AbstractCell):
    """Layer that subtracts the mean over the batch."""

    def init_state(self, x):
        return None

    def __call__(self, x, state, *, key=None):
        return x - jax.lax.pmean(x, "batch"), None


def test_a_named_axis_of_a_map_around_a_run_is_seen(rng):
    model = discrete.Sequential([Normalised(), discrete.LeakyIntegrator(0.5)])
    xs = normal(rng, T, B, N)
    mapped = jax.vmap(lambda x: discrete.run(model, x).spikes, 1, 1, axis_name="batch")
    centred = xs - jnp.mean(xs, axis=1, keepdims=True)
    agree(mapped(xs), discrete.run_batch(model.layers[1], centred).spikes)
