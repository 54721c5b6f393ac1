"""Imports point one way, so that each module can be read with only what is below it in mind."""

import ast
import pathlib
import subprocess
import sys

import pytest

import eventsnn

PACKAGE = pathlib.Path(eventsnn.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

EVERYTHING = {
    "architectures",
    "bridge",
    "constraints",
    "data",
    "discrete",
    "encoders",
    "flows",
    "losses",
    "network",
}
EVERYTHING |= {"neurons", "plots", "pseudospikes", "status", "surrogates", "train"}

# Each part of the package, and the parts that it may import. A folder is one part.
MAY_IMPORT = {
    "spikes": set(),
    "status": set(),
    "batching": set(),
    "doubles": set(),
    "instants": {"doubles"},
    "checks": set(),
    "neurons": {"checks"},
    "flows": {"checks", "doubles", "neurons"},
    "system": {"flows", "neurons", "spikes"},
    "constraints": {"checks"},
    "readings": {"flows", "neurons", "spikes", "system"},
    "queue": {"instants"},
    "delayed": {"flows", "neurons", "queue", "system"},
    "pseudospikes": {"checks", "neurons"},
    "queries": {"spikes"},
    # The event loop is handed to the adjoint, which never imports it.
    "adjoint": {"batching", "checks", "delayed", "neurons", "queue", "readings", "spikes"}
    | {"status", "system"},
    "engine": {
        "adjoint",
        "batching",
        "delayed",
        "flows",
        "instants",
        "neurons",
        "queue",
        "readings",
    }
    | {"spikes", "status", "system"},
    "network": {
        "adjoint",
        "batching",
        "checks",
        "constraints",
        "engine",
        "flows",
        "neurons",
        "pseudospikes",
        "queries",
    }
    | {"spikes", "status", "system"},
    "architectures": {"adjoint", "checks", "flows", "network", "neurons", "pseudospikes"},
    "surrogates": {"checks"},
    # The discrete-time mode knows nothing of events; the bridge knows both.
    "discrete": {"checks", "constraints", "surrogates"},
    "bridge": {"checks", "constraints", "discrete", "network", "neurons", "surrogates"},
    "encoders": {"checks"},
    "losses": {"checks"},
    "data": {"checks"},
    "plots": {"checks"},
    "cpu": {"checks"},
    "train": {"checks", "cpu", "network", "status"},
    "tasks": set(EVERYTHING),
    "results": set(),
    "commands": {*EVERYTHING, "cpu", "results", "tasks"},
    "cli": {"commands"},
    "__main__": {"cli"},
    "_api": {*EVERYTHING, "adjoint", "cpu"},
}
LIGHT = {  # besides the standard library
    "encoders": {"jax", "jaxtyping", "numpy"},
    "losses": {"jax", "jaxtyping", "numpy"},
    "data": {"jax", "jaxtyping", "numpy", "pooch", "sklearn"},
    "plots": {"jaxtyping", "matplotlib", "numpy"},
}


def part_of(module):
    return module.split(".")[0]


def imports(module, *, inside_functions):
    """Absolute dotted names of everything that a module imports."""
    tree = ast.parse(MODULES[module].read_text())
    body = ast.walk(tree) if inside_functions else top_level(tree)
    parents = ["eventsnn", *module.split(".")[:-1]]  # of a module; of a package's __init__, too
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def top_level(tree):
    """Statements that run at import: not the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from top_level(node)


def own(module):
    """The parts of the package that a module imports anywhere, also in functions."""
    for name in imports(module, inside_functions=True):
        if name.split(".")[0] == "eventsnn":
            yield name.split(".")[1] if "." in name else "__init__"


def test_the_parser_sees_imports():
    assert {"adjoint", "flows", "neurons"} <= set(own("engine"))
    assert "matplotlib" in {
        name.split(".")[0] for name in imports("plots.style", inside_functions=False)
    }


def test_every_part_has_its_place():
    parts = {part_of(module) for module in MODULES} - {"__init__"}
    assert parts <= set(MAY_IMPORT)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_imports_point_one_way(module):
    part = part_of(module)
    allowed = MAY_IMPORT[part] | {part}
    if part in ("commands", "tasks"):
        allowed |= {"__version__"}
    assert set(own(module)) <= allowed


@pytest.mark.parametrize("module", ["__init__", "__main__", "cli", "results"])
def test_the_entry_of_the_command_line_imports_nothing_slow(module):
    at_import = {name.split(".")[0] for name in imports(module, inside_functions=False)}
    assert at_import <= {*sys.stdlib_module_names, "eventsnn"}


def test_every_name_of_the_package_is_there_at_its_first_use():
    code = """
import sys, eventsnn
assert "jax" not in sys.modules and not hasattr(eventsnn, "__main__")
assert eventsnn.checks is sys.modules["eventsnn.checks"]
from eventsnn import *
assert LIF is eventsnn.neurons.LIF and {"LIF", "losses", "__version__"} <= set(dir(eventsnn))
assert eventsnn.__version__ == "0+unknown" or eventsnn.__version__[0].isdigit()
try:
    eventsnn.LIFE
except AttributeError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "module 'eventsnn' has no attribute 'LIFE'\n"


@pytest.mark.parametrize("module", [m for m in MODULES if part_of(m) in LIGHT])
def test_light_modules(module):
    roots = {name.split(".")[0] for name in imports(module, inside_functions=True)}
    assert roots - set(sys.stdlib_module_names) <= LIGHT[part_of(module)] | {"eventsnn"}


DRAWING = ("plots", "tasks.figures")


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith(DRAWING)])
def test_matplotlib_is_imported_lazily(module):
    at_import = set(imports(module, inside_functions=False))
    slow = ("matplotlib", *(f"eventsnn.{part}" for part in DRAWING))
    assert not any(name.startswith(slow) for name in at_import)


def test_one_neuron_does_not_know_another():
    models = {
        m
        for m in MODULES
        if m.startswith("neurons.") and m not in ("neurons.__init__", "neurons.base")
    }
    for module in models:
        names = set(imports(module, inside_functions=True))
        assert not any(f"eventsnn.{other}" in ".".join(names) for other in models - {module})
