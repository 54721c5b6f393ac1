"""Every notebook runs from top to bottom, at a size that takes seconds."""

import ast
import io
import pathlib
import re

import jax
import nbformat
import pytest
from matplotlib.figure import Figure

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SMALLER = {  # replacements that shorten a run
    "delays": ("HIDDEN = 30\n", "HIDDEN = 8\n"),
    "pattern": ("NEURONS = 1000\n", "NEURONS = 100\n"),
    "yin_yang": ("HIDDEN = 100\n", "HIDDEN = 30\n"),
}


@pytest.fixture
def settings_of_a_user():
    """Float32, and JAX's own promotion of types. Some notebooks change these settings."""
    settings = {"jax_enable_x64": False, "jax_numpy_dtype_promotion": "standard"}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.filterwarnings("ignore:no gradient for any output")  # a subject of a notebook
@pytest.mark.usefixtures("settings_of_a_user")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    """The cells run in this process, because the start of a Jupyter kernel takes seconds."""
    monkeypatch.setenv("EVENTSNN_NOTEBOOK_STEPS", "4")
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    sources = [cell.source.replace("%matplotlib inline\n", "") for cell in cells]
    if path.stem in SMALLER:
        original, smaller = SMALLER[path.stem]
        assert sum(original in source for source in sources) == 1
        sources = [source.replace(original, smaller) for source in sources]
    shown = []
    names = {"display": shown.append}
    for source in sources:
        shown.append(value_of(source, names))
    figures = [value for value in shown if isinstance(value, Figure)]
    assert figures, "a notebook draws figures"
    for figure in figures:
        figure.savefig(io.BytesIO())
    names.clear()  # caches of programs refer to functions, and these to all names


def value_of(source, names):
    """Run a cell, and return the value of an expression at its end, which Jupyter shows."""
    module = ast.parse(source)
    last = module.body.pop() if isinstance(module.body[-1], ast.Expr) else None
    exec(compile(module, "notebook", "exec"), names)
    return last and eval(compile(ast.Expression(last.value), "notebook", "eval"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_with_its_pictures(path):
    """Of a run from top to bottom, without errors, progress bars and paths of a machine."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    kinds = {output.output_type for output in outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert any({"image/png", "image/gif"} & set(output.get("data", {})) for output in outputs)
    texts = (
        output.get("text", "") + str(output.get("data", {}).get("text/plain")) for output in outputs
    )
    assert not any(re.search(r"(^|[\s'\"(])/[a-z]+/", text) for text in texts)
    assert path.stat().st_size < 700_000
