"""Tasks: data, model, loss, metrics and figures of one experiment, run by the command line."""

from .base import SOLVERS as SOLVERS
from .base import DataError as DataError
from .base import Pictures as Pictures
from .base import Task as Task
from .base import TaskResult as TaskResult
from .delays import Delays as Delays
from .leaky_classification import LeakyClassification as LeakyClassification
from .membrane_event import MembraneEvent as MembraneEvent
from .membrane_regression import MembraneRegression as MembraneRegression
from .mnist_latency import MNISTLatency as MNISTLatency
from .moving_mnist import MovingMNIST as MovingMNIST
from .rleaky_classification import RLeakyClassification as RLeakyClassification
from .ttfs_regression import TTFSRegression as TTFSRegression
from .yin_yang import YinYang as YinYang

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        TTFSRegression,
        YinYang,
        Delays,
        MembraneRegression,
        MembraneEvent,
        LeakyClassification,
        RLeakyClassification,
        MovingMNIST,
        MNISTLatency,
    )
}
