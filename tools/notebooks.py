"""Convert notebooks to pages of the documentation, with the outputs that are stored in them.

`python tools/notebooks.py` writes docs/notebooks/NAME.md and the pictures of each notebook in
notebooks/, and an index. Nothing is executed: a notebook without outputs becomes a page without
outputs.
"""

import base64
import json
import pathlib
import re
import shutil

ROOT = pathlib.Path(__file__).parents[1]
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/svg+xml": ".svg"}
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

INDEX = """# Notebooks

The notebooks are in the folder `notebooks/` of the repository. These pages show their text, their
code and the outputs that are stored in them.

"""


def main():
    """Write the pages of all notebooks, and an index."""
    pages = ROOT / "docs" / "notebooks"
    if pages.exists():
        shutil.rmtree(pages)
    pages.mkdir(parents=True)
    index = INDEX
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text, pictures = convert(json.loads(path.read_text(encoding="utf-8")), path.stem)
        (pages / f"{path.stem}.md").write_text(text, encoding="utf-8")
        for name, data in pictures.items():
            (pages / name).write_bytes(data)
        index += f"- [{title(text, path.stem)}]({path.stem}.md)\n"
    (pages / "index.md").write_text(index, encoding="utf-8")
    for folder in (ROOT / "notebooks").iterdir():
        if folder.is_dir() and not folder.name.startswith("."):
            shutil.copytree(folder, pages / folder.name)


def title(text: str, default: str) -> str:
    """Text of the first heading."""
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found.group(1) if found else default


def convert(notebook: dict, name: str) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook, and its pictures by file name."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(links(attached(source, cell.get("attachments", {}), name, pictures)))
        elif cell["cell_type"] == "code":
            code = re.sub(r"(?m)^%.*\n?", "", source).strip("\n")
            if code:
                parts.append(fenced(code, "python"))
            parts += [output(each, name, pictures) for each in cell.get("outputs", [])]
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def output(each: dict, name: str, pictures: dict[str, bytes]) -> str:
    """Markdown of a stored output: the richest of its representations."""
    kind = each["output_type"]
    if kind == "stream":
        # Progress bars are written to stderr.
        return fenced(joined(each["text"]), "text") if each["name"] == "stdout" else ""
    if kind == "error":
        return fenced("\n".join(each["traceback"]), "text")
    data = each.get("data", {})
    for mime, suffix in SUFFIXES.items():
        if mime in data:
            return f"![Output]({stored(joined(data[mime]), suffix, name, pictures)})"
    if "text/html" in data:
        html = re.sub(r"\n\s*\n", "\n", joined(data["text/html"]))
        return f'<div class="notebook-output">\n{html}\n</div>'
    if "text/markdown" in data:
        return links(joined(data["text/markdown"]))
    if "text/latex" in data:
        return joined(data["text/latex"])
    return fenced(joined(data.get("text/plain", "")), "text")


def attached(source: str, attachments: dict, name: str, pictures: dict[str, bytes]) -> str:
    """The text with its attached pictures as files."""
    for label, data in attachments.items():
        for mime, suffix in SUFFIXES.items():
            if mime in data:
                file = stored(joined(data[mime]), suffix, name, pictures)
                source = source.replace(f"attachment:{label}", file)
    return source


def stored(text: str, suffix: str, name: str, pictures: dict[str, bytes]) -> str:
    """File name of a picture, which is added to the pictures."""
    file = f"{name}_{len(pictures)}{suffix}"
    pictures[file] = text.encode() if suffix == ".svg" else base64.b64decode(text)
    return file


def links(text: str) -> str:
    """Links between notebooks, and to the documentation, as links between pages."""
    text = re.sub(r"\]\(\.\./docs/([^)]*)\)", r"](../\1)", text)
    return re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.md)", text)


def joined(text: str | list[str]) -> str:
    """Text that a notebook stores as a string or as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def fenced(text: str, language: str) -> str:
    """A fenced block, whose fence does not occur in the text; empty for an empty text."""
    text = _ANSI.sub("", text).rstrip("\n")
    if not text.strip():
        return ""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


if __name__ == "__main__":
    main()
