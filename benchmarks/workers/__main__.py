"""Start of a worker, `python -m benchmarks.workers MODULE`.

The commands are the public methods of an object made by `Commands` of the module.
"""

import importlib
import sys

from .protocol import serve

serve(importlib.import_module(sys.argv[1]).Commands())
