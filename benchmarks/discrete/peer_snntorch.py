"""Worker of snnTorch for the discrete-time tasks, as in its tutorials: a Python loop over time.

Threads and all other settings are torch's defaults. The batches are tensors in memory, so that no
data loader adds to the time. The moving digits pass their states explicitly, which is equivalent to
`init_hidden`.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import snntorch as snn  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]
from snntorch import functional, surrogate  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from ..workers.files import Arrays
from .data import Chunk, Setting
from .library import Library


def neurons(setting: Setting, i: int) -> Any:
    """Neurons of layer `i`. In the regression, the last layer has no reset."""
    n = setting.sizes[i]
    if setting.recurrent:
        return snn.RLeaky(beta=setting.beta, linear_features=n)
    if setting.beta is not None:
        return snn.Leaky(beta=setting.beta)
    return snn.Leaky(
        beta=torch.zeros(n),
        threshold=torch.ones(n),
        learn_beta=True,
        spike_grad=surrogate.fast_sigmoid(),
        reset_mechanism="none" if i == len(setting.sizes) - 1 else "subtract",
    )


class Net(nn.Module):
    """Linear layers and neurons; the input is one image for all steps, or has time first."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.num_steps, self.recurrent = setting.num_steps, setting.recurrent
        self.moving = setting.canvas > 0 or setting.beta is None
        self.linear = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(setting.sizes))
        self.neurons = nn.ModuleList(neurons(setting, i) for i in range(1, len(setting.sizes)))
        self.dropout = nn.Dropout(setting.dropout) if setting.dropout else nn.Identity()

    def forward(self, x: Any) -> tuple[Any, Any]:
        layers = list(zip(self.linear, self.neurons, strict=True))
        # State of each layer: its membrane potential, or its spikes and membrane potential.
        states: list[Any] = [
            cell.init_rleaky() if self.recurrent else (cell.init_leaky(),) for _, cell in layers
        ]
        spikes, membranes = [], []
        for step in range(self.num_steps):
            signal = x[step] if self.moving else x
            for i, (linear, cell) in enumerate(layers):
                current = linear(signal) if i else self.dropout(linear(signal))
                signal, membrane = cell(current, *states[i])
                states[i] = (signal, membrane) if self.recurrent else (membrane,)
            spikes.append(signal)
            membranes.append(membrane)
        return torch.stack(spikes), torch.stack(membranes)


CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
COUNT = functional.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
MEMBRANE = functional.mse_membrane_loss(on_target=1.05, off_target=0.2)
# Functions of spikes, membranes and targets; "ce_membrane" is the sum over the time steps.
LOSSES: dict[str, Any] = {
    "ce_membrane": lambda spikes, membranes, y: sum(CE(membrane, y) for membrane in membranes),
    "mse_count": lambda spikes, membranes, y: COUNT(spikes, y),
    "mse_membrane": lambda spikes, membranes, y: MEMBRANE(membranes, y),
    "mse": lambda spikes, membranes, y: MSE(membranes, y),
}


def tensor(array: np.ndarray | None) -> Any:
    """Tensor with 64-bit classes; frames and curves in contiguous memory, with time first."""
    if array is None:
        return None
    array = np.swapaxes(array, 0, 1) if array.ndim == 3 else array
    converted = torch.from_numpy(np.array(array, order="C"))
    return converted.long() if array.dtype == np.int32 else converted


class Commands(Library):
    """Hooks of snnTorch."""

    def _open(self, setting: Setting) -> dict[str, Any]:
        self.rate, self.curve = setting.learning_rate, setting.beta is None
        self.net, self.loss = Net(setting), LOSSES[setting.loss]
        return {"compiles": False, "threads": torch.get_num_threads()}

    def _named(self) -> dict[str, Any]:
        """Tensors of the network by their names in the start file."""
        found = {}
        for i, (layer, cell) in enumerate(zip(self.net.linear, self.net.neurons, strict=True), 1):
            found |= {f"weight_{i}": layer.weight, f"bias_{i}": layer.bias}
            if self.net.recurrent:
                found[f"feedback_weight_{i}"] = cell.recurrent.weight
                found[f"feedback_bias_{i}"] = cell.recurrent.bias
            if self.curve:
                found |= {f"beta_{i}": cell.beta, f"threshold_{i}": cell.threshold}
        return found

    def _load(self, values: Arrays) -> None:
        tensors = self._named()
        with torch.no_grad():
            for name, value in values.items():
                tensors[name].copy_(torch.from_numpy(value))
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=self.rate, betas=(0.9, 0.999))

    def _parameters(self) -> Arrays:
        return {name: value.detach().numpy().copy() for name, value in self._named().items()}

    def _place(self, chunk: Chunk) -> list[Any]:
        """Tensors of each step: x, y, test_x, test_y."""
        columns = ([None] * len(chunk.x) if array is None else array for array in chunk)
        return [list(map(tensor, row)) for row in zip(*columns, strict=True)]

    def _train(self, placed: list[Any]) -> tuple[Any, Any]:
        self.net.train()
        losses, test_losses = [], []
        for x, y, test_x, test_y in placed:
            loss = self.loss(*self.net(x), y)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.item())
            if test_x is not None:
                with torch.no_grad():
                    test_losses.append(self.loss(*self.net(test_x), test_y).item())
        return losses, test_losses

    def _outputs(self, x: np.ndarray) -> Any:
        """Spikes and membranes, without dropout and gradients."""
        self.net.eval()
        with torch.no_grad():
            return self.net(tensor(x))

    def _loss(self, x: np.ndarray, y: np.ndarray) -> float:
        return self.loss(*self._outputs(x), tensor(y)).item()

    def _predict(self, x: np.ndarray) -> np.ndarray:
        spikes, membranes = self._outputs(x)
        return np.swapaxes(membranes.numpy(), 0, 1) if self.curve else spikes.sum(0).numpy()
