"""Callbacks: evaluation, early stopping, the best model, and curves for TensorBoard."""

import struct
import sys

import jax
import numpy as np
import optax
import pytest

from eventsnn.train import Evaluation, TensorBoard, fit
from helpers.least_squares import OPTIMIZER, data, line, squared_error


def train(callbacks, steps=40, **options):
    optimizer = options.pop("optimizer", OPTIMIZER)
    options = {"steps": steps, "steps_per_dispatch": 4, "progress": False, **options}
    return fit(line(), data(steps), squared_error, optimizer, callbacks=callbacks, **options)


def test_callbacks_see_each_dispatch():
    seen = []
    result = train([seen.append], steps=10)
    assert [(p.start, p.step, p.steps) for p in seen] == [(0, 4, 10), (4, 8, 10), (8, 10, 10)]
    np.testing.assert_array_equal(np.concatenate([p.losses for p in seen]), result.losses)
    np.testing.assert_array_equal(seen[-1].model.slope, result.model.slope)
    assert seen[0].monitored is seen[0].gradient_norms is seen[0].learning_rates is None


def test_norms_and_rates_are_recorded():
    def loss(model, batch):  # its gradient with respect to the offset is 3, and 4 for each slope
        return 3.0 * model.offset + 4.0 * model.slope[0] + 0.0 * squared_error(model, batch)

    rates = optax.linear_schedule(0.5, 0.0, 5)
    optimizer = optax.inject_hyperparams(optax.sgd)(rates)
    with jax.numpy_dtype_promotion("standard"):  # needed by the schedule
        result = fit(line(), data(5), loss, optimizer, steps=5, gradient_norms=True, progress=False)
    np.testing.assert_allclose(result.gradient_norms, 5.0, rtol=1e-6)
    np.testing.assert_allclose(result.learning_rates, [0.5, 0.4, 0.3, 0.2, 0.1], rtol=1e-6)
    result = train([], steps=4)
    assert result.gradient_norms is result.learning_rates is None


@pytest.mark.parametrize("larger", [True, False])
def test_an_evaluation_keeps_the_best_model_and_stops(larger):
    """The values rise to step 16 and fall after it, or the other way round."""
    values = iter(np.array([1.0, np.nan, 2.0, 3.0, 2.5, 3.0, 2.0, 9.0]) * (1 if larger else -1))
    models = []

    def fn(model):
        models.append(model)
        return next(values)

    found = Evaluation(fn, 4, patience=3, larger_is_better=larger)
    result = train([found], snapshot=lambda m: m.slope, snapshot_every=40)
    assert found.steps == [4, 8, 12, 16, 20, 24, 28]
    assert (found.best_step, found.best_value) == (16, 3.0 if larger else -3.0)
    assert found.best_model is models[3]
    assert result.losses.shape == (28,)
    assert result.snapshot_steps.tolist() == [0, 28]
    np.testing.assert_array_equal(result.model.slope, models[-1].slope)


def test_evaluations_take_place_after_dispatches_and_at_the_end():
    found = Evaluation(lambda model: model.offset, 6)
    train([found], steps=22)
    assert found.steps == [8, 12, 20, 22]
    assert found.best_value == max(found.values)


def test_a_result_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"fn must be a function that returns a number, got"):
        train([Evaluation(lambda model: model.slope, 4)])


def test_curves_for_tensorboard(tmp_path):
    """The curves of a resumed run continue those of the interrupted one."""

    def interrupt(progress):
        if progress.step == 8:
            raise KeyboardInterrupt

    folder = tmp_path / "checkpoints"
    with pytest.raises(KeyboardInterrupt):
        train([TensorBoard(tmp_path), interrupt], steps=12, checkpoint=folder, gradient_norms=True)
    callbacks = [TensorBoard(tmp_path), lambda progress: None]
    options = {"checkpoint": folder, "resume": True, "gradient_norms": True}
    result = train(callbacks, steps=12, **options)
    curves = {"loss": {}, "gradient_norm": {}}
    for tag, step, value in sorted(events(tmp_path)):
        curves[tag][step] = value
    steps = list(range(1, 13))
    assert list(curves["loss"]) == list(curves["gradient_norm"]) == steps
    np.testing.assert_allclose(list(curves["loss"].values()), result.losses, rtol=1e-6)
    np.testing.assert_allclose(
        list(curves["gradient_norm"].values()), result.gradient_norms, rtol=1e-6
    )


def events(folder):
    """Scalars in the event files of TensorBoard, of all runs."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                yield value.tag, event.step, value.simple_value


def test_without_tensorboardx_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'eventsnn\[tensorboard\]'"):
        TensorBoard("runs")
