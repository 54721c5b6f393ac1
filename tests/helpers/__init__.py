"""Modules that several test files share.

- `registry`: neuron models, flows and cells, on which the laws are checked.
- `reference`, `reference_delays`: simulators in NumPy and SciPy, independent of the package.
- `jitted`: compiled queries.
- `delta_lif`: a neuron without a synapse; `differences`: comparison of gradients.
- `least_squares`: a model for the tests of training.
- `bad_calls`: calls with bad input, and what the error messages must name.
"""
