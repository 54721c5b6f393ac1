"""The README's examples run, and print what they say."""

import pathlib
import re

import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_examples():
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("code", EXAMPLES, ids=["first", "own-neuron"])
def test_example_runs(code, capsys):
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert capsys.readouterr().out
    net = names["net"]
    assert (net.ttfs(names.get("in_times", [[2.0]])) < net.t_max).all()
