"""The examples of the README run and give the stated results."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def examples(path):
    """Code of the examples of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)


EXAMPLES = examples("README.md")


def test_there_are_examples():
    assert len(EXAMPLES) == 2


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
    names.clear()  # caches of programs refer to functions, and these to all names
