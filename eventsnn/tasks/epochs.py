"""Base class of tasks that train on a data set, in epochs. It serves both modes."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from ..train import FitResult, fit
from .base import Task, training_metrics
from .settings import LARGEST, option

__all__ = ["EpochTask", "snapshot_models", "steps_per_dispatch"]

# Upper limit of the steps per dispatch.
_MAX_DISPATCH = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpochTask(Task):
    """Base class of tasks that train for a number of epochs, or of gradient steps."""

    epochs: int = option(None, "number of passes through the training set", most=10**6)
    steps: int | None = option(
        None, "number of gradient steps, instead of the epochs", unset="the steps of all epochs"
    )
    batch_size: int = option(None, "number of samples per gradient step")
    test_batch_size: int = option(None, "number of samples per batch in tests; affects speed only")
    learning_rate: float = option(None, "learning rate of Adam, before any decay", least=0)

    @abc.abstractmethod
    def trainable(self, model: PyTree) -> PyTree:
        """Filter of the trained parameters."""

    @abc.abstractmethod
    def optimizer(self, steps: int, steps_per_epoch: int) -> optax.GradientTransformation:
        """Optimiser for a run of `steps` steps."""

    def n_steps(self, n_train: int) -> tuple[int, int]:
        """Total number of gradient steps, and number of steps per epoch, for `n_train` samples.

        **Raises:** `ValueError` if there is no batch per epoch, or the number of steps is too
        large.
        """
        if self.batch_size > n_train:
            raise ValueError(
                f"batch_size must be at most {n_train}, the number of training samples, got "
                f"{self.batch_size}."
            )
        epoch = n_train // self.batch_size
        if self.steps is None and self.epochs > LARGEST // epoch:
            raise ValueError(
                f"epochs must be at most {LARGEST // epoch} with {epoch} steps per epoch, got "
                f"{self.epochs}."
            )
        return self.steps or epoch * self.epochs, epoch

    def fit(
        self,
        model: PyTree,
        batches: Iterable[Any],
        loss: Callable[[Any, Any], Float[Array, ""]],
        n_train: int,
        **options: Any,
    ) -> FitResult:
        """Train a model for all steps, see [`eventsnn.train.fit`][], which takes the `options`.

        The snapshots are the trained parameters before training and after every epoch.
        """
        steps, epoch = self.n_steps(n_train)
        spec = self.trainable(model)
        return fit(
            model,
            batches,
            loss,
            self.optimizer(steps, epoch),
            steps=steps,
            steps_per_dispatch=steps_per_dispatch(epoch),
            filter_spec=spec,
            snapshot=lambda model: eqx.filter(model, spec),
            snapshot_every=epoch,
            **options,
        )

    def epoch_metrics(self, result: FitResult, n_train: int) -> dict[str, float | int]:
        """Metrics of a training run in epochs, by name."""
        steps, epoch = self.n_steps(n_train)
        counts = {"gradient_steps": steps, "steps_per_epoch": epoch}
        return training_metrics(result) | counts


def steps_per_dispatch(steps_per_epoch: int) -> int:
    """Largest divisor of the steps per epoch up to a limit, so that a dispatch ends each epoch."""
    return max(n for n in range(1, _MAX_DISPATCH + 1) if steps_per_epoch % n == 0)


def snapshot_models(result: FitResult) -> Iterator[Any]:
    """Yield the model before training and after every epoch."""
    for i in range(len(result.snapshot_steps)):
        trained = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), result.snapshots)
        yield eqx.combine(trained, result.model)
