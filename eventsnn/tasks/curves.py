"""Base class of tasks in which the membrane potential of one output follows a curve."""

import abc
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..data import membrane
from ..train import FitResult, fit
from .base import LazyFigures, Task, TaskResult, training_metrics
from .settings import option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CurveTask"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveTask(Task):
    """Base class of membrane-potential regressions. The network trains on a single sample."""

    pictures: ClassVar[tuple[str, ...]] = ("before.png", "after.png", "loss.png", "raster.png")
    time_label: ClassVar[str] = "time step"

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

    def train(self, *, progress: bool = True) -> tuple[PyTree, tuple, FitResult]:
        """Train a network on one sample.

        **Returns:** the untrained network, the sample `(inputs, target)`, and the result of `fit`.
        """
        key_net, key_data = jax.random.split(jax.random.key(self.seed))
        model = self.build(key_net)
        curve = membrane.sample(key_data, num_steps=self.num_steps, mode=self.mode)
        ramp, target = map(np.asarray, curve)
        sample = self.inputs(ramp)[None], target[None, :, 0]
        result = fit(
            model,
            itertools.repeat(sample, self.steps),
            self.loss,
            self.optimizer(),
            steps=self.steps,
            filter_spec=self.trainable(model),
            progress=progress,
        )
        return model, sample, result

    def run(self, *, progress: bool = True) -> TaskResult:
        """Train a network and evaluate it on the sample on which it was trained.

        `relative_error` is the mean over time of |output - target| / |target|, without the first
        time, at which the target is 0. `l1` is the mean of |output - target|.
        """
        before, (inputs, target), result = self.train(progress=progress)
        output = np.asarray(eqx.filter_jit(self.potential)(result.model, inputs))
        error = np.abs(output - target)
        metrics = {
            "relative_error": float(np.mean(error[:, 1:] / np.abs(target[:, 1:]))),
            "l1": float(np.mean(error)),
            **training_metrics(result),
        }
        drawn = before, inputs, target[0], result
        return TaskResult(metrics, LazyFigures(lambda: self.make_figures(*drawn)))

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
