"""The import graph of the package is acyclic, so that a file depends only on the files below it."""

import ast
import graphlib
import importlib
import pathlib
import subprocess
import sys
import types

import pytest

import eventsnn

PACKAGE = pathlib.Path(eventsnn.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Each part of the package, and the parts that it may import. A part is a file, or a folder without
# the parts within it that have their own entry.
ENGINE = {
    "event.engine.record": {"event.state"},
    "event.engine.programs": set(),
    "event.engine.batching": {"event.engine.programs", "event.models"},
    "event.engine.instants": {"event.doubles"},
    "event.engine.queue": {"event.engine.instants"},
    "event.engine.checkpoints": {"event.neurons"},
    "event.engine.system": {"event.flows", "event.neurons"},
    "event.engine.segments": {"event.engine.system", "event.flows", "event.neurons"},
    "event.engine.readout": {
        "event.engine.record",
        "event.engine.segments",
        "event.engine.system",
        "event.flows",
        "event.neurons",
    },
    "event.engine.transport": {
        "event.engine.instants",
        "event.engine.segments",
        "event.engine.system",
        "event.flows",
        "event.neurons",
        "event.state",
    },
    "event.engine.delays": {
        "event.engine.instants",
        "event.engine.queue",
        "event.engine.segments",
        "event.engine.system",
        "event.engine.transport",
        "event.flows",
        "event.neurons",
        "event.state",
    },
}
LOOP = {
    "event.flows",
    "event.models",
    "event.neurons",
    "event.solution",
    "event.state",
    *ENGINE,
}
# The adjoint gets the event loop as an argument and never imports it.
ADJOINT = {"checks", "event.models", "event.neurons", *ENGINE}
ENGINE["event.engine.loop"] = LOOP - {
    "event.engine.batching",
    "event.engine.programs",
    "event.engine.queue",
}
ENGINE["event.engine.solve"] = {
    "event.adjoint",
    "event.engine.batching",
    "event.engine.loop",
    "event.engine.programs",
    "event.engine.record",
    "event.engine.system",
}
EVENT = {
    "event.doubles": set(),
    "event.models": set(),
    "event.state": {"event.neurons"},
    "event.solution": {"checks", "event.state"},
    "event.selection": {"checks", "event.flows", "event.neurons", "event.pseudospikes"},
    "event.neurons": {"checks"},
    "event.connect": {"checks"},
    "event.connectivity": {"checks"},
    "event.synapses": {"checks", "event.connectivity"},
    "event.flows": {"checks", "event.doubles", "event.models", "event.neurons"},
    "event.adjoint": ADJOINT,
    "event.inputs": {"event.engine.record", "event.engine.system", "event.state"},
    "event.queries": {"event.engine.record"},
    "event.pseudospikes": {"checks", "event.neurons"},
    "event.answers": {
        "event.engine.record",
        "event.inputs",
        "event.queries",
        "event.solution",
        "event.state",
    },
    "event.network": {
        "checks",
        "constraints",
        "event.adjoint",
        "event.answers",
        "event.flows",
        "event.inputs",
        "event.neurons",
        "event.pseudospikes",
        "event.queries",
        "event.solution",
        "event.state",
        *ENGINE,
        "event.sparse",
        "event.synapses",
    },
    "event.lanes": {
        "event.engine.batching",
        "event.engine.instants",
        "event.engine.programs",
        "event.engine.solve",
        "event.engine.system",
        "event.flows",
        "event.inputs",
        "event.models",
        "event.neurons",
        "event.solution",
    },
    "event.sparse": {
        "checks",
        "constraints",
        "event.adjoint",
        "event.engine.batching",
        "event.engine.instants",
        "event.engine.programs",
        "event.engine.record",
        "event.engine.segments",
        "event.engine.solve",
        "event.engine.system",
        "event.flows",
        "event.inputs",
        "event.lanes",
        "event.neurons",
        "event.solution",
        "event.state",
        "event.synapses",
    },
    "event.layers": {
        "checks",
        "constraints",
        "event.adjoint",
        "event.engine.batching",
        "event.engine.programs",
        "event.flows",
        "event.inputs",
        "event.lanes",
        "event.answers",
        "event.network",
        "event.neurons",
        "event.pseudospikes",
        "event.solution",
    },
    "event.init": {"checks", "event.layers", "event.neurons"},
    "event.responses": {"checks", "event.layers", "event.network", "event.solution"},
    "event.statistics": {"event.layers", "event.network", "event.responses", "event.solution"},
    "event.calibration": {
        "checks",
        "constraints",
        "event.layers",
        "event.network",
        "event.responses",
    },
    "event.architectures": {
        "checks",
        "event.adjoint",
        "event.flows",
        "event.init",
        "event.layers",
        "event.network",
        "event.neurons",
        "event.pseudospikes",
    },
}
MAY_IMPORT = {
    "axes": set(),
    "checks": set(),
    "constraints": {"checks"},
    "cpu": {"checks"},
    **ENGINE,
    **EVENT,
    "event": {*EVENT},
    # The discrete-time mode does not import the event mode; the bridge imports both.
    "discrete": {"axes", "checks", "constraints"},
    "surrogates": {"discrete"},
    "bridge": {"checks", "constraints", "discrete", "event"},
    "exchange": {"checks", "constraints", "discrete", "encoders", "event"},
    "encoders": {"checks"},
    "losses": {"checks"},
    "data": {"checks", "encoders"},
    "plots": {"checks"},
    "train": {
        "axes",
        "checks",
        "constraints",
        "cpu",
        "discrete",
        "event",
        "event.responses",
        "event.selection",
    }
    | {"files"},
    "tasks.figures": {"plots"},
    "tasks": {
        "checks",
        "constraints",
        "data",
        "discrete",
        "event",
        "event.architectures",
        "event.connect",
        "losses",
        "plots",
    }
    | {"event.selection", "tasks.figures", "train", "versions"},
    "files": set(),
    "versions": set(),
    "devices": set(),
    "info": {"cpu", "data", "devices", "versions"},
    "results": {"files"},
    "earlier": {"files", "results", "tasks", "train"},
    "measures": {"checks", "constraints", "discrete", "event", "event.responses"}
    | {"event.selection", "event.solution"},
    "_api": {"bridge", "constraints", "cpu", "data", "discrete", "encoders", "event", "exchange"}
    | {
        "losses",
        "measures",
        "event.statistics",
        "event.calibration",
        "event.connect",
        "event.init",
        "event.selection",
        "surrogates",
    },
    "__init__": {"_api"},
    "commands": {"__init__", "cpu", "devices", "earlier", "info", "plots"}
    | {"results", "tasks", "versions"},
    "cli": {"commands"},
    "__main__": {"cli"},
}
LIGHT = {  # besides the standard library
    "encoders": {"jax", "jaxtyping", "numpy"},
    "losses": {"jax", "jaxtyping", "numpy"},
    "data": {"h5py", "jax", "jaxtyping", "numpy", "pooch", "sklearn"},
    "plots": {"jaxtyping", "matplotlib", "numpy"},
}


def part_of(module):
    """Part with the longest name that is a prefix of the module's name."""
    names = module.split(".")
    prefixes = [".".join(names[:n]) for n in range(len(names), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in MAY_IMPORT), None)


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
    """Statements that run at import, without the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from top_level(node)


def imported_files(module):
    """Modules of the package imported anywhere in a module, also in functions and for annotations.

    An import from a package is one of its `__init__`, unless the name is a module. The `__init__`
    files that Python runs in the folders above an imported file are not counted.
    """
    for name in imports(module, inside_functions=True):
        root, *names = name.split(".")
        if root != "eventsnn":
            continue
        candidates = [
            names[:n] + end for n in range(len(names), -1, -1) for end in ([], ["__init__"])
        ]
        yield next(m for m in map(".".join, candidates) if m in MODULES)


FILES = {module: set(imported_files(module)) for module in MODULES}


def test_the_parser_sees_imports():
    assert {"event.flows.__init__", "event.neurons.base"} <= FILES["event.engine.loop"]  # from ..
    assert {"checks.__init__", "event.engine.solve"} <= FILES["event.network"]  # a module, from ..
    assert "plots.__init__" in FILES["tasks.delays"]  # in a function
    assert "_api" in FILES["__init__"]  # for annotations
    assert "matplotlib" in {
        name.split(".")[0] for name in imports("plots.style", inside_functions=False)
    }


def assert_no_cycle(graph):
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a cycle of imports: " + " <- ".join(error.args[1]))


def test_no_file_imports_itself_by_way_of_others():
    assert_no_cycle(FILES)


def test_a_cycle_is_found():
    with pytest.raises(pytest.fail.Exception, match=r"event\.flows\.lif"):
        assert_no_cycle(FILES | {"event.neurons.lif": {"event.flows.lif"}})


def test_no_part_may_import_itself_by_way_of_others():
    assert_no_cycle(MAY_IMPORT)


def test_every_part_has_its_place():
    assert {part_of(module) for module in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    part = part_of(module)
    assert set(map(part_of, FILES[module])) <= MAY_IMPORT[part] | {part}


@pytest.mark.parametrize("module", ["__init__", "__main__", "cli", "results"])
def test_the_entry_of_the_command_line_imports_nothing_slow(module):
    at_import = {name.split(".")[0] for name in imports(module, inside_functions=False)}
    assert at_import <= {*sys.stdlib_module_names, "eventsnn"}


def test_every_name_of_the_package_is_available_at_its_first_use():
    code = """
import sys, eventsnn
assert "jax" not in sys.modules and not hasattr(eventsnn, "__main__")
assert {"plots", "tasks", "train"} <= set(dir(eventsnn)) and eventsnn.train.fit
assert eventsnn.tasks.TASKS and "matplotlib" not in sys.modules
assert eventsnn.plots.INK and "matplotlib" in sys.modules
assert eventsnn.checks is sys.modules["eventsnn.checks"]
from eventsnn import *
assert LIF is eventsnn.event.neurons.LIF and {"LIF", "losses", "__version__"} <= set(dir(eventsnn))
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


def test_neuron_models_do_not_import_each_other():
    models = {m for m in MODULES if m.startswith("event.neurons.")}
    models -= {"event.neurons.__init__", "event.neurons.base"}
    for module in models:
        assert not FILES[module] & models


@pytest.mark.parametrize(
    "package", ["checks", "discrete", "encoders", "losses", "plots", "tasks", "train"]
)
def test_a_package_lists_its_public_names(package):
    module = importlib.import_module(f"eventsnn.{package}")
    public = {name for name in vars(module) if not name.startswith("_")}
    modules = {name for name in public if isinstance(vars(module)[name], types.ModuleType)}
    assert set(module.__all__) == public - modules


def test_no_module_has_the_name_of_a_public_function():
    """The name of a package's function must not be ambiguous, for readers and for the reference."""
    found = []
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            package = importlib.import_module(f"eventsnn.{name}".removesuffix(".__init__"))
            for member in getattr(package, "__all__", ()):
                is_module = isinstance(getattr(package, member), types.ModuleType)
                if not is_module and (path.parent / f"{member}.py").exists():
                    found.append(f"{package.__name__}.{member}")
    assert not found


def defined(module):
    """Names that a module defines at its top level."""
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in names_in(target))


def names_in(target):
    return [node for node in ast.walk(target) if isinstance(node, ast.Name)]


@pytest.mark.parametrize(
    "module",
    [m for m in MODULES if m.startswith(("data.", "tasks.")) and not m.endswith("__init__")],
)
def test_a_module_of_data_or_tasks_lists_its_public_names(module):
    public = {name for name in defined(module) if not name.startswith("_")}
    assert set(importlib.import_module(f"eventsnn.{module}").__all__) == public


def test_data_lists_its_modules():
    modules = {m.removeprefix("data.") for m in MODULES if m.startswith("data.")} - {"__init__"}
    assert set(importlib.import_module("eventsnn.data").__all__) == modules
