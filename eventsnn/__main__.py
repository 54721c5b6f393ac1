"""Command line as `python -m eventsnn`."""

import sys

from .cli import main

sys.exit(main())
