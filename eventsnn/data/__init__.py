"""Data sets: functions of a random key that return arrays."""

from . import idx as idx
from . import images as images
from . import membrane as membrane
from . import mnist as mnist
from . import moving as moving
from . import regression as regression
from . import yin_yang as yin_yang
