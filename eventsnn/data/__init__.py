"""Data sets: functions of a random key that return arrays."""

from . import idx as idx
from . import images as images
from . import membrane as membrane
from . import mnist as mnist
from . import moving_mnist as moving_mnist
from . import spike_time_regression as spike_time_regression
from . import yin_yang as yin_yang
