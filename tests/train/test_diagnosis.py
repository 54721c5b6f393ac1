"""Failed training: the step, the parameters and outputs involved, and the remaining results."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eventsnn as esn
from eventsnn import discrete, losses
from eventsnn.train import diagnose, fit
from eventsnn.train.evidence import event_evidence, flat_readouts
from helpers.least_squares import OPTIMIZER, data, line, squared_error, train

# The middle of a dispatch of 4 steps, its first step, its last step, and a short last dispatch.
STEPS = (6, 8, 7, 9)


@functools.cache
def step_by_step(loss=squared_error):
    """Losses of ten steps, and the model before each step."""
    batches = data(10) if loss is squared_error else [(*batch, np.ones(8)) for batch in data(10)]
    options = {"steps": 10, "steps_per_dispatch": 1, "snapshot": lambda m: m, "progress": False}
    result = fit(line(), batches, loss, OPTIMIZER, **options)
    return result.losses, result.snapshots


def check_result(result, step, losses, models):
    """Check that the result is that of the steps before this one."""
    np.testing.assert_allclose(result.losses, losses[:step], rtol=1e-14)
    np.testing.assert_allclose(result.model.slope, models.slope[step], rtol=1e-14)
    np.testing.assert_allclose(result.model.offset, models.offset[step], rtol=1e-14)


@pytest.mark.parametrize("step", STEPS)
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(step):
    batches = data(10)
    batches[step][0][3] = np.nan
    message = (
        rf"the loss is nan at step {step + 1} of 10: batch\[0\] is NaN in 12.5 % of the samples\. "
        "Try batches without NaN"
    )
    with pytest.raises(FloatingPointError, match=message) as caught:
        train(10, batches, snapshot=lambda m: m.offset, average=2, monitor=squared_error)
    found = caught.value.result
    check_result(found, step, *step_by_step())
    np.testing.assert_allclose(found.monitored, found.losses, rtol=1e-14)
    np.testing.assert_array_equal(found.snapshot_steps, range(0, step + 1, 4))
    if step == 9:  # one of the two steps to average was completed
        np.testing.assert_array_equal(found.average.slope, found.model.slope)
    else:
        assert found.average is None


def root_error(model, batch):
    """Loss with a finite value, whose gradient with respect to `offset` is NaN where `scale` is
    0."""
    x, y, scale = batch
    return squared_error(model, (x, y)) + jnp.mean(jnp.sqrt(scale * model.offset**2))


@pytest.mark.parametrize("step", STEPS)
def test_a_parameter_that_is_not_finite_stops_the_run_and_is_named(step):
    scales = np.ones((10, 8))
    scales[step, 2] = 0.0
    batches = [(*batch, scale) for batch, scale in zip(data(10), scales, strict=True)]
    options = {"steps": 10, "steps_per_dispatch": 4, "progress": False}
    with pytest.raises(FloatingPointError) as caught:
        fit(line(), batches, root_error, OPTIMIZER, **options)
    message = str(caught.value)
    assert message.startswith(f"the parameter offset is not finite at step {step + 1} of 10 (its ")
    assert "a lower learning rate" in message and "clip" in message and "\n" not in message
    check_result(caught.value.result, step, *step_by_step(root_error))


def test_an_update_that_overflows_is_seen_before_the_loss_is_infinite():
    steep = optax.sgd(1e300)
    with pytest.raises(
        FloatingPointError, match=r"slope and \[0\]\.offset are not finite at step 1"
    ):
        fit(
            [line()], data(2), lambda m, b: 1e30 * m[0].offset * jnp.sum(m[0].slope), steep, steps=2
        )


def test_parameters_are_checked_before_the_first_step():
    model = eqx.tree_at(lambda m: m.slope, line(), jnp.array([1.0, jnp.nan]))
    with pytest.raises(FloatingPointError, match="NaN before the first step: slope"):
        fit(model, data(2), squared_error, OPTIMIZER, steps=2, progress=False)


def test_a_parameter_may_be_infinite_to_begin_with():
    model = [line(), jnp.array([jnp.inf, 1.0])]
    batches = data(8)

    def loss(model, batch):
        return squared_error(model[0], batch)

    options = {"steps": 8, "steps_per_dispatch": 4, "progress": False}
    result = fit(model, batches, loss, OPTIMIZER, **options)
    np.testing.assert_array_equal(result.model[1], [jnp.inf, 1.0])
    batches[5][0][3] = 1e200
    with pytest.raises(FloatingPointError, match="the loss is inf at step 6 of 8"):
        fit(model, batches, loss, OPTIMIZER, **options)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError("no disk")])
def test_an_interrupted_run_returns_its_completed_dispatches(failure):
    def batches():
        yield from data(7)
        raise failure

    with pytest.raises(BaseException) as caught:
        train(20, batches(), steps_per_dispatch=2)
    assert caught.value is failure or isinstance(caught.value, KeyboardInterrupt)
    check_result(caught.value.result, 6, *step_by_step())
    assert caught.value.result.n_devices == 1


def test_batches_that_end_early_have_been_trained_on():
    with pytest.raises(ValueError, match="batches must have at least 8 batches, got 5") as caught:
        train(8, data(5))
    check_result(caught.value.result, 5, *step_by_step())


def test_an_error_before_the_first_step_returns_the_model():
    with pytest.raises(ValueError, match="scalar") as caught:
        fit(line(), data(2), lambda m, b: b[1], OPTIMIZER, steps=2, progress=False)
    assert caught.value.result.losses.shape == (0,)
    np.testing.assert_array_equal(caught.value.result.model.slope, line().slope)


# A NaN pixel in the fourth batch makes its loss NaN; if a loss hides it, the update is NaN.
@pytest.mark.parametrize("hidden", [False, True])
def test_a_nan_pixel_stops_a_run_of_the_discrete_mode(hidden):
    keys = jax.random.split(jax.random.key(0), 2)
    model = discrete.Sequential(
        [
            eqx.nn.Linear(5, 16, key=keys[0]),
            discrete.Leaky(0.9),
            eqx.nn.Linear(16, 3, key=keys[1]),
            discrete.Leaky(0.9),
        ]
    )
    x, y = np.random.default_rng(0).uniform(size=(8, 5)), np.arange(8) % 3
    bad = x.copy()
    bad[0, 0] = np.nan

    def loss(model, batch):
        spikes = discrete.run_batch(model, batch[0], num_steps=6).spikes
        seen = jnp.where(jnp.isnan(spikes), 0.0, spikes) if hidden else spikes
        return losses.mse_count(seen, batch[1])

    spec = discrete.trainable(model)
    options = {"steps": 20, "filter_spec": spec, "progress": False}
    batches = [(x, y)] * 3 + [(bad, y)] + [(x, y)] * 16
    what = "the loss is nan"
    if hidden:
        what = r"the parameters layers\[0\]\.weight, .* are not finite"
    message = rf"{what} at step 4 of 20.*: batch\[0\] is NaN in 12\.5 % of the samples"
    with pytest.raises(FloatingPointError, match=message) as caught:
        fit(model, batches, loss, optax.sgd(1e-3), **options)
    result = caught.value.result
    assert result.losses.shape == (3,)
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(eqx.filter(result.model, spec)))


# Two outputs, each driven by its own input: an output is silent exactly if its input is.
T_MAX = 30.0


def event_net(first=9.0, second=9.0):
    weights = jnp.zeros((4, 2)).at[2, 0].set(first).at[3, 1].set(second)
    return esn.EventNetwork(esn.LIF(20.0, 5.0), weights, outputs=(0, 1), t_max=T_MAX)


def event_batch(silent):
    """Four samples; `silent[c]` of them have no spike in channel `c`."""
    times = np.full((4, 2, 1), 1.0)
    for channel, count in enumerate(silent):
        times[:count, channel] = np.inf
    return (times,)


def square_of_times(net, batch):
    return jnp.mean((net.ttfs(batch[0], throw=False) - 9.0) ** 2)


def square_within(net, batch):
    times = net.ttfs(batch[0], throw=False)
    return losses.mse_time(times, jnp.full_like(times, 9.0), t_max=T_MAX)


EVENT = {"steps": 3, "steps_per_dispatch": 3, "progress": False}


def test_a_parameter_of_the_event_mode_that_is_not_finite_is_named():
    """A constrained time constant, whose gradient is NaN in the second step of a finite loss."""
    net = esn.constrain(event_net(), lambda net: net.neuron.tau_mem)

    def loss(net, batch):
        in_times, scale = batch
        penalty = jnp.mean(jnp.sqrt(scale * esn.unwrap(net).neuron.tau_mem ** 2))
        return square_of_times(net, (in_times,)) + penalty

    batches = [(*event_batch([0, 0]), np.ones(4)) for _ in range(3)]
    batches[1][1][2] = 0.0
    spec = esn.trainable(net, "weights", "tau_mem")
    message = r"^the parameter neuron\.tau_mem.* is not finite at step 2 of 3 \(its loss is \d"
    with pytest.raises(FloatingPointError, match=message) as caught:
        fit(net, batches, loss, optax.sgd(1e-3), filter_spec=spec, **EVENT)
    result = caught.value.result
    assert result.losses.shape == (1,) and bool(jnp.isfinite(result.model.neuron.tau_mem.raw))
    assert bool(jnp.any(result.model.weights != net.weights))


def test_an_infinite_loss_names_the_silent_outputs_and_their_share_of_the_batch():
    batches = [event_batch((0, 0))] * 2 + [event_batch((1, 3))]
    message = (
        r"the loss is inf at step 3 of 3: output 1 is silent in 75 % and output 0 in 25 % of the "
        r"samples of the batch\. Try larger initial weights, pseudospikes .*ce_ttfs.*a "
        "lower learning rate"
    )
    with pytest.raises(FloatingPointError, match=message) as caught:
        fit(event_net(), batches, square_of_times, optax.sgd(1e-4), **EVENT)
    assert caught.value.result.losses.shape == (2,)


def overflowing(step):
    """Four batches; the one at `step` makes the loss infinite, but contains no NaN or infinity."""
    batches = data(4)
    batches[step][0][0] = 1e200
    return batches


def test_outputs_gives_the_activity_of_the_outputs():
    def fired(model, batch):
        return jnp.stack([batch[0][:, 0] < 1e100, jnp.full(8, model.slope[0] != 0.5)], axis=1)

    message = (
        r"the loss is inf at step 3 of 4: output 0 is silent in 12\.5 % of the samples of the "
        r"batch\. Try larger initial weights, lower thresholds, a lower"
    )
    with pytest.raises(FloatingPointError, match=message):
        train(4, overflowing(2), outputs=fired)
    options = {"optimizer": OPTIMIZER, "steps": 4, "progress": False, "key": jax.random.key(0)}
    options |= {"loss_fn": lambda m, b, key: squared_error(m, b)}
    with pytest.raises(FloatingPointError, match=message):
        fit(line(), overflowing(2), outputs=lambda m, b, key: fired(m, b), **options)
    with pytest.raises(
        FloatingPointError, match=r"at step 3 of 4\. Try .* or outputs=\.\.\. to see"
    ):
        train(4, overflowing(2))


def test_data_that_are_infinite_are_named_where_inf_is_no_padding():
    batches = data(4)
    batches[1][0][:4] = np.inf
    with pytest.raises(FloatingPointError, match=r"at step 2 of 4: batch\[0\] is infinite in 50 %"):
        train(4, batches)


def test_an_error_in_outputs_does_not_hide_the_failure():
    with pytest.raises(
        FloatingPointError, match=r"the loss is inf .* cannot be computed: outputs must.*[^.]\. Try"
    ):
        train(4, overflowing(2), outputs=lambda model, batch: batch[0][0])


def test_silent_outputs_without_gradients_are_reported_once():
    message = (
        r"all gradients are exactly 0 at step 2 of 3: outputs 0 and 1 are silent in 100 % of the "
        r"samples of the batch\. Try larger initial weights or pseudospikes"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        batches = [event_batch((0, 0)), event_batch((4, 4)), event_batch((4, 4))]
        result = fit(event_net(), batches, square_within, optax.sgd(1e-3), **EVENT)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert result.losses.shape == (3,)


def test_an_output_that_stays_silent_is_reported():
    # Silent in 19 batches, then not in one sample of one batch, then in 20 batches.
    silent = [4] * 19 + [3] + [4] * 20
    message = r"no gradient for output 1 since step 21: output 1 is silent in 100 % of the samples"
    with pytest.warns(UserWarning, match=message) as caught:
        fit(
            event_net(),
            [event_batch((0, count)) for count in silent],
            square_within,
            optax.sgd(1e-3),
            steps=40,
            steps_per_dispatch=4,
            progress=False,
        )
    assert len(caught) == 1


def test_a_loss_of_zero_needs_no_gradient():
    fit(line(), data(4), lambda m, b: 0.0 * squared_error(m, b), OPTIMIZER, steps=4, progress=False)
    with pytest.warns(UserWarning, match="all gradients are exactly 0 at step 1 of 4"):
        fit(line(), data(4), lambda m, b: jnp.mean(b[1]), OPTIMIZER, steps=4, progress=False)


@pytest.mark.parametrize("outputs", [(0, 1), (1,)])  # without and with a hidden neuron
def test_samples_that_reach_a_limit_are_not_called_silent(outputs):
    weights = event_net().weights
    net = esn.EventNetwork(esn.LIF(20.0, 5.0), weights, outputs=outputs, t_max=T_MAX, max_events=2)
    times = np.full((4, 2, 2), np.inf)
    times[1:, 0] = [0.1, 0.2]  # two events, before any output fires
    found = event_evidence((net, 1.0), {"labels": np.ones(4), "times": times})
    assert found.silent.shape == (4, len(outputs))
    assert found.silent[0].all()
    assert not found.silent[1:].any()
    failed = [cause for cause in found.causes if "all neurons of hidden" not in cause]
    assert failed == ["75 % of the samples end with the status max_events"]
    assert found.advice == ("a larger max_events",)


def test_a_readout_is_not_silent():
    rest = esn.Refractory(esn.LIF(20.0, 5.0), period=1.0)
    neuron = esn.Populations([(rest, 1), (esn.LeakyIntegrator(20.0, 5.0), 1)])
    net = esn.EventNetwork(neuron, jnp.zeros((3, 2)), outputs=(1, 0), t_max=T_MAX)
    found = event_evidence(net, (np.ones((4, 1, 1)),))
    np.testing.assert_array_equal(found.silent, [[False, True]] * 4)
    assert event_evidence(net, (np.ones((4, 2, 1)),)) is None  # no input of this network
    assert event_evidence((net, net), (np.ones((4, 1, 1)),)) is None  # of two networks


def test_diagnose_takes_times_counts_and_booleans():
    times = np.array([[np.inf, 1.0, 2.0, np.inf], [2.0, 3.0, 4.0, np.inf]])
    found = diagnose(loss=jnp.inf, outputs=times)
    np.testing.assert_array_equal(found.silent, [0.5, 0.0, 0.0, 1.0])
    assert not found.finite
    with pytest.raises(FloatingPointError) as caught:
        found.report("at step 3")
    assert str(caught.value).startswith(
        "the loss is inf at step 3: output 3 is silent in 100 % and output 0 in 50 % of the "
        "samples of the batch. Try larger initial weights, "
    )
    for outputs in (np.isfinite(times), np.isfinite(times).astype(np.int32)):
        found = diagnose(outputs=jnp.asarray(outputs))
        np.testing.assert_array_equal(found.silent, [0.5, 0.0, 0.0, 1.0])
        assert found.finite and "lower thresholds" in found.message()
        assert "pseudospikes" not in found.message()


def test_diagnose_names_parameters_and_gradients():
    model = {"a": [jnp.ones(2), jnp.array([1.0, jnp.inf])], "n": jnp.arange(3), "f": abs}
    grads = {"b": jnp.array(jnp.nan), "c": jnp.ones(2)}
    found = diagnose(loss=1.0, model=model, grads=grads, batch=(np.array([1.0, np.nan]),))
    assert found.message("at step 2").startswith(
        "the parameter ['a'][1] is not finite and the gradient ['b'] is not finite at step 2: "
        "batch[0] is NaN in 50 % of the samples. Try batches without NaN"
    )
    found = diagnose(loss=1.0, grads={"b": jnp.zeros(3)})
    assert found.finite
    with pytest.warns(UserWarning, match="all gradients are exactly 0 at step 5") as caught:
        found.report("at step 5")
    assert caught[0].filename == __file__


def test_diagnose_reports_nothing_if_nothing_is_wrong():
    model = {"b": jnp.ones(3)}
    found = diagnose(
        loss=1.0, model=model, grads=model, outputs=np.ones((4, 2)), batch=(np.ones(4),)
    )
    assert found.message("at step 1") == "" and found.finite
    found.report()
    diagnose(loss=0.0, grads={"b": jnp.zeros(3)}).report()  # a loss of 0 has no gradient


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": np.ones(2)}, r"loss must be a scalar, got shape \(2,\)"),
        ({"loss": "inf"}, "loss must be a real number, got 'inf'"),
        (
            {"outputs": np.ones(2)},
            r"outputs must have shape \(batch, n_outputs\).*, got shape \(2,\)",
        ),
        ({"outputs": np.ones((5, 2, 3))}, r"outputs must .* got shape \(5, 2, 3\)"),
        ({"outputs": np.full((2, 2), None)}, r"outputs must be real .* got array\(\[\[None"),
        ({"outputs": np.ones((0, 3))}, r"outputs must .* got shape \(0, 3\)"),
    ],
)
def test_diagnose_refuses_other_shapes(given, message):
    with pytest.raises(ValueError, match=message):
        diagnose(**given)


def test_diagnose_refuses_traced_values():
    with pytest.raises(ValueError, match="loss must have concrete values, got traced ones"):
        jax.jit(lambda x: diagnose(loss=x).silent)(1.0)


# ------------------------------------------------------------------ layers


def two_layers(first, *, max_spikes=3):
    """Two inputs, three hidden neurons and two outputs; the weights onto a layer are equal."""
    lif = esn.LIF(20.0, 5.0)
    hidden = esn.EventLinear(lif, jnp.full((2, 3), first), t_max=T_MAX, max_spikes=max_spikes)
    return esn.EventSequential([hidden, esn.EventLinear(lif, jnp.full((3, 2), 9.0), t_max=T_MAX)])


def test_silent_outputs_of_layers_are_named():
    batches = [event_batch((0, 0)), event_batch((1, 3))]
    found = event_evidence(two_layers(9.0), batches[1])
    np.testing.assert_array_equal(found.silent, [[True, True]] + [[False, False]] * 3)
    message = r"the loss is inf at step 2 of 3: outputs 0 and 1 are silent in 25 % of the samples"
    with pytest.raises(FloatingPointError, match=message):
        fit(two_layers(9.0), [*batches, batches[0]], square_of_times, optax.sgd(1e-4), **EVENT)


def test_a_silent_hidden_layer_is_named():
    found = event_evidence(two_layers(0.1), event_batch((0, 0)))
    assert found.causes == ("all neurons of layers[0] are silent",)
    message = r"all gradients are exactly 0 at step 1 of 3: all neurons of layers\[0\] are silent"
    with pytest.warns(UserWarning, match=message):
        fit(two_layers(0.1), [event_batch((0, 0))] * 3, square_within, optax.sgd(1e-3), **EVENT)


def test_samples_that_fail_in_a_layer_are_named_once():
    times = np.full((4, 2, 3), np.inf)
    times[:, 0, 0], times[:1, 0, 1:] = 1.0, [5.0, 10.0]
    found = event_evidence(two_layers(40.0, max_spikes=1), (times,))
    (cause,) = found.causes
    assert cause == "100 % of the samples end with the status max_spikes in layers[0]"
    assert found.advice == ("a larger max_spikes or truncate=True",)
    assert not found.silent.any()


def test_the_input_of_layers_may_be_an_image():
    kernel, lif = jnp.full((1, 1, 2, 2), 9.0), esn.LIF(20.0, 5.0)
    layers = [esn.EventConv2d(lif, kernel, t_max=T_MAX, max_spikes=9), esn.EventFlatten()]
    outputs = esn.EventLinear(esn.LeakyIntegrator(20.0, 5.0), jnp.ones((4, 2)), t_max=T_MAX)
    model = esn.EventSequential([*layers, outputs])
    times = np.ones((5, 1, 3, 3, 1))
    found = event_evidence((model, None), {"labels": np.ones(5), "times": times})
    assert found.silent.shape == (5, 0) and not found.causes
    assert event_evidence(model, (np.ones((5, 3)),)) is None
    silent = event_evidence(model, (np.full_like(times, np.inf),))
    assert silent.causes == ("all neurons of layers[0] are silent",)


def test_an_output_of_layers_that_stays_silent_is_reported():
    model = two_layers(9.0)
    model = eqx.tree_at(lambda m: m.layers[1].weights, model, jnp.array([[9.0, -9.0]] * 3))
    with pytest.warns(UserWarning, match="no gradient for output 1 since step 1: output 1 is sil"):
        fit(
            model,
            [event_batch((0, 0))] * 20,
            square_within,
            optax.sgd(1e-4),
            steps=20,
            progress=False,
        )


@pytest.mark.parametrize("encoded", [True, False])
def test_a_readout_of_silent_neurons_is_reported(encoded):
    """Also if rounding errors of the shared bias prevent that all gradients are exactly 0, and if
    the batch does not contain the spikes."""
    lif, readout = esn.LIF(20.0, 20.0), esn.LeakyIntegrator(20.0, 20.0)
    hidden = esn.EventLinear(lif, jnp.full((2, 4), 1e-3), t_max=T_MAX, max_spikes=3)
    outputs = esn.EventLinear(readout, jnp.ones((4, 3)), t_max=T_MAX)
    model = esn.EventSequential([hidden, outputs])

    def loss(model, batch):
        times = batch if encoded else jnp.swapaxes(batch, 1, 2)
        found = model.integrals(times, throw=False)
        return jnp.sum(found[:, 0]) + 1e-9 * model.layers[1].neuron.bias

    batch = np.ones((3, 2, 1)) if encoded else np.ones((3, 1, 2))
    cause = "all neurons of layers.0. are silent" if encoded else "all neurons of a layer may be"
    with pytest.warns(UserWarning, match=f"for any output since step 1: {cause}.*activity"):
        fit(model, [batch] * 20, loss, optax.sgd(1e-4), steps=20, progress=False)


def test_a_readout_whose_maximum_is_constant_is_reported():
    """One of two readouts has inhibitory weights, so that its maximum is the initial potential."""
    readout = esn.LeakyIntegrator(20.0, 20.0, v_init=0.5)
    weights = jnp.array([[8.0, -1.0], [8.0, -2.0]])
    model = esn.EventSequential([esn.EventLinear(readout, weights, t_max=T_MAX)])
    batch = np.array([[[1.0], [2.0]], [[3.0], [np.inf]], [[4.0], [5.0]]])
    np.testing.assert_array_equal(flat_readouts(model, (batch,)), [False, True])

    def loss(model, batch):
        return jnp.mean(model.maxima(batch[0], throw=False))

    message = "no gradient for output 1 since step 1: the potential exceeds its initial value in no"
    with pytest.warns(UserWarning, match=message) as caught:
        fit(model, [(batch,)] * 25, loss, optax.sgd(1e-4), steps=25, progress=False)
    assert len(caught) == 1 and caught[0].filename == __file__
    # The second input raises the same readout in two of the samples.
    weights = weights.at[1, 1].set(5.0)
    model = eqx.tree_at(lambda m: m.layers[0].weights, model, weights)
    np.testing.assert_array_equal(flat_readouts(model, (batch,)), [False, False])
    assert flat_readouts(model, (batch[:, :1],)).size == 0  # no input of this model


def test_the_progress_bar_shows_the_share_of_outputs_without_gradient(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # older versions of tqdm shorten the text
    options = EVENT | {"progress": True}
    with pytest.warns(UserWarning, match="no gradient for output 1"):
        fit(event_net(), [event_batch((0, 4))] * 3, square_within, optax.sgd(1e-4), **options)
    assert "50% of the outputs without gradient" in capsys.readouterr().err
    fit(event_net(), [event_batch((0, 0))] * 3, square_within, optax.sgd(1e-4), **options)
    assert "without gradient" not in capsys.readouterr().err
