"""Every notebook runs from top to bottom, at a size that takes seconds."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SMALLER = {  # replacements that shorten a run
    "delays": ("HIDDEN = 30\n", "HIDDEN = 8\n"),
    "yin_yang": ("HIDDEN = 100\n", "HIDDEN = 30\n"),
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch, pytestconfig):
    monkeypatch.setenv("EVENTSNN_NOTEBOOK_STEPS", "4")
    notebook = nbformat.read(path, as_version=4)
    if path.stem in SMALLER:
        original, smaller = SMALLER[path.stem]
        (cell,) = (cell for cell in notebook.cells if original in cell.source)
        cell.source = cell.source.replace(original, smaller)
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(pytestconfig.rootpath)}}
    ).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert pictures, "a notebook draws figures"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
