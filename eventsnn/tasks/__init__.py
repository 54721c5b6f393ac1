"""Tasks: data, model, loss, metric and pictures in one place, run by the command line."""

from .base import SOLVERS as SOLVERS
from .base import Outcome as Outcome
from .base import Task as Task
from .ttfs_regression import TTFSRegression as TTFSRegression

TASKS: dict[str, type[Task]] = {TTFSRegression.name: TTFSRegression}
