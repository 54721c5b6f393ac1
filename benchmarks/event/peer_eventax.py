"""Worker of eventax for the tasks of the event mode.

The regression is configured as in eventax's own notebook (Euler, steps of 0.1 ms), in float32.
There is one difference, because the notebook does not run as written: the optimiser is initialised
on the inexact arrays of the model, not on the whole model. Yin-Yang runs in float64 with Euler and
steps of 0.05 ms; its loss is that of the task: silent outputs count as the time limit, in the value
only. Root finder and adjoint are the defaults.
"""

import time
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from eventax.evnn import EvNN, FFEvNN  # pyright: ignore[reportMissingImports]
from eventax.neuron_models import QIF  # pyright: ignore[reportMissingImports]

from ..workers import files
from . import shared


class Regression:
    """Network of the notebook, input spikes and loss of the regression."""

    def network(self, mask: np.ndarray, **options: Any) -> Any:
        n = mask.shape[1]
        return EvNN(
            n_neurons=n,
            wmask=jnp.asarray(mask, jnp.float32),
            output_neurons=jnp.arange(n) == n - 1,
            input_neurons=jnp.arange(n) < n - 1,
            solver_stepsize=0.1,
            **options,
        )

    def in_times(self, x: jax.Array, t_max: float) -> jax.Array:
        """Input spikes at 0 and x for each sample: (batch, 1 channel, 2)."""
        return jnp.stack([jnp.zeros_like(x), x], axis=-1)[:, None, :]

    def loss(self, times: jax.Array, targets: jax.Array, setting: dict[str, Any]) -> jax.Array:
        """Squared error of times over 80, as in the notebook; silent outputs count as 80."""
        return jnp.mean((jnp.minimum(times, 80) / 80 - targets[:, None] / 80) ** 2)


class YinYang:
    """Network, input spikes and loss of Yin-Yang."""

    def network(self, mask: np.ndarray, **options: Any) -> Any:
        layers = [mask.shape[1] - 3, 3]
        step = {"solver_stepsize": 0.05, "output_no_spike_value": jnp.inf}
        net = FFEvNN(layers=layers, **step, **options)
        assert np.array_equal(net.get_wmask() > 0, mask)
        return net

    def in_times(self, x: jax.Array, t_max: float) -> jax.Array:
        """One spike in each of five channels: (batch, 5, 1)."""
        return t_max * jnp.concatenate([x, 1 - x, jnp.zeros_like(x[:, :1])], axis=1)[:, :, None]

    def loss(self, times: jax.Array, labels: jax.Array, setting: dict[str, Any]) -> jax.Array:
        t_max, tau0, tau1, alpha = (setting[name] for name in ("t_max", "tau0", "tau1", "alpha"))
        times = jnp.where(times > t_max, t_max, times)
        right = jnp.take_along_axis(times, labels[:, None], axis=1)[:, 0]
        first = right / tau0 + jax.nn.logsumexp(-times / tau0, axis=1)
        return jnp.mean(first + alpha * jnp.expm1(right / tau1))


class Commands:
    """Commands: `open` once, then `load`, `train`, `evaluate` and `save` in any order."""

    def open(self, problem: str, task: str, setting: dict[str, Any], dtype: str) -> None:
        jax.config.update("jax_enable_x64", dtype == "float64")
        p = self._problem = files.read(problem)
        self._task = Regression() if task == "ttfs-regression" else YinYang()
        self._t_max, (rows, n) = setting["t_max"], p["mask"].shape
        self._score = partial(shared.score, task, y=p["y_test"], t_max=self._t_max)
        # `load` replaces the random weights by those of the problem.
        self._model = self._task.network(
            p["mask"],
            neuron_model=QIF,
            in_size=rows - n,
            max_solver_time=self._t_max,
            key=jax.random.PRNGKey(0),
            max_event_steps=setting["max_events"],
            dtype=jnp.dtype(dtype),
            tsyn=setting["tau_syn"],
            tmem=setting["tau_mem"],
            blim=0.5,
            wlim=40.0,
            wmean=20.0,
        )
        self._x, self._y = jnp.asarray(p["x"]), jnp.asarray(p["y"])
        optimiser = optax.adam(setting["learning_rate"])
        self._fresh = optimiser.init(eqx.filter(self._model, eqx.is_inexact_array))

        @eqx.filter_jit
        def step(state, in_times, targets):
            model, adam = state
            loss, grad = eqx.filter_value_and_grad(
                lambda model: self._task.loss(jax.vmap(model.ttfs)(in_times), targets, setting)
            )(model)
            updates, adam = optimiser.update(grad, adam, params=eqx.filter(model, eqx.is_array))
            return (eqx.apply_updates(model, updates), adam), loss

        self._step = step

    def load(self, path: str) -> None:
        self._state = shared.read(path, self._model, self._fresh, parameters)

    def save(self, path: str) -> None:
        shared.write(path, self._state, parameters)

    def train(self, first: int, steps: int) -> dict[str, Any]:
        """Train steps `first` to `first + steps` and wait for their completion."""
        start = time.perf_counter()
        for i in range(first, first + steps):
            in_times = self._task.in_times(self._x[i], self._t_max)
            self._state, loss = self._step(self._state, in_times, self._y[i])
        jax.block_until_ready((self._state, loss))
        return {"seconds": time.perf_counter() - start, "loss": float(loss)}

    def evaluate(self) -> dict[str, float]:
        """Test error or accuracy."""
        in_times = self._task.in_times(jnp.asarray(self._problem["x_test"]), self._t_max)
        times = eqx.filter_jit(lambda model, x: jax.vmap(model.ttfs)(x))(self._state[0], in_times)
        return self._score(np.asarray(times))


def parameters(model: Any) -> tuple[jax.Array, jax.Array]:
    """Trained leaves of a network."""
    return model.neuron_model.weights, model.neuron_model.ic
