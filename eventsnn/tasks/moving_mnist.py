"""Classification of moving digits."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..data import moving_mnist
from ..discrete import RLeaky, Sequential, run_batch
from ..losses import mse_count
from .discrete_images import DiscreteImageTask
from .settings import option

__all__ = ["MovingMNIST"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingMNIST(DiscreteImageTask):
    """Classification of a digit that moves over a canvas, with one frame per time step.

    The digit moves in a straight line and is reflected at the walls, see
    [`eventsnn.data.moving_mnist.sequences`][]. The network has a linear layer with dropout and two
    layers of recurrent leaky neurons.
    """

    name: ClassVar[str] = "moving-mnist"
    summary: ClassVar[str] = "classification of moving digits, 128 hidden RLeaky neurons, 10 frames"
    pictures: ClassVar[tuple[str, ...]] = (*DiscreteImageTask.pictures, "sample.gif")
    default_epochs: ClassVar[Mapping[str, int]] = {"digits": 300, "mnist": 10}

    n_hidden: int = option(128, "number of neurons in the first recurrent layer")
    num_steps: int = option(10, "number of frames per sequence, one per time step")
    beta: float = option(
        0.9, "decay factor of the membrane potentials per time step", least=0, most=1
    )
    dropout: float = option(
        0.2, "probability that training drops an output of the first linear layer", least=0, most=1
    )

    def build(self, key, shape):
        key_in, key_out, *keys = jax.random.split(key, 4)
        n, canvas = self.n_hidden, moving_mnist.default_canvas(max(shape))
        return Sequential(
            [
                jnp.ravel,
                eqx.nn.Linear(canvas * canvas, n, key=key_in),
                eqx.nn.Dropout(self.dropout),
                RLeaky(self.beta, eqx.nn.Linear(n, n, key=keys[0])),
                eqx.nn.Linear(n, 10, key=key_out),
                RLeaky(self.beta, eqx.nn.Linear(10, 10, key=keys[1])),
            ]
        )

    def frames(self, images, keys):
        """Frames of the moving digits, `(num_steps, batch, canvas, canvas)`, one path per key."""
        move = jax.vmap(
            lambda key, image: moving_mnist.sequences(key, image, num_frames=self.num_steps)
        )
        return jnp.moveaxis(move(keys, images), 1, 0)

    def sample_figures(self, batch, predicted, hidden):
        from .figures import images as figures  # matplotlib is slow to import

        frames = np.asarray(jax.jit(lambda b: self.frames(b.images, b.keys))(batch))
        title = f"{self.name}, seed {self.seed}"
        movie = figures.movie(frames[:, 0], hidden, int(batch.labels[0]), predicted[0], title)
        samples = figures.moving_samples(frames, batch.labels, predicted)
        return {"samples": samples}, {"sample": movie}

    def simulate(self, model, images, keys, **options: Any):
        dropout_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        return run_batch(model, self.frames(images, keys), key=dropout_keys, **options)

    def loss(self, model, batch):
        run = self.simulate(model, batch.images, batch.keys)
        return mse_count(run.spikes, batch.labels, correct_rate=0.8, incorrect_rate=0.2)

    def scores(self, response):
        return {"rate": response.spikes.sum(axis=0)}
