"""Worker of snnTorch for the discrete-time tasks, as in its tutorials: a Python loop over time
steps.

Threads and all other settings are torch's defaults. The batches are tensors in memory, so that no
data loader adds to the time. The moving digits pass their states explicitly, which is equivalent to
`init_hidden`.
"""

from typing import Any

import numpy as np
import snntorch as snn  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]
from snntorch import functional, surrogate  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from .data import Arrays, Chunk, Setting
from .library import serve_library


class LeakyNet(nn.Module):
    """Two layers of Leaky neurons; the image is the input at every step."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        n_in, hidden, n_out = setting.sizes
        self.num_steps = setting.num_steps
        self.fc1, self.lif1 = nn.Linear(n_in, hidden), snn.Leaky(beta=setting.beta)
        self.fc2, self.lif2 = nn.Linear(hidden, n_out), snn.Leaky(beta=setting.beta)

    def forward(self, x: Any) -> tuple[Any, Any]:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        for _ in range(self.num_steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


class RLeakyNet(nn.Module):
    """Two layers with linear feedback; one image for all steps, or one frame per step."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        n_in, hidden, n_out = setting.sizes
        self.num_steps, self.moving = setting.num_steps, setting.canvas is not None
        self.fc1, self.fc2 = nn.Linear(n_in, hidden), nn.Linear(hidden, n_out)
        self.dropout = nn.Dropout(setting.dropout) if setting.dropout else nn.Identity()
        self.lif1 = snn.RLeaky(beta=setting.beta, linear_features=hidden)
        self.lif2 = snn.RLeaky(beta=setting.beta, linear_features=n_out)

    def forward(self, x: Any) -> tuple[Any, Any]:
        spk1, mem1 = self.lif1.init_rleaky()
        spk2, mem2 = self.lif2.init_rleaky()
        spikes, membranes = [], []
        for step in range(self.num_steps):
            current = self.dropout(self.fc1(x[step] if self.moving else x))
            spk1, mem1 = self.lif1(current, spk1, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), spk2, mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


class CurveNet(nn.Module):
    """Three layers of Leaky neurons with trained decay rates; the last one only integrates."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        n_in, hidden, _, n_out = setting.sizes
        self.num_steps = setting.num_steps
        self.fc1, self.lif1 = nn.Linear(n_in, hidden), self.neurons(hidden)
        self.fc2, self.lif2 = nn.Linear(hidden, hidden), self.neurons(hidden)
        self.fc3, self.lif3 = nn.Linear(hidden, n_out), self.neurons(n_out, reset_mechanism="none")

    @staticmethod
    def neurons(n: int, reset_mechanism: str = "subtract") -> Any:
        return snn.Leaky(
            beta=torch.zeros(n),
            threshold=torch.ones(n),
            learn_beta=True,
            spike_grad=surrogate.fast_sigmoid(),
            reset_mechanism=reset_mechanism,
        )

    def forward(self, x: Any) -> tuple[Any, Any]:
        mem1, mem2, mem3 = (f.init_leaky() for f in (self.lif1, self.lif2, self.lif3))
        spikes, membranes = [], []
        for step in range(self.num_steps):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk3, mem3 = self.lif3(self.fc3(spk2), mem3)
            spikes.append(spk3)
            membranes.append(mem3)
        return torch.stack(spikes), torch.stack(membranes)


def cross_entropy_of_each_step(membranes: Any, targets: Any) -> Any:
    """Loss of the tutorial: the sum of the cross-entropy over the time steps."""
    loss, total = nn.CrossEntropyLoss(), torch.zeros(1)
    for membrane in membranes:
        total = total + loss(membrane, targets)
    return total


def loss_of(name: str) -> Any:
    """Return `(spikes, membranes, targets) -> loss`, with snnTorch's own functions where
    available."""
    if name == "mse_count":
        count = functional.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
        return lambda spikes, membranes, y: count(spikes, y)
    membrane = {
        "ce_membrane": cross_entropy_of_each_step,
        "mse_membrane": functional.mse_membrane_loss(on_target=1.05, off_target=0.2),
        "mse": nn.MSELoss(),
    }[name]
    return lambda spikes, membranes, y: membrane(membranes, y)


class SnnTorch:
    """Implementation of the `Library` interface."""

    def open(self, setting: Setting) -> dict[str, Any]:
        self.setting = setting
        kind = CurveNet if setting.beta is None else RLeakyNet if setting.recurrent else LeakyNet
        self.net = kind(setting)
        self.loss_function = loss_of(setting.loss)
        return {"compiles": False, "threads": torch.get_num_threads(), "notes": []}

    def names(self) -> dict[str, Any]:
        """Tensors of the network by their names in the start file."""
        found = {}
        for i in range(1, len(self.setting.sizes)):
            layer, cell = getattr(self.net, f"fc{i}"), getattr(self.net, f"lif{i}")
            found |= {f"weight_{i}": layer.weight, f"bias_{i}": layer.bias}
            if self.setting.recurrent:
                feedback = cell.recurrent
                found |= {f"feedback_weight_{i}": feedback.weight}
                found |= {f"feedback_bias_{i}": feedback.bias}
            if self.setting.beta is None:
                found |= {f"beta_{i}": cell.beta, f"threshold_{i}": cell.threshold}
        return found

    def load(self, parameters: Arrays) -> None:
        tensors = self.names()
        assert set(tensors) == set(parameters)
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(torch.from_numpy(parameters[name]))
        rate = self.setting.learning_rate
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=rate, betas=(0.9, 0.999))

    def parameters(self) -> Arrays:
        return {name: tensor.detach().numpy().copy() for name, tensor in self.names().items()}

    def place(self, chunk: Chunk) -> list[Any]:
        """Tensors for each step; frames and curves with time first, one block of memory per
        frame."""
        pairs = [self.tensors(x, y) for x, y in zip(chunk.x, chunk.y, strict=True)]
        if chunk.test_x is None or chunk.test_y is None:
            return [(pair, None) for pair in pairs]
        tests = [self.tensors(x, y) for x, y in zip(chunk.test_x, chunk.test_y, strict=True)]
        return list(zip(pairs, tests, strict=True))

    def tensors(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, ...]:
        with_time_first = (np.swapaxes(a, 0, 1) if a.ndim == 3 else a for a in (x, y))
        return tuple(torch.from_numpy(np.array(a, order="C")) for a in with_time_first)

    def train(self, placed: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        self.net.train()
        losses, test_losses = [], []
        for (x, y), test in placed:
            loss = self.loss_function(*self.net(x), y)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.item())
            if test is not None:
                with torch.no_grad():
                    test_losses.append(self.loss_function(*self.net(test[0]), test[1]).item())
        return np.array(losses), np.array(test_losses)

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        self.net.eval()
        inputs, targets = self.tensors(x, y)
        with torch.no_grad():
            return self.loss_function(*self.net(inputs), targets).item()

    def predict(self, x: np.ndarray) -> np.ndarray:
        self.net.eval()
        with torch.no_grad():
            spikes, membranes = self.net(self.tensors(x, x)[0])
        if self.setting.beta is None:
            return np.swapaxes(membranes.numpy(), 0, 1)
        return spikes.sum(0).numpy()


if __name__ == "__main__":
    serve_library(SnnTorch())
