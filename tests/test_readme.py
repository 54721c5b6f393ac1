"""The examples of the README and of the documentation run and give the stated results."""

import pathlib
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

ROOT = pathlib.Path(__file__).parents[1]


def examples(path):
    """Code of the examples of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)


EXAMPLES = examples("README.md")


def run(example):
    names = {}
    exec(compile(EXAMPLES[example], "README.md", "exec"), names)
    return names


def test_there_are_examples():
    assert len(EXAMPLES) == 7


def test_first_network(capsys, as_users_do):
    names: dict = {}
    exec(compile(EXAMPLES[0].replace("900", "250"), "README.md", "exec"), names)
    assert names["accuracy"] > 0.94
    assert capsys.readouterr().out == f"test accuracy: {names['accuracy']:.1%}\n"
    assert sum(bool(line) for line in EXAMPLES[0].splitlines()) < 25
    exec(compile(EXAMPLES[1].replace("900", "40"), "README.md", "exec"), names)
    digits = names["digits"]
    found = names["scores"](names["trained"], digits.test_images).argmax(-1)
    assert (found == digits.test_labels).mean() > 0.7


@pytest.mark.parametrize("example", [2, 4], ids=["first", "custom-neuron"])
def test_example_of_the_event_mode(example, capsys):
    names = run(example)
    assert capsys.readouterr().out
    assert jnp.all(jnp.isfinite(names["net"].ttfs(names.get("in_times", [[2.0]]))))


def test_example_of_layers(capsys):
    names = run(3)
    shapes = "[(32, 4, 6, 6, 4), (32, 4, 3, 3, 16), (32, 36, 16), (32, 20, 8)]"
    assert capsys.readouterr().out == f"(32, 3)\n{shapes}\n"
    assert jnp.all(names["model"].maxima(names["in_times"]) > 0)


def test_example_of_delays():
    names = run(5)
    net, in_times = names["net"], names["in_times"]
    assert net.delays.shape == (10, 8)
    assert (net.maxima(in_times) > 0.1).all()


def test_example_of_the_discrete_mode():
    names = run(6)
    grads, trained = names["grads"], names["trained"]
    for of in (lambda m: m.layers[0].weight, lambda m: m.layers[1].feedback.weight):
        assert jnp.any(of(grads) != 0)
    assert jnp.any(grads.layers[1].beta != 0)
    assert trained.layers[1].threshold is None
    after = jax.tree.map(lambda p, g: p - 0.01 * g, trained, grads)
    loss = eqx.filter_jit(names["loss"])
    assert loss(after, names["fixed"]) < loss(trained, names["fixed"])


def test_example_of_sweeps(capsys, as_users_do):
    (example,) = examples("docs/sweeps.md")
    names: dict = {}
    exec(compile(example.replace("STEPS = 150", "STEPS = 40"), "sweeps.md", "exec"), names)
    assert names["accuracies"].shape == (2, 2)
    assert (names["accuracies"][:, 1] > 0.75).all()  # of the higher rate


def test_example_of_a_silent_network(capsys):
    example = examples("docs/silent_networks.md")[1]
    exec(compile(example, "silent_networks.md", "exec"), {})
    tables = capsys.readouterr().out.split("\n")
    (before, after) = (line.split() for line in tables if line.lstrip().startswith("layers[0]"))
    assert before[2] == "100%"
    assert int(after[2].rstrip("%")) < 70
