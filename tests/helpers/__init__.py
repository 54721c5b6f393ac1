"""Modules shared by several test files.

- `registry`: neuron models, flows and cells, on which the general properties are checked.
- `reference`, `reference_delays`: simulators in NumPy and SciPy, independent of the package.
- `recorded`: values of other programs, read from `fixtures`.
- `jitted`: compiled queries.
- `arrays`: random arrays, comparison of trees; `draws`: settings of hypothesis.
- `delta_lif`: a neuron without synaptic current; `differences`: comparison of gradients.
- `least_squares`: a model for the tests of training.
- `saved_models`: the check that a trained network is saved.
- `bad_calls`: calls with bad input, and the expected content of the error messages.
"""
