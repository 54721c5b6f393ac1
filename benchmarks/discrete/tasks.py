"""Discrete-time tasks: settings, peers, and the length of training and timing.

The settings are those of snnTorch's tutorial 5 and regression tutorials. The moving digits use
those of `rleaky-classification`, and dropout.
"""

from dataclasses import dataclass

from .data import Setting


@dataclass(frozen=True)
class Task:
    """Task; `blocks` are the steps per timed block of eventsnn and of a peer."""

    text: str
    setting: Setting
    blocks: tuple[int, int]
    epochs: int = 5
    seeds: int = 3
    peers: tuple[str, ...] = ("snntorch", "spyx", "jaxpike")
    other_losses: tuple[str, ...] = ()


TASKS = {
    "leaky-classification": Task(
        "Leaky 784-1000-10, 25 steps, one epoch of MNIST: steps/s and accuracy",
        Setting((784, 1000, 10), 25, "ce_membrane", 0.95, learning_rate=5e-4, test_pass=True),
        blocks=(40, 20),
        epochs=1,
    ),
    "rleaky-classification": Task(
        "RLeaky 784-128-10, 10 steps, five epochs of MNIST: steps/s and accuracy",
        Setting((784, 128, 10), 10, "mse_count", 0.9, recurrent=True),
        blocks=(120, 60),
        other_losses=("mse_membrane",),
    ),
    "membrane-regression": Task(
        "Leaky 1-128-128-1 follows a curve, 100 iterations: steps/s and relative error",
        Setting((1, 128, 128, 1), 50, "mse", batch=1),
        blocks=(100, 20),
        epochs=100,
        seeds=10,
        peers=("snntorch",),
    ),
    "moving-mnist": Task(
        "RLeaky 4096-128-10 on moving digits, 10 frames, five epochs: steps/s and accuracy",
        Setting((4096, 128, 10), 10, "mse_count", 0.9, recurrent=True, dropout=0.2, canvas=64),
        blocks=(40, 20),
        seeds=1,
        peers=("snntorch",),
    ),
}
