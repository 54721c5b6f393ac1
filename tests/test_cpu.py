"""XLA options: options unknown to the installed XLA are left out and do not end the process."""

import os
import subprocess
import sys

import jax
import pytest

import eventsnn as esn
from eventsnn.cpu import compiler_options, known_options


def test_options_that_this_xla_does_not_know_are_left_out():
    options = {"xla_no_such_option": 1, "xla_backend_optimization_level": 1, "xla_nor_this": True}
    assert known_options(options) == {"xla_backend_optimization_level": 1}
    # An option known to some versions only.
    emitters = {"xla_cpu_use_fusion_emitters": False}
    assert known_options(emitters) in ({}, emitters)
    for found in (known_options(options | emitters), compiler_options()):
        assert jax.jit(lambda x: x + 1.0, compiler_options=found)(1.0) == 2.0


def test_the_vectors_of_a_cpu_are_an_option_that_this_xla_knows():
    assert compiler_options() == {"xla_cpu_prefer_vector_width": 512}


# Assumption of `prepare_cpu`: an unknown option in XLA_FLAGS ends the process, but not among the
# extra options of a backend.
PREPARED = """
import eventsnn, jax, os
eventsnn.prepare_cpu(2)
assert "xla_cpu_small_while_loop_byte_threshold" in os.environ["XLA_FLAGS"]
os.environ["XLA_FLAGS"] += ",xla_cpu_no_such_option=1"
assert jax.jit(lambda x: x + 1.0)(1.0) == 2.0
assert jax.local_device_count() == 2
eventsnn.prepare_cpu(2)  # in time, and once more
"""


def test_an_extra_option_that_xla_does_not_know_is_ignored():
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREPARED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_a_call_that_comes_too_late_warns(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    devices = len(jax.devices("cpu"))
    shown = (
        rf"prepare_cpu has no effect, .* \({devices} devices? on the CPU\)\. Call it at the start"
    )
    for wanted in (devices, devices + 1):
        with pytest.warns(UserWarning, match=shown) as caught:
            esn.prepare_cpu(wanted)
        assert caught[0].filename == __file__
    assert "XLA_FLAGS" not in os.environ and len(jax.devices("cpu")) == devices
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_extra_options=xla_cpu_something=1")
    with pytest.warns(UserWarning, match=shown):
        esn.prepare_cpu(devices + 1)
    esn.prepare_cpu(devices)  # as it is


@pytest.mark.parametrize("devices", [0, -1, 1.5, "2"])
def test_the_number_of_devices_is_checked(devices):
    with pytest.raises(ValueError, match="devices must be an integer >= 1, got"):
        esn.prepare_cpu(devices)
