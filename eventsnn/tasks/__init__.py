"""Tasks: data, model, loss, metrics and figures of one experiment, run by the command line."""

from .balanced_network import BalancedNetwork
from .base import SOLVERS, DataError, LazyFigures, Task, TaskResult
from .delays import Delays
from .japanese_vowels import JapaneseVowels
from .leaky_classification import LeakyClassification
from .membrane_event import MembraneEvent
from .membrane_regression import MembraneRegression
from .mnist_conv import MNISTConv
from .mnist_latency import MNISTLatency
from .moving_mnist import MovingMNIST
from .pattern import Pattern
from .registry import TASKS
from .rleaky_classification import RLeakyClassification
from .saved import Trained, load
from .shd import SHD
from .spiking_lstm import SpikingLSTM
from .ttfs_regression import TTFSRegression
from .yin_yang import YinYang

__all__ = [
    "SHD",
    "SOLVERS",
    "TASKS",
    "BalancedNetwork",
    "DataError",
    "Delays",
    "JapaneseVowels",
    "LazyFigures",
    "LeakyClassification",
    "MNISTConv",
    "MNISTLatency",
    "MembraneEvent",
    "MembraneRegression",
    "MovingMNIST",
    "Pattern",
    "RLeakyClassification",
    "SpikingLSTM",
    "TTFSRegression",
    "Task",
    "TaskResult",
    "Trained",
    "YinYang",
    "load",
]
