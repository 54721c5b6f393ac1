"""The documentation: every public name has one place in the reference, and the examples run.

The site itself is built by `make docs` only.
"""

import base64
import importlib.util
import inspect
import json
import os
import pathlib
import re
import shlex
import types

import jax
import pytest

from eventsnn import tasks
from eventsnn.cli import main

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if DOCS / "notebooks" not in path.parents)

# ------------------------------------------------------------------------------- reference

# Names on the pages of the reference that are not public: base classes that docstrings refer to.
OTHERS = {"eventsnn.tasks.speech.SpeechTask"}


def listed():
    """Names that the pages of the reference render, in order, with repetitions."""
    pages = sorted((DOCS / "api").glob("*.md"))
    texts = [path.read_text(encoding="utf-8") for path in pages]
    return [name for text in texts for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]


def public(name, module):
    """Public names of a module and of the modules that it exports, without the modules."""
    for member in exported(module):
        value = getattr(module, member)
        if isinstance(value, types.ModuleType):
            yield from public(f"{name}.{member}", value)
        else:
            yield f"{name}.{member}"


def exported(module):
    """`__all__` of a module, or else its public classes and functions."""
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


@pytest.fixture(scope="module")
def names():
    modules = ("eventsnn", "eventsnn.train", "eventsnn.plots", "eventsnn.tasks")
    return {found for name in modules for found in public(name, importlib.import_module(name))}


def is_module(name):
    parent, _, member = name.rpartition(".")
    return bool(parent) and isinstance(
        getattr(importlib.import_module(parent), member, None), types.ModuleType
    )


def test_public_names_are_found(names):
    assert {"eventsnn.LIF", "eventsnn.init.normal", "eventsnn.discrete.Leaky"} <= names
    assert {"eventsnn.data.mnist.read", "eventsnn.train.fit", "eventsnn.losses.ce_ttfs"} <= names
    assert {"eventsnn.surrogates.ATan", "eventsnn.plots.raster", "eventsnn.tasks.YinYang"} <= names


def test_every_public_name_has_a_place_in_the_reference(names):
    missing = sorted(names - set(listed()))
    assert not missing, f"add '::: NAME' to a page in docs/api: {missing}"


def test_every_name_of_the_reference_is_public(names):
    unknown = [n for n in listed() if n not in names | OTHERS and not is_module(n)]
    assert not unknown


def test_no_name_is_in_the_reference_twice():
    found = listed()
    assert sorted(found) == sorted(set(found))


def test_every_page_is_in_the_navigation():
    """Entries of the navigation that are pages; those of the notebooks are made by `make docs`."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = text[text.index("\nnav:\n") : text.index("\ntheme:\n")]
    entries = re.findall(r"([\w/]+\.md)", re.sub(r"#.*", "", nav))
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    pages = {path.relative_to(DOCS).as_posix() for path in PAGES}
    assert sorted(entries) == sorted(pages | notebooks | {"notebooks/index.md"})


def test_the_table_of_predictions_has_every_task():
    text = (DOCS / "api" / "tasks.md").read_text(encoding="utf-8")
    table = text[text.index("| task | inputs | prediction |") :].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    found = [name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)]
    assert sorted(found) == sorted(tasks.TASKS)


# -------------------------------------------------------------------------------- examples

# Examples of Python with the output that follows them, and the reason why one is not run, if any.
EXAMPLE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n+)?```python\n(?P<code>.*?)```"
    r"(?:\n+```text\n(?P<printed>.*?)```)?",
    re.DOTALL,
)
# Replacements that shorten a run.
SMALLER = {
    "sweeps.md": ("STEPS = 150", "STEPS = 40"),
    "cores.md": ("esn.prepare_cpu()", "esn"),  # JAX has computed before
}
WITH_EXAMPLES = [
    path
    for path in PAGES
    if "```python" in path.read_text(encoding="utf-8") and path.name != "index.md"
]


def check_sweeps(names):
    assert names["accuracies"].shape == (2, 2)
    assert (names["accuracies"][:, 1] > 0.75).all()  # of the higher rate


def check_silent_networks(names):
    esn, in_times = names["esn"], names["in_times"]
    (before,) = esn.activity(names["silent"], in_times)
    (after,) = esn.activity(esn.calibrate(names["silent"], in_times), in_times)
    assert before.silent == 1
    assert after.silent < 0.7


CHECKS = {"sweeps.md": check_sweeps, "silent_networks.md": check_silent_networks}


@pytest.fixture
def unchanged_flags(monkeypatch):
    """Restore `XLA_FLAGS` after the test, and open the devices before it: a page may set both."""
    jax.devices()
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path, capsys, as_users_do, unchanged_flags, tmp_path, monkeypatch):
    """The examples of a page share their names, and print the stated output."""
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    if path.name in SMALLER:
        original, smaller = SMALLER[path.name]
        assert text.count(original) == 1
        text = text.replace(original, smaller)
    found = list(EXAMPLE.finditer(text))
    assert len(found) == text.count("```python")
    names: dict = {"__name__": "__main__"}
    for example in found:
        if example["reason"]:
            continue
        lines = "\n" * text.count("\n", 0, example.start("code"))  # of a traceback
        exec(compile(lines + example["code"], path.name, "exec"), names)
        printed = capsys.readouterr().out
        if example["printed"] is not None:
            assert printed == example["printed"]
    if path.name in CHECKS:
        CHECKS[path.name](names)
    names.clear()  # caches of programs refer to functions, and these to all names


# Commands of a page with the output that follows them, and the step at which Ctrl-C is pressed.
COMMANDS = re.compile(
    r"(?:<!-- interrupted at step (?P<step>\d+) -->\n+)?"
    r"```(?P<language>sh|python)\n(?P<code>.*?)```(?:\n+```text\n(?P<printed>.*?)```)?",
    re.DOTALL,
)


class Figure:
    """Figure that is drawn at once."""

    def get_suptitle(self):
        return ""

    def suptitle(self, *_, **__):
        pass

    def savefig(self, path):
        path.touch()


@pytest.fixture
def command_line(monkeypatch, tmp_path, capsys, as_users_do):
    """Function that runs a command in a temporary folder, and returns its status and output."""
    for module in ("cpu", "info"):
        monkeypatch.setattr(f"eventsnn.{module}.prepare_cpu", lambda: None)
    drawn = {name: Figure() for name in ("before", "after", "loss", "raster")}
    monkeypatch.setattr("eventsnn.tasks.curves.CurveTask.make_figures", lambda *_: drawn)
    monkeypatch.chdir(tmp_path)

    def run(words, step=None):
        def interrupt(_, progress):
            if step and progress.step == int(step):
                raise KeyboardInterrupt

        monkeypatch.setattr("eventsnn.train.callbacks.Callbacks.call", interrupt)
        try:
            status = main(words)
        except SystemExit as stop:
            status = stop.code
        return status, "".join(capsys.readouterr())

    return run


def commands(code):
    """Words of each command, with those of a loop written out."""
    loop = re.fullmatch(r"for (\w+) in (.*); do\n(.*)done\n", code, re.DOTALL)
    values = loop[2].split() if loop else [""]
    for value in values:
        text = loop[3].replace(f"${loop[1]}", value) if loop else code
        for line in text.splitlines():
            yield shlex.split(line)


def test_the_commands_run(command_line, capsys):
    """The page of the command line: each command prints the stated lines."""
    text = (DOCS / "command_line.md").read_text(encoding="utf-8")
    found = list(COMMANDS.finditer(text))
    assert len(found) == text.count("```sh") + text.count("```python") > 7
    for example in found:
        if example["language"] == "python":
            exec(example["code"], {})
            assert capsys.readouterr().out == example["printed"]
            continue
        for program, *words in commands(example["code"]):
            assert program == "eventsnn"
            status, shown = command_line(words, example["step"])
            lines = [line.split() for line in shown.splitlines()]  # columns have various widths
            for line in (example["printed"] or "").splitlines():
                assert line.split() in lines
            error = 2 if "eventsnn: error:" in shown else 0
            assert status == (130 if example["step"] else error)


def test_the_quickstart_of_the_home_page_is_that_of_the_readme():
    """The tests of the README run it."""
    texts = [path.read_text(encoding="utf-8") for path in (DOCS / "index.md", ROOT / "README.md")]
    home, readme = ([found["code"] for found in EXAMPLE.finditer(text)] for text in texts)
    assert home == readme[:1]


# ------------------------------------------------------------------------------- notebooks


@pytest.fixture(scope="module")
def converter():
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_page_of_a_notebook(path, converter):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    text, _ = converter.convert(notebook, path.stem)
    assert text.startswith("# ")
    assert text.count("```") % 2 == 0
    n_code = sum(cell["cell_type"] == "code" for cell in notebook["cells"])
    assert text.count("```python\n") == n_code
    assert "%matplotlib" not in text


def test_page_of_a_notebook_with_outputs(converter):
    picture = base64.b64encode(b"PNG").decode()
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["loss 0.5\n", "loss 0.1\n"]},
        {"output_type": "stream", "name": "stderr", "text": "a progress bar"},
        {"output_type": "display_data", "data": {"image/png": picture, "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/html": "<table>\n\n</table>"}},
        {"output_type": "execute_result", "data": {"text/plain": ["Array(", "1)"]}},
        {"output_type": "error", "traceback": ["\x1b[31mValueError\x1b[0m: no"]},
    ]
    cells = [
        {"cell_type": "markdown", "source": "# Title\n[a](delays.ipynb), [b](../docs/events.md)"},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "print(1)"], "outputs": outputs},
        {"cell_type": "code", "source": "%matplotlib inline", "outputs": []},
    ]
    text, pictures = converter.convert({"cells": cells}, "name")
    assert pictures == {"name_0.png": b"PNG"}
    assert text == (
        "# Title\n[a](delays.md), [b](../events.md)\n\n"
        "```python\nprint(1)\n```\n\n"
        "```text\nloss 0.5\nloss 0.1\n```\n\n"
        "![Output](name_0.png)\n\n"
        '<div class="notebook-output">\n<table>\n</table>\n</div>\n\n'
        "```text\nArray(1)\n```\n\n"
        "```text\nValueError: no\n```\n"
    )
