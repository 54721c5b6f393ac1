"""Base class of tasks in which the membrane potential of one output follows a curve."""

import abc
import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..data import membrane
from ..train import FitResult, fit
from .base import LazyFigures, Task, TaskResult, check_samples, training_metrics
from .settings import option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CurveTask"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveTask(Task):
    """Base class of membrane-potential regressions. The network trains on a single sample."""

    pictures: ClassVar[tuple[str, ...]] = ("before.png", "after.png", "loss.png", "raster.png")
    time_label: ClassVar[str] = "time step"
    input_shape: ClassVar[tuple[int | str, ...]]
    """Shape of a batch of inputs of the network."""

    steps: int = option(None, "number of gradient steps")
    mode: str = option(
        "sqrt",
        "target of the membrane potential; linear: a line; sqrt: the square root of a line",
        choices=("sqrt", "linear"),
    )
    learning_rate: float = option(None, "learning rate of Adam, before any decay", least=0)
    num_steps: int = option(
        50, "number of times at which the membrane potential has a target", least=2
    )

    @abc.abstractmethod
    def build(self, key: PRNGKeyArray) -> PyTree:
        """Build the untrained network."""

    def untrained(self, sizes: Mapping[str, Any]) -> PyTree:
        return self.build(jax.random.key(self.seed))

    @abc.abstractmethod
    def trainable(self, model: PyTree) -> PyTree:
        """Filter of the trained parameters."""

    @abc.abstractmethod
    def optimizer(self) -> optax.GradientTransformation:
        """Optimiser of the trained parameters."""

    @abc.abstractmethod
    def inputs(self, ramp: Float[np.ndarray, "num_steps 1"]) -> Float[np.ndarray, "..."]:
        """Input of the network, without an axis of samples."""

    @abc.abstractmethod
    def potential(self, model: PyTree, inputs: Array) -> Float[Array, "batch num_steps"]:
        """Membrane potential of the output at each time that has a target."""

    @abc.abstractmethod
    def trace(
        self, model: PyTree, inputs: Array, target: Float[np.ndarray, " num_steps"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, target potentials and membrane potentials of the output, for a figure."""

    @abc.abstractmethod
    def raster(self, model: PyTree, inputs: Array) -> "Figure":
        """Draw the spikes of the network."""

    def loss(self, model: PyTree, batch: tuple[Array, Array]) -> Float[Array, ""]:
        """Mean squared error of the membrane potential."""
        inputs, target = batch
        return jnp.mean((self.potential(model, inputs) - target) ** 2)

    def sample(self) -> tuple[np.ndarray, Float[np.ndarray, "1 num_steps"]]:
        """Sample on which the network is trained: its input and its target, with a first axis."""
        _, key = jax.random.split(jax.random.key(self.seed))
        curve = membrane.sample(key, num_steps=self.num_steps, mode=self.mode)
        ramp, target = map(np.asarray, curve)
        return self.inputs(ramp)[None], target[None, :, 0]

    def train(self, **options: Any) -> tuple[PyTree, tuple, FitResult]:
        """Train a network on one sample.

        **Returns:** the untrained network, the sample `(inputs, target)`, and the result of `fit`.
        """
        key_net, _ = jax.random.split(jax.random.key(self.seed))
        model, sample = self.build(key_net), self.sample()
        result = fit(
            model,
            itertools.repeat(sample, self.steps),
            self.loss,
            self.optimizer(),
            steps=self.steps,
            filter_spec=self.trainable(model),
            **options,
        )
        return model, sample, result

    def predict(
        self, model: PyTree, inputs: Float[np.ndarray, "n ..."]
    ) -> Float[Array, "n num_steps"]:
        """Membrane potential of the output at each time, for each input of the network."""
        found = jnp.asarray(check_samples("inputs", inputs, *self.input_shape))
        return eqx.filter_jit(self.potential)(model, found)

    def run(self, **options: Any) -> TaskResult:
        """Train a network and evaluate it on the sample on which it was trained.

        `relative_error` is the mean over time of |output - target| / |target|, without the first
        time, at which the target is 0. `l1` is the mean of |output - target|.
        """
        before, (inputs, target), result = self.train(**options)
        output = np.asarray(self.predict(result.model, inputs))
        error = np.abs(output - target)
        metrics = {
            "relative_error": float(np.mean(error[:, 1:] / np.abs(target[:, 1:]))),
            "l1": float(np.mean(error)),
            **training_metrics(result),
        }
        drawn = before, inputs, target[0], result
        figures = LazyFigures(lambda: self.make_figures(*drawn))
        return TaskResult(metrics, figures, model=result.model)

    def make_figures(
        self, before: PyTree, inputs: Array, target: np.ndarray, result: FitResult
    ) -> dict[str, Any]:
        """Draw the figures, by name."""
        from .. import plots  # matplotlib is slow to import, and training does not need it

        models = {"before": before, "after": result.model}
        traces = {name: self.trace(model, inputs, target) for name, model in models.items()}
        return {
            **{
                name: plots.target_trace(*trace, x_label=self.time_label)
                for name, trace in traces.items()
            },
            "loss": plots.loss_curve(result.losses),
            "raster": self.raster(result.model, inputs),
        }
