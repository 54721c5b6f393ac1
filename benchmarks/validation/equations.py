"""Equations of the neuron models as published, for SciPy; the package is not used.

The state has the shape (variables, ..., n): the first variable is the one that is reset and that a
refractory period holds, the last axis are the neurons. Parameters have the shape (n,).

LIF            tau_mem V' = -V + I + bias,  tau_syn I' = -I; a weight is added to I
ALIF           LIF with the threshold + beta A, tau_adapt A' = -A; a spike adds 1 to A
EIF            tau_mem V' = v_rest - V + D exp((V - v_rheobase) / D) + I + bias; D: sharpness
Izhikevich     V' = 0.04 V^2 + 5 V + 140 - U + I + bias,  U' = a (b V - U); a spike adds d to U
QIF            tau_mem V' = V (V - 1) + I + bias, from infinity to -infinity at a spike. With the
               angle V = tan(p / 2) of Ermentrout and Kopell (1986),
               tau_mem p' = 1 - cos p - sin p + (1 + cos p) (I + bias); a spike is at p = pi
Theta          the QIF without I; a weight is added to V
EGRU           tau_mem c' = s(a_u) (tanh(a_z) - c),  tau_syn a_x' = bias_x - a_x, with the logistic
               function s; an event adds a weight to each a_x, that of a_z times s(a_r)

Papers: see the docstrings of the models in `eventsnn/event/neurons`.
"""

from typing import Any

import numpy as np


class Model:
    """Membrane potential and synaptic current; `p` are the parameters by name."""

    def __init__(self, p: dict[str, Any]) -> None:
        self.p = p

    def initial(self) -> np.ndarray:
        start = self.start()
        return np.stack([start, *np.zeros((self.variables - 1, start.size))])

    variables = 2

    def start(self) -> np.ndarray:
        return self.p["v_reset"].copy()

    def slope(self, y: np.ndarray) -> np.ndarray:
        return np.stack([self.speed(*y), -y[-1] / self.p["tau_syn"]])

    def speed(self, v: np.ndarray, current: np.ndarray) -> np.ndarray:
        return (-v + current + self.p["bias"]) / self.p["tau_mem"]

    def excess(self, y: np.ndarray) -> np.ndarray:
        """Distance above the threshold, negative below."""
        return y[0] - self.p["threshold"]

    def climb(self, y: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Time derivative of `excess`."""
        return slope[0]

    def fire(self, y: np.ndarray, i: int) -> None:
        y[0, i] = self.p["v_reset"][i]

    def receive(self, y: np.ndarray, targets: Any, weights: np.ndarray) -> None:
        """Add `weights` of shape (receptors, targets) to the neurons `targets`."""
        y[-1, targets] += weights[0]


class LIF(Model):
    def __init__(self, p: dict[str, Any]) -> None:
        super().__init__({"tau_syn": p["tau_mem"]} | p)


class Subtracting(LIF):
    def fire(self, y: np.ndarray, i: int) -> None:
        y[0, i] -= self.p["threshold"][i]


class ALIF(Model):
    variables = 3

    def slope(self, y: np.ndarray) -> np.ndarray:
        v, adaptation, current = y
        fall = -adaptation / self.p["tau_adapt"]
        return np.stack([self.speed(v, current), fall, -current / self.p["tau_syn"]])

    def excess(self, y: np.ndarray) -> np.ndarray:
        return y[0] - (self.p["threshold"] + self.p["beta"] * y[1])

    def climb(self, y: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return slope[0] - self.p["beta"] * slope[1]

    def fire(self, y: np.ndarray, i: int) -> None:
        super().fire(y, i)
        y[1, i] += 1.0


class EIF(Model):
    def start(self) -> np.ndarray:
        return self.p["v_rest"].copy()

    def speed(self, v: np.ndarray, current: np.ndarray) -> np.ndarray:
        p = self.p
        low = np.minimum(v, p["threshold"] + 0.1)  # for trial steps beyond the peak
        onset = p["sharpness"] * np.exp((low - p["v_rheobase"]) / p["sharpness"])
        return (p["v_rest"] - v + onset + current + p["bias"]) / p["tau_mem"]


class Izhikevich(Model):
    variables = 3

    def initial(self) -> np.ndarray:
        v = self.p["c"]
        return np.stack([v, self.p["b"] * v, np.zeros_like(v)])

    def slope(self, y: np.ndarray) -> np.ndarray:
        p, (v, u, current) = self.p, y
        low = np.minimum(v, p["threshold"] + 5.0)  # for trial steps beyond the peak
        rise = 0.04 * low**2 + 5 * v + 140 - u + current + p["bias"]
        return np.stack([rise, p["a"] * (p["b"] * v - u), -current / p["tau_syn"]])

    def fire(self, y: np.ndarray, i: int) -> None:
        y[0, i] = self.p["c"][i]
        y[1, i] += self.p["d"][i]


class QIF(Model):
    """V is 0 at the start, and so is the angle."""

    def start(self) -> np.ndarray:
        return np.zeros_like(self.p["bias"])

    def speed(self, v: np.ndarray, current: np.ndarray) -> np.ndarray:
        c, s = np.cos(v), np.sin(v)  # of the angle
        return (1 - c - s + (1 + c) * (current + self.p["bias"])) / self.p["tau_mem"]

    def excess(self, y: np.ndarray) -> np.ndarray:
        return y[0] - np.pi

    def fire(self, y: np.ndarray, i: int) -> None:
        y[0, i] = -np.pi


class Theta(QIF):
    variables = 1

    def slope(self, y: np.ndarray) -> np.ndarray:
        return self.speed(y[0], np.zeros_like(y[0]))[None]

    def receive(self, y: np.ndarray, targets: Any, weights: np.ndarray) -> None:
        half = y[0, targets] / 2  # at V = -infinity, where the cosine is 0, nothing changes
        c = np.where(half <= -np.pi / 2, 0.0, np.cos(half))
        y[0, targets] = 2 * np.arctan2(np.sin(half) + weights[0] * c, c)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class EGRU(Model):
    variables = 4

    def start(self) -> np.ndarray:
        return np.zeros_like(self.p["threshold"])

    def slope(self, y: np.ndarray) -> np.ndarray:
        p, (c, *gates) = self.p, y
        rise = _logistic(gates[0]) * (np.tanh(gates[2]) - c) / p["tau_mem"]
        biases = (p["bias_u"], p["bias_r"], p["bias_z"])
        decays = [(b - a) / p["tau_syn"] for a, b in zip(gates, biases, strict=True)]
        return np.stack([rise, *decays])

    def fire(self, y: np.ndarray, i: int) -> None:
        y[0, i] = 0.0

    def receive(self, y: np.ndarray, targets: Any, weights: np.ndarray) -> None:
        update, reset, candidate = weights
        y[3, targets] += _logistic(y[2, targets]) * candidate
        y[1, targets] += update
        y[2, targets] += reset


MODELS: dict[str, type[Model]] = {
    "LIF": LIF,
    "LIF, equal time constants": LIF,
    "LIF, reset by subtraction": Subtracting,
    "QIF": QIF,
    "Theta": Theta,
    "ALIF": ALIF,
    "EIF": EIF,
    "Izhikevich": Izhikevich,
    "EGRU": EGRU,
}
