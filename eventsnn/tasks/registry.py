"""Tasks by name."""

from .balanced_network import BalancedNetwork
from .base import Task
from .delays import Delays
from .japanese_vowels import JapaneseVowels
from .leaky_classification import LeakyClassification
from .membrane_event import MembraneEvent
from .membrane_regression import MembraneRegression
from .mnist_conv import MNISTConv
from .mnist_latency import MNISTLatency
from .moving_mnist import MovingMNIST
from .pattern import Pattern
from .rleaky_classification import RLeakyClassification
from .shd import SHD
from .spiking_lstm import SpikingLSTM
from .ttfs_regression import TTFSRegression
from .yin_yang import YinYang

__all__ = ["TASKS"]

#: Tasks by the name that the command line uses.
TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        TTFSRegression,
        YinYang,
        Delays,
        MembraneRegression,
        MembraneEvent,
        SpikingLSTM,
        LeakyClassification,
        RLeakyClassification,
        MovingMNIST,
        MNISTLatency,
        MNISTConv,
        JapaneseVowels,
        SHD,
        BalancedNetwork,
        Pattern,
    )
}
