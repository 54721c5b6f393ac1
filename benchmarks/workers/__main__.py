"""Start of a worker, `python -m benchmarks.workers MODULE`."""

import sys

from .protocol import serve

serve(sys.argv[1])
