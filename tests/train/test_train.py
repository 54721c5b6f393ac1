"""Training on models small enough to check by hand: least squares without spikes."""

import io
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eventsnn as esn
from eventsnn import discrete
from eventsnn.losses import mae_time, mse_time
from eventsnn.train import fit, make_step
from eventsnn.train.selection import trained_part
from helpers.least_squares import OPTIMIZER, data, line, mean_absolute_error, squared_error, train


def test_fit_finds_the_line():
    result = train(400, steps_per_dispatch=50)
    np.testing.assert_allclose(result.model.slope, [2.0, -1.0], atol=1e-3)
    np.testing.assert_allclose(result.model.offset, 3.0, atol=1e-3)
    assert result.losses.shape == (400,)
    assert result.losses[-1] < 1e-4 * result.losses[0]
    assert result.compile_seconds > 0
    assert result.steps_per_second > 0


# 10 steps: equal dispatches, a shorter last one, one longer than the run, one step per dispatch.
@pytest.mark.parametrize("steps", [5, 4, 64, 1])
def test_fit_equals_a_plain_loop(steps):
    step = eqx.filter_jit(eqx.filter_value_and_grad(squared_error))
    model, state, losses = line(), OPTIMIZER.init(eqx.filter(line(), eqx.is_inexact_array)), []
    for batch in data(10):
        loss, grads = step(model, batch)
        updates, state = OPTIMIZER.update(grads, state)
        model = eqx.apply_updates(model, updates)
        losses.append(loss)
    result = train(10, steps_per_dispatch=steps)
    np.testing.assert_allclose(result.losses, np.stack(losses), rtol=1e-6)
    np.testing.assert_allclose(result.model.slope, model.slope, rtol=1e-6)
    np.testing.assert_allclose(result.model.offset, model.offset, rtol=1e-6)


def test_the_monitor_is_recorded_before_each_update():
    watched = data(20)[10:]
    pairs = list(zip(data(10), watched, strict=True))

    def learn(model, batch):
        return squared_error(model, batch[0])

    def watch(model, batch):
        return mean_absolute_error(model, batch[1])

    step = eqx.filter_jit(make_step(learn, OPTIMIZER))
    model, state, expected = line(), OPTIMIZER.init(eqx.filter(line(), eqx.is_inexact_array)), []
    for pair in pairs:
        expected.append(watch(model, pair))
        model, state, _ = step(model, state, pair)
    options = {"steps": 10, "steps_per_dispatch": 4, "progress": False}
    result = fit(line(), pairs, learn, OPTIMIZER, monitor=watch, **options)
    assert result.monitored.shape == (10,)
    np.testing.assert_allclose(result.monitored, np.stack(expected), rtol=1e-6)
    # The monitored value has no effect: training is the same, and its NaN stops nothing.
    alone = fit(line(), pairs, learn, OPTIMIZER, **options)
    assert alone.monitored is None
    np.testing.assert_array_equal(result.losses, alone.losses)
    np.testing.assert_array_equal(result.model.slope, alone.model.slope)
    lost = fit(line(), pairs, learn, OPTIMIZER, monitor=lambda m, b: m.offset * np.nan, **options)
    assert np.all(np.isnan(lost.monitored)) and np.array_equal(lost.losses, alone.losses)


def test_make_step_is_one_step_of_fit():
    step = eqx.filter_jit(make_step(squared_error, OPTIMIZER))
    state = OPTIMIZER.init(eqx.filter(line(), eqx.is_inexact_array))
    model, _, loss = step(line(), state, data(1)[0])
    result = train(1)
    np.testing.assert_allclose(loss, result.losses[0], rtol=1e-6)
    np.testing.assert_allclose(model.slope, result.model.slope, rtol=1e-6)


def noisy(model, batch, key):
    return squared_error(model, batch) + model.offset * jax.random.normal(key)


@pytest.mark.parametrize("key", [jax.random.key(3), jax.random.PRNGKey(3)])
def test_the_key_of_a_step_is_derived_from_the_key_of_fit(key):
    step = eqx.filter_jit(make_step(noisy, OPTIMIZER))
    model, state, losses = line(), OPTIMIZER.init(eqx.filter(line(), eqx.is_inexact_array)), []
    for i, batch in enumerate(data(7)):
        model, state, loss = step(model, state, batch, jax.random.fold_in(key, i))
        losses.append(loss)
    options = {"steps": 7, "steps_per_dispatch": 3, "progress": False, "key": key}
    result = fit(line(), data(7), noisy, OPTIMIZER, monitor=noisy, **options)
    np.testing.assert_allclose(result.losses, np.stack(losses), rtol=1e-12)
    np.testing.assert_array_equal(result.monitored, result.losses)
    np.testing.assert_allclose(result.model.offset, model.offset, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss_fn", "key", "message"),
    [
        (squared_error, jax.random.key(0), r"loss_fn must .* of \(model, batch, key\), got <func"),
        (noisy, None, r"\(model, batch\), without a key, unless `key` is given, got <func"),
        (noisy, 0, "key must be one jax.random key, got 0"),
    ],
)
def test_a_loss_takes_a_key_exactly_if_there_is_one(loss_fn, key, message):
    with pytest.raises(ValueError, match=message):
        fit(line(), data(2), loss_fn, OPTIMIZER, steps=2, key=key, progress=False)


def test_only_what_the_filter_names_trains():
    everything = jax.tree.map(lambda _: False, line())
    result = train(8, filter_spec=eqx.tree_at(lambda m: m.slope, everything, True))
    assert not np.array_equal(result.model.slope, line().slope)
    np.testing.assert_array_equal(result.model.offset, line().offset)


def test_by_default_weights_and_biases_train_and_neuron_parameters_do_not():
    """The rule is the same in both modes, also in a model with parts of both."""
    neuron = esn.LIF(10.0, 5.0, bias=0.1)
    layer = esn.EventLinear(neuron, jnp.ones((1, 1)), t_max=20.0, max_spikes=1)
    model = layer, [eqx.nn.Linear(1, 1, key=jax.random.key(0)), discrete.Leaky(0.9)], jnp.ones(2)
    trained = trained_part(model, None)
    assert len(jax.tree.leaves(trained)) == 5
    bias, (linear, cell) = trained[0].neuron.bias, trained[1]
    assert None not in (trained[0].weights, bias, linear.weight, linear.bias, trained[2])
    assert cell.beta is None and cell.threshold is None and trained[0].neuron.tau_mem is None
    chosen = trained_part(model[1], discrete.trainable(model[1], "beta"))
    assert chosen[1].beta is not None and chosen[1].threshold is None
    with pytest.raises(ValueError, match="got None: neuron parameters train only if a filter sel"):
        make_step(squared_error, OPTIMIZER)(discrete.Leaky(0.9), (), data(1)[0])


def test_the_original_model_is_unchanged():
    model = line()
    fit(model, data(4), squared_error, OPTIMIZER, steps=4, progress=False)
    np.testing.assert_array_equal(model.slope, line().slope)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_dtype_stays(dtype):
    with jax.enable_x64(True):
        model = jax.tree.map(lambda x: x.astype(dtype), line())
        batches = [(x.astype(dtype), y.astype(dtype)) for x, y in data(3)]
        result = fit(model, batches, squared_error, OPTIMIZER, steps=3, progress=False)
    assert result.model.slope.dtype == result.model.offset.dtype == dtype


def test_snapshots_are_taken_at_the_start_every_k_steps_and_at_the_end():
    result = train(
        10,
        steps_per_dispatch=2,
        snapshot_every=4,
        snapshot=lambda m: {"slope": m.slope, "offset": m.offset},
    )
    np.testing.assert_array_equal(result.snapshot_steps, [0, 4, 8, 10])
    assert result.snapshots["slope"].shape == (4, 2)
    np.testing.assert_array_equal(result.snapshots["slope"][0], line().slope)
    np.testing.assert_array_equal(result.snapshots["slope"][-1], result.model.slope)
    np.testing.assert_allclose(result.snapshots["offset"][1], train(4).model.offset, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"steps": 8.0}, r"steps must be an integer >= 1, got 8\.0"),
        ({"steps": "8"}, "steps must be an integer >= 1, got '8'"),
        ({"steps": None}, "steps must be an integer >= 1, got None"),
        ({"steps": True}, "steps must be an integer >= 1, got True"),
        ({"steps": 2**31}, "steps must be an integer .* <= 2147483647, got 2147483648"),
        ({"steps": 2**31 - 1}, "batches must have at least 2147483647 batches, got 8"),
        ({"steps_per_dispatch": -1}, "steps_per_dispatch must be an integer >= 1, got -1"),
        ({"steps_per_dispatch": [4]}, r"steps_per_dispatch must be an integer >= 1, got \[4\]"),
        ({"average": 1.5}, r"average must be an integer >= 1, got 1\.5"),
        ({"average": np.nan}, "average must be an integer >= 1, got nan"),
        ({"average": 0}, "average must be an integer >= 1, got 0"),
        ({"average": 9}, "average must be at most steps = 8, got 9"),
        ({"snapshot_every": 0.5}, r"snapshot_every must be an integer >= 1, got 0\.5"),
        (
            {"steps_per_dispatch": 4, "snapshot_every": 6},
            "multiple of steps_per_dispatch = 4, got 6",
        ),
        ({"batches": data(5)}, "batches must have at least 8 batches, got 5"),
        ({"batches": []}, r"batches must be an iterable of batches, at least one, got \[\]"),
        ({"batches": 3}, "batches must be an iterable of batches, at least one, got 3"),
        ({"batches": [(np.ones((3, 2)), np.ones(2))]}, "the batch as its first axis"),
        ({"batches": [(np.ones((0, 2)), np.ones(0))]}, "at least one sample, got shapes"),
        (
            {"batches": [{"x": np.array(["a"])}]},
            r"batches must contain numbers or booleans, got <U1 in batch\['x'\]",
        ),
        ({"devices": []}, r"devices must be distinct JAX devices, at least one, got \[\]"),
        ({"devices": [0]}, r"devices must be distinct JAX devices, at least one, got \[0\]"),
        ({"devices": jax.devices()[:1] * 2}, "devices must be distinct JAX devices"),
        ({"progress": "no"}, "progress must be True or False, got 'no'"),
        ({"monitor": 1}, r"monitor must be a function of \(model, batch\), got 1"),
        ({"snapshot": "slope"}, "snapshot must be a function of the model, got 'slope'"),
        ({"outputs": 1}, r"outputs must be a function of \(model, batch\), got 1"),
        (
            {"filter_spec": "slope"},
            "filter_spec must be a function of a leaf, or booleans .*, got 'slope'",
        ),
        (
            {"filter_spec": False},
            "filter_spec must select at least one array of model, got False",
        ),
        ({"optimizer": optax.sgd}, "optimizer must be an optax.GradientTransformation, got <func"),
        ({"optimizer": None}, "optimizer must be an optax.GradientTransformation, got None"),
        ({"loss_fn": None}, r"loss_fn must be a function of \(model, batch\), got None"),
        ({"loss_fn": lambda m, b: b[1]}, r"loss_fn must return .* scalar, got float64\[8\]"),
        ({"loss_fn": lambda m, b: (1.0, b)}, "loss_fn must return .* scalar, got tuple"),
        ({"loss_fn": lambda m, b: jnp.int32(1)}, r"loss_fn must return .* scalar, got int32\[\]"),
        ({"monitor": lambda m, b: b[1]}, r"monitor must return .* scalar, got float64\[8\]"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    options = {"steps": 8, "batches": data(8), "optimizer": OPTIMIZER, "progress": False} | options
    options = {"loss_fn": squared_error} | options
    with pytest.raises(ValueError, match=message) as caught:
        fit(line(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [4, 5, 6])
def test_a_batch_of_another_shape_is_refused_with_its_step(steps):
    batches = data(8)
    batches[5] = jax.tree.map(lambda x: x[:7], batches[5])
    message = (
        r"got tuple\(float64\[7, 2\], float64\[7\]\) at step 6 and "
        r"tuple\(float64\[8, 2\], float64\[8\]\) at step 1; pad or drop"
    )
    with pytest.raises(ValueError, match=message):
        train(8, batches, steps_per_dispatch=steps)
    batches[5] = data(8)[5][::-1]
    with pytest.raises(ValueError, match=r"got tuple\(float64\[8\], float64\[8, 2\]\) at step 6"):
        train(8, batches, steps_per_dispatch=steps)


def test_only_floating_point_arrays_can_train():
    model = [jnp.ones(2), jnp.arange(3), np.ones(2), 2.0]
    for place, found in ((1, "int64"), (2, "a NumPy array of float64"), (3, "float")):
        spec = [i == place for i in range(4)]
        with pytest.raises(ValueError, match=rf"in floating point, got {found} at \[{place}\]"):
            fit(model, data(2), lambda m, b: 0.0, OPTIMIZER, steps=2, filter_spec=spec)


def test_make_step_refuses_the_same_arguments():
    for options, message in (
        ({"devices": []}, "devices must be"),
        ({"loss_fn": 1}, "loss_fn must be a function"),
        ({"optimizer": 1}, "optimizer must be an optax"),
    ):
        options = {"loss_fn": squared_error, "optimizer": OPTIMIZER} | options
        with pytest.raises(ValueError, match=message):
            make_step(**options)


def test_the_progress_bar_shows_the_loss(capsys):
    train(8, progress=True)
    assert "8/8" in (shown := capsys.readouterr().err)
    assert "loss" in shown


# A closed stderr is None in a process that was started without one.
@pytest.mark.parametrize("closed", [None, "closed"])
def test_without_stderr_there_is_no_progress_bar(closed, monkeypatch):
    stream = None
    if closed is not None:
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert train(4, progress=True).losses.shape == (4,)


def test_time_losses():
    times = jnp.asarray([[10.0], [jnp.inf], [90.0]])
    targets = jnp.asarray([[14.0], [72.0], [60.0]])
    np.testing.assert_allclose(
        mse_time(times, targets, t_max=80.0), (4**2 + 8**2 + 20**2) / 80**2 / 3, rtol=1e-12
    )
    np.testing.assert_allclose(mae_time(times, targets, t_max=80.0), (4 + 8 + 20) / 3, rtol=1e-12)
    grads = jax.grad(lambda t: mse_time(t, targets, t_max=80.0))(times)
    np.testing.assert_allclose(grads, [[2 * -4 / 80**2 / 3], [0.0], [0.0]], rtol=1e-12)
    assert jnp.isnan(mse_time(times.at[0].set(jnp.nan), targets, t_max=80.0))
    with pytest.raises(ValueError, match=r"\(3, 1\) and \(3,\)"):
        mse_time(times, targets[:, 0], t_max=80.0)
    with pytest.raises(ValueError, match="t_max must be a finite number > 0, got 0"):
        mae_time(times, targets, t_max=0.0)


SHARDED = """
    import sys
    sys.path.insert(0, "tests")
    import jax
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_enable_x64", True)
    import numpy as np, optax, pytest
    from helpers import least_squares as t

    one = t.train(10, devices=jax.devices()[:1])
    assert one.n_devices == 1
    # 8 samples over 4 devices; 9 over the 3 that divide them; 7 over one.
    for size, n_devices in ((8, 4), (9, 3), (7, 1)):
        options = {"batches": t.data(10, size), "monitor": t.mean_absolute_error}
        one = t.train(10, devices=jax.devices()[:1], **options)
        all = t.train(10, **options)
        assert all.n_devices == n_devices, all.n_devices
        np.testing.assert_allclose(all.monitored, one.monitored, rtol=1e-12)
        np.testing.assert_allclose(all.losses, one.losses, rtol=1e-12)
        np.testing.assert_allclose(all.model.slope, one.model.slope, rtol=1e-12)
        np.testing.assert_allclose(all.model.offset, one.model.offset, rtol=1e-12)
        assert all.model.slope.devices() == {jax.devices()[0]}
    # Each device has a key of its own.
    def noise(model, batch, key):
        return model.offset + jax.random.uniform(key)
    key = jax.random.key(0)
    found = t.fit(t.line(), t.data(3), noise, optax.sgd(0.0), steps=3, key=key, progress=False)
    keys = [[jax.random.fold_in(jax.random.fold_in(key, i), d) for d in range(4)] for i in range(3)]
    each = np.array([[jax.random.uniform(key) for key in row] for row in keys])
    np.testing.assert_allclose(found.losses, t.line().offset + each.mean(axis=1), rtol=1e-12)
    # A bad step on four devices.
    batches = t.data(10)
    batches[6][0][3] = np.nan
    with pytest.raises(FloatingPointError, match="nan at step 7 of 10: .* NaN in 12.5 %") as caught:
        t.train(10, batches)
    one, found = t.train(6, devices=jax.devices()[:1]), caught.value.result
    assert found.n_devices == 4
    np.testing.assert_allclose(found.losses, one.losses, rtol=1e-12)
    np.testing.assert_allclose(found.model.slope, one.model.slope, rtol=1e-12)
    with pytest.raises(ValueError, match="devices must share a batch of 8 evenly, got 3 devices"):
        t.train(10, devices=jax.devices()[:3])
"""


def test_several_devices_train_as_one(pytestconfig):
    # The number of devices is fixed once JAX has started, hence a separate process.
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(SHARDED)],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_average_is_the_mean_over_the_last_steps():
    batches = data(7)
    ends = [train(steps, batches).model for steps in (5, 6, 7)]
    mean = train(7, batches, average=3).average
    np.testing.assert_allclose(mean.slope, sum(end.slope for end in ends) / 3, rtol=1e-6)
    np.testing.assert_allclose(mean.offset, sum(end.offset for end in ends) / 3, rtol=1e-6)
