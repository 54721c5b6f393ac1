"""Run notebooks, and store their outputs in them.

`python tools/run_notebooks.py [NAME ...]` runs the named notebooks, or all, each in a new kernel in
a temporary folder. Progress bars and times of execution are not stored, and pictures have at most
128 colours, which makes them three times smaller.
"""

import base64
import io
import pathlib
import sys
import tempfile
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = pathlib.Path(__file__).parents[1] / "notebooks"


def main(names: list[str]) -> None:
    """Run notebooks, one after the other."""
    for name in names or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        path = FOLDER / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            resources = {"metadata": {"path": folder}}
            NotebookClient(
                notebook, record_timing=False, timeout=None, resources=resources
            ).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [smaller(x) for x in cell.outputs if x.get("name") != "stderr"]
        notebook.metadata = {"kernelspec": notebook.metadata.kernelspec}
        nbformat.write(notebook, path)
        print(f"{name}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


def smaller(output: Any) -> Any:
    """Reduce the colours of a picture."""
    data = output.get("data", {})
    if "image/png" in data:
        picture, file = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))), io.BytesIO()
        reduced = picture.convert("RGB").quantize(128, Image.Quantize.MEDIANCUT)
        reduced.save(file, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(file.getvalue()).decode()
    return output


if __name__ == "__main__":
    main(sys.argv[1:])
