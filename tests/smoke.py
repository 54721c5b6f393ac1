"""Test the installed package in about a minute, with only its dependencies installed: `make smoke`.

Every function whose name starts with `check_` runs; the first failure ends the process.
"""

import contextlib
import importlib.metadata
import io
import json
import math
import pathlib
import platform
import re
import subprocess
import sysconfig
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

import eventsnn as esn
from eventsnn import discrete
from eventsnn.tasks import TASKS

README = pathlib.Path(__file__).parents[1] / "README.md"


def check_the_package_is_the_installed_one():
    package = pathlib.Path(esn.__file__)
    assert package.is_relative_to(sysconfig.get_path("purelib")), package
    assert esn.__version__ == importlib.metadata.version("eventsnn")


def check_a_spike_time_and_its_gradient():
    """One input of weight w at 0: V = w (x - x^2) with x = exp(-t/20), so V = 1 has a root."""
    w = 6.0

    def first_spike(weight):
        neuron = esn.LIF(tau_mem=20.0, tau_syn=10.0)
        net = esn.EventNetwork(neuron, jnp.stack([0.0, weight])[:, None], outputs=(0,), t_max=30.0)
        return net.ttfs(jnp.zeros((1, 1)))[0]

    root = math.sqrt(1 - 4 / w)
    x = (1 + root) / 2
    t, slope = jax.jit(jax.value_and_grad(first_spike))(w)
    np.testing.assert_allclose(t, -20 * math.log(x), rtol=1e-5)
    np.testing.assert_allclose(slope, -20 / x / (w**2 * root), rtol=1e-4)


def check_a_discrete_run():
    """A constant input x: U_t = x (1 - beta^t) / (1 - beta)."""
    run = discrete.run(discrete.Leaky(0.5, reset="none"), jnp.array([0.3, 0.6]), num_steps=4)
    expected = np.outer(1 - 0.5 ** np.arange(1, 5), [0.6, 1.2])
    np.testing.assert_allclose(run.membranes, expected, rtol=1e-6)
    np.testing.assert_array_equal(run.spikes, expected > 1)


def check_the_quickstart_of_the_readme():
    """The second example uses the names of the first."""
    sections = re.split(r"^#+ ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (quickstart,) = (section for section in sections if section.startswith("Quickstart"))
    examples = re.findall(r"```python\n(.*?)```", quickstart, re.DOTALL)
    assert len(examples) == 2
    names: dict = {}
    for example in examples:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(example.replace("900", "60"), "README.md", "exec"), names)


def check_the_list_of_tasks():
    listed = command("tasks").splitlines()
    assert [line.split()[0] for line in listed] == list(TASKS)


def check_the_report_on_the_installation():
    report = json.loads(command("info", "--json"))
    assert report["versions"]["eventsnn"] == esn.__version__ and report["devices"]


def check_a_training_run():
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out")
        metrics = json.loads(
            command("run", "ttfs-regression", "--quick", "--out", str(out)).splitlines()[-1]
        )
        assert metrics == json.loads((out / "metrics.json").read_text())
        assert math.isfinite(metrics["final_loss"])
        task, model = esn.tasks.load(out)
        assert jnp.all(jnp.isfinite(task.predict(model, jnp.array([2.0, 5.0]))))
        assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")


def command(*arguments):
    """Output of the command `eventsnn`, started as a user starts it."""
    script = pathlib.Path(sysconfig.get_path("scripts"), "eventsnn")
    run = subprocess.run([script, *arguments], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout


def main():
    versions = f"Python {platform.python_version()}, jax {jax.__version__}"
    print(f"smoke test with {versions}, numpy {np.__version__}", flush=True)
    checks = [check for name, check in globals().items() if name.startswith("check_")]
    for check in checks:
        start = time.perf_counter()
        check()
        seconds = time.perf_counter() - start
        print(f"  {check.__name__.replace('_', ' ')}: {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
