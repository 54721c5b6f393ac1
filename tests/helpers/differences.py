"""Comparison of gradients, with each other and with central differences of fourth order."""

import numpy as np

STEP = 5e-5  # of the differences


def assert_equal_gradients(actual, expected, rtol):
    for name, value in expected.items():
        scale = np.max(np.abs(value)) + 1e-300
        np.testing.assert_allclose(
            actual[name] / scale, value / scale, rtol=0, atol=rtol, err_msg=name
        )
