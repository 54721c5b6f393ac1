"""Mechanical rules of the prose in docstrings, comments, messages, pages and notebooks.

The files are read with `ast` and `tokenize`; nothing of the package is imported.
"""

import ast
import functools
import io
import json
import pathlib
import re
import tokenize
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "eventsnn"
SOURCES = sorted(
    path
    for folder in ("eventsnn", "benchmarks", "tests", "tools")
    for path in (ROOT / folder).rglob("*.py")
)
DOCS = ROOT / "docs"  # without the pages that are made from the notebooks
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in DOCS.rglob("*.md") if DOCS / "notebooks" not in path.parents),
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# A docstring opens with a noun phrase or an imperative.
OPENINGS = ("What", "Who", "How", "When", "Where", "That", "Those", "Whether", "Which")

# An article in place of "per" in rates and counts; the tests below list examples. A contact clause
# of this form is found as well: it reads better with "that".
_GAP = r"(?:[^\S\n]+|[^\S\n]*\n[^\S\n]*)"  # white space within a paragraph
_UNIT = (
    rf"an?{_GAP}(?:arrival|batch|benchmark|channel|class|column|component|core|device|dispatch|entry"
    r"|epoch|event|file|frame|image|input|iteration|key|layer|library|machine|minibatch|minute|ms"
    r"|neuron|output|part|pixel|port|precision|round|row|run|sample|second|seed|segment|size"
    r"|source|spike|step|synapse|task|test|train|unit|worker)\b"
)
_COUNTED = (
    r"(?:batch|block|byte|compilation|column|cotangent|count|core|device|dispatch|entry"
    r"|epoch|event|figure|file|flow|image|integer|iteration|key|label|line|loop|number"
    r"|operation|parameter|path|pixel|place|plot|port|probability|process|program|rate"
    r"|record|row|sample|second|seed|slot|spike|state|status|step|target|thread|time|unit|value"
    r"|weight)"
)
# Words after "one" that are no count: "one is a layer", "one of a batch".
_NO_NOUN = (
    r"(?!(?:after|and|as|at|before|but|by|ends?|fires?|for|from|gives?|has|have|in|is|makes?|needs?"
    r"|of|on|or|receives?|sends?|takes?|than|that|to|was|when|where|which|with|without)\b)"
)
PER = {
    "plural": rf"\b(?:{_COUNTED}(?<!s)s|batches|entries|statuses|ms|us){_GAP}{_UNIT}",
    "one": rf"\bone{_GAP}(?:{_NO_NOUN}[\w-]+{_GAP}){{0,2}}{_UNIT}",
    "singular": rf"\ban?{_GAP}(?:\w+{_GAP})?{_COUNTED}{_GAP}{_UNIT}",
    "or": rf"\b(?:row|column|entry|value|status){_GAP}{_UNIT}",
}

# Phrases without a legitimate use in this repository.
BANNED = {
    "is to be, are to be": r"\b(?:is|are)\s+to\s+be\b",
    "so many": r"\bso\s+many\b",
    "for who": r"\bfor\s+who\b",
    "asked for": r"\basked\s+for\b",
    "shall": r"\bshall\b",
    "of which": r"\bof\s+which\b",
    "somebody, nobody": r"\b(?:some|no)body\b",
    "under way": r"\bunder\s+way\b",
    "know of each other": r"\bknows?\s+(?:nothing\s+)?of\s+(?:each\s+other|the\s+others)\b",
    "feel each other": r"\bfeels?\s+each\s+other\b",
    "wishes to": r"\bwish(?:es)?\s+to\b",
    "wakes": r"\bwakes?\b",
    "is there for, are there for": r"\b(?:is|are)\s+there\s+for\b",
}


class Text(NamedTuple):
    """A piece of prose: its first line, or its place in a notebook, and what kind it is."""

    path: pathlib.Path
    place: str
    line: int
    kind: str  # "docstring", "comment", "literal" or "page"
    text: str

    def where(self, offset: int) -> str:
        line = self.line + self.text.count("\n", 0, offset)
        return f"{self.path.relative_to(ROOT)}:{self.place}{line}"


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def docstring_node(node):
    body = getattr(node, "body", None)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    if isinstance(node, documented) and body and isinstance(body[0], ast.Expr):
        value = body[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value
    return None


@functools.cache
def source_texts(path):
    """Docstrings, blocks of comments and string literals of a Python file."""
    docstrings, literals = {}, []
    for node in ast.walk(parsed(path)):
        if (found := docstring_node(node)) is not None:
            docstrings[found] = Text(path, "", found.lineno, "docstring", found.value)
    for node in ast.walk(parsed(path)):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and node not in docstrings:
            literals.append(Text(path, "", node.lineno, "literal", node.value))
    return [*docstrings.values(), *comments(path.read_text(encoding="utf-8"), path), *literals]


def comments(source, path, place=""):
    """Comments on consecutive lines, at one indentation, are one text."""
    texts, block, last = [], [], None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, column = token.start
        if last != (line - 1, column):
            block = []
            texts.append((line, block))
        block.append(token.string.lstrip("#:"))
        last = (line, column)
    return [Text(path, place, line, "comment", "\n".join(block)) for line, block in texts]


def notebook_texts(path):
    """Markdown cells and the comments and docstrings of code cells."""
    texts = []
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source, place = "".join(cell["source"]), f"cell {number}:"
        if cell["cell_type"] == "markdown":
            texts.append(Text(path, place, 1, "page", source))
            continue
        code = re.sub(r"(?m)^%.*$", "", source)
        texts += comments(code, path, place)
        for node in ast.walk(ast.parse(code)):
            if (found := docstring_node(node)) is not None:
                texts.append(Text(path, place, found.lineno, "docstring", found.value))
    return texts


def texts_of(path):
    if path.suffix == ".py":
        texts = source_texts(path)
        return texts if PACKAGE in path.parents else [t for t in texts if t.kind != "literal"]
    if path.suffix == ".ipynb":
        return notebook_texts(path)
    return [Text(path, "", 1, "page", path.read_text(encoding="utf-8"))]


def found(path, patterns):
    """One line for each match: file, line, name of the pattern and the text around the match."""
    lines = []
    for text in texts_of(path):
        for name, pattern in patterns.items():
            for match in re.finditer(pattern, text.text, re.IGNORECASE):
                around = text.text[max(0, match.start() - 30) : match.end() + 30]
                lines.append(f"{text.where(match.start())}: {name}: ...{' '.join(around.split())}")
    return lines


ids = {"ids": lambda path: str(path.relative_to(ROOT))}
everything = pytest.mark.parametrize("path", [*SOURCES, *PAGES, *NOTEBOOKS], **ids)


@pytest.mark.parametrize("path", [*SOURCES, *NOTEBOOKS], **ids)
def test_docstrings_open_with_a_noun_or_an_imperative(path):
    opening = re.compile(rf"\s*(?:{'|'.join(OPENINGS)})\b")
    wrong = [
        f"{text.where(0)}: {text.text.strip().splitlines()[0]}"
        for text in texts_of(path)
        if text.kind == "docstring" and opening.match(text.text)
    ]
    assert not wrong, "\n".join(["docstrings that open with a relative clause:", *wrong])


@everything
def test_rates_and_counts_are_per_something(path):
    wrong = found(path, PER)
    assert not wrong, "\n".join(['"a" in place of "per":', *wrong])


@everything
def test_no_banned_phrases(path):
    wrong = found(path, BANNED)
    assert not wrong, "\n".join(["banned phrases:", *wrong])


@pytest.mark.parametrize(
    "text",
    [
        "one row an input channel",
        "133 steps a second",
        "A status a sample.",
        "one host device\n    a core",
        "one a class",
        "pixels a frame",
        "every array one row or entry a neuron",
        "ms a step",
        "seconds a run",
        "a seed a sample",
    ],
)
def test_the_patterns_find_known_cases(text):
    assert any(re.search(pattern, text, re.IGNORECASE) for pattern in PER.values())


@pytest.mark.parametrize(
    "text",
    [
        "one of a batch",
        "the first one is a layer",
        "it lifts a second neuron",
        "half a unit in the last place",
        "one row per channel",
        "an arrival lifts a neuron",
        "the second arrival at one neuron ends a segment",
        "above 0 a step of r is large",
        "one output of a layer",
        "with axonal delays a spike reaches all neurons",
        "exact times\n\nA spike time",
    ],
)
def test_the_patterns_leave_other_text_alone(text):
    assert not any(re.search(pattern, text, re.IGNORECASE) for pattern in PER.values())


# ------------------------------------------------------------------ arguments in docstrings

# Public namespaces, each a module of the package.
NAMESPACES = ("_api", "discrete", "losses", "encoders", "train", "plots", "data", "tasks")


class Definition(NamedTuple):
    """A class or function, and the module that defines it."""

    module: str
    node: ast.ClassDef | ast.FunctionDef

    @property
    def file(self):
        return file_of(self.module).relative_to(ROOT)


def file_of(module):
    """The file of a module, named from the package on ("" is the package); None if none exists."""
    base = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    files = (base / "__init__.py", base.with_suffix(".py"))
    return next((path for path in files if path.is_file()), None)


def absolute(module, statement):
    """The module that an import statement of the package refers to; None for other packages."""
    name = statement.module or ""
    if statement.level == 0:
        return name.removeprefix("eventsnn").lstrip(".") if name.startswith("eventsnn") else None
    parts = module.split(".") if module else []
    if file_of(module).name != "__init__.py":
        parts = parts[:-1]
    parts = parts[: len(parts) - (statement.level - 1)]
    return ".".join([*parts, *([name] if name else [])])


def resolve(module, name):
    """The definition or module that a name stands for; None where it is neither."""
    for statement in parsed(file_of(module)).body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return Definition(module, statement)
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                origin = absolute(module, statement)
                if (alias.asname or alias.name) == name and origin is not None:
                    inner = f"{origin}.{alias.name}".lstrip(".")
                    return inner if file_of(inner) else resolve(origin, alias.name)
    return None


def exported(module):
    """Public names of a module: `__all__`, or else re-exports (`x as x`) and definitions."""
    names = []
    for statement in parsed(file_of(module)).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return ast.literal_eval(statement.value)
        if isinstance(statement, ast.ImportFrom):
            names += [alias.name for alias in statement.names if alias.asname == alias.name]
        elif isinstance(statement, ast.ClassDef | ast.FunctionDef):
            names.append(statement.name)
    return [name for name in names if not name.startswith("_")]


def definitions(module):
    """Public definitions of a namespace, and of the modules that it exports."""
    for name in exported(module):
        target = resolve(module, name)
        if isinstance(target, str):
            yield from definitions(target)
        elif target is not None:
            yield target


def public():
    """Every public definition once, by file and line."""
    unique = {
        (definition.module, definition.node.lineno): definition
        for namespace in NAMESPACES
        for definition in definitions(namespace)
    }
    return [unique[key] for key in sorted(unique)]


def doc(node):
    return ast.get_docstring(node) or ""


def bases(definition):
    """The base classes that the package defines, nearest first."""
    for base in definition.node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        target = resolve(definition.module, base.id) if isinstance(base, ast.Name) else None
        if isinstance(target, Definition):
            yield target
            yield from bases(target)


def methods(definition):
    return {node.name: node for node in definition.node.body if isinstance(node, ast.FunctionDef)}


def arguments(node):
    """Names of the arguments of a function, without `self` and `cls`."""
    spec = node.args
    plain = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
    starred = [argument for argument in (spec.vararg, spec.kwarg) if argument]
    names = [argument.arg for argument in (*plain, *starred)]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def called(value):
    """The name of the function that a field's default calls."""
    function = value.func if isinstance(value, ast.Call) else None
    return getattr(function, "id", getattr(function, "attr", None))


def fields(definition):
    """Fields that the constructor takes and that have no docstring of their own.

    Settings of a task that are made by `option(...)` have a help text, which the command line
    prints, and are left out.
    """
    names, body = [], definition.node.body
    for statement, after in zip(body, [*body[1:], None], strict=True):
        value = after.value if isinstance(after, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            continue
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            keywords = statement.value.keywords if isinstance(statement.value, ast.Call) else []
            init = {word.arg: getattr(word.value, "value", True) for word in keywords}
            if (
                "ClassVar" not in ast.unparse(statement.annotation)
                and called(statement.value) != "option"
                and init.get("init", True)
            ):
                names.append(statement.target.id)
    return [name for name in names if not name.startswith("_")]


_REFERENCE = r"\b(?:as\s+(?:by|for|in|of)|arguments\s+of|same\s+as|those\s+of)"


@functools.cache
def by_name():
    return {definition.node.name: definition for definition in public()}


def with_references(text, siblings=(), seen=()):
    """The text, and that of the classes, functions and sibling methods that it refers to.

    A docstring may say "as in [`eventsnn.discrete.Leaky`][]" instead of a list of arguments.
    """
    for name in re.findall(rf"{_REFERENCE}\s+\[`(?:[\w.]*\.)?(\w+)`\]", text):
        if name in seen:
            continue
        if name in siblings:
            text += with_references(doc(siblings[name]), siblings, (*seen, name))
        elif name in by_name():
            text += with_references(class_doc(by_name()[name]), (), (*seen, name))
    return text


def class_doc(definition):
    """Docstrings of a definition and, for a class, of its constructor and its bases."""
    parts = [doc(definition.node)]
    if isinstance(definition.node, ast.ClassDef):
        for each in (definition, *bases(definition)):
            parts.append(doc(each.node))
            parts += [doc(node) for name, node in methods(each).items() if name == "__init__"]
    return with_references("\n".join(parts))


def missing(names, text):
    """The names that no pair of backticks in the text contains as a word."""
    quoted = set(re.findall(r"\w+", " ".join(re.findall(r"`+([^`]+)`+", text))))
    return [name for name in names if name not in quoted]


def undocumented(definition):
    """One line for each public callable of a definition whose arguments lack documentation."""
    node, file = definition.node, definition.file
    if isinstance(node, ast.FunctionDef):
        wrong = missing(arguments(node), with_references(doc(node)))
        return [f"{file}:{node.lineno}: {node.name}: {', '.join(wrong)}"] if wrong else []
    lines, chain = [], (definition, *bases(definition))
    text = class_doc(definition)
    init = next((methods(each)["__init__"] for each in chain if "__init__" in methods(each)), None)
    names = arguments(init) if init else [name for each in chain for name in fields(each)]
    if wrong := missing(dict.fromkeys(names), text):
        lines.append(f"{file}:{node.lineno}: {node.name}: {', '.join(wrong)}")
    if any(each.node.name == "Task" for each in chain):
        return lines  # the methods of a task are the steps of `run`, which takes no data
    for name, method in methods(definition).items():
        if name.startswith("_") and name != "__call__":
            continue
        inherited = [doc(methods(each)[name]) for each in chain[1:] if name in methods(each)]
        if inherited and not doc(method):
            continue  # an override, documented where the method is defined
        texts = [doc(method), *inherited, text]
        wrong = missing(arguments(method), with_references("\n".join(texts), methods(definition)))
        if wrong:
            lines.append(f"{file}:{method.lineno}: {node.name}.{name}: {', '.join(wrong)}")
    return lines


def test_public_names_are_found():
    names = set(by_name())
    assert {"EventNetwork", "LIF", "Leaky", "van_rossum", "fit", "raster", "latency"} <= names
    assert {"YinYang", "discretise", "ATan", "batches"} <= names


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_argument_is_in_the_docstring(namespace):
    wrong = dict.fromkeys(line for each in definitions(namespace) for line in undocumented(each))
    assert not wrong, "\n".join(["arguments that the docstring does not name:", *wrong])
