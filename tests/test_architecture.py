"""Imports run in one direction between the packages, and importing the library stays cheap."""

import ast
import graphlib
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.import_rules import IMPORTS, ONLY_IN, UNTESTED

ROOT = Path(__file__).parent.parent
SOURCES = [p for top in ("aff_jax", "train", "configs") for p in sorted((ROOT / top).rglob("*.py"))]

MAX_LINES = 300


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}


def imported_modules(path):
    """Yield the absolute names of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module != "aff_jax":  # its names are packages, or public
                yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def without_type_checking(tree):
    """Yield the nodes of a syntax tree, except those that only type checkers execute."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from without_type_checking(node)


def executed_imports(path):
    """Yield the modules that a file imports when it is imported or when its functions are called.

    The packages that a module is in are imported too. They are left out, as they import all of
    their modules.
    """
    for node in without_type_checking(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                yield member if member in MODULES else node.module


def within(module, package):
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_run_one_way(path):
    name = module_name(path)
    if name == "aff_jax":  # imports all public names
        return
    own = next(own for own in IMPORTS if within(name, own))
    for module in imported_modules(path):
        if module.split(".")[0] in ("aff_jax", "train", "configs", "tests"):
            allowed = {own, *IMPORTS[own]}
            assert any(within(module, other) for other in allowed), f"{name} imports {module}"
        for package, places in ONLY_IN.items():
            if within(module, package):
                assert any(within(name, place) for place in places), f"{name} imports {module}"


def test_no_modules_import_each_other():
    graph = {name: set(executed_imports(path)) for name, path in MODULES.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"each of these modules is imported by the next one: {error.args[1]}")


def test_every_source_file_has_a_rule():
    for path in SOURCES:
        name = module_name(path)
        assert name == "aff_jax" or any(within(name, own) for own in IMPORTS), name


def test_every_module_has_a_test_file_of_its_name():
    for path in SOURCES:
        name = module_name(path)
        if path.name != "__init__.py" and not within(name, "configs") and name not in UNTESTED:
            folder = ROOT / "tests" / path.parent.relative_to(ROOT)
            assert (folder / f"test_{path.stem.strip('_')}.py").exists(), name


def test_files_have_at_most_300_lines():
    tops = ("aff_jax", "train", "tests", "benchmarks")
    for path in itertools.chain.from_iterable((ROOT / top).rglob("*.py") for top in tops):
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{path}: {lines}"


def public_names(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def assigned_names(path):
    """Yield the constants and type aliases of a module, without its type variables."""
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or " = TypeVar(" in ast.unparse(node):
            continue
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            for item in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(item, ast.Name):
                    yield item.id


def test_constants_and_type_aliases_are_public_or_marked_as_private():
    for path in SOURCES:
        for name in assigned_names(path):
            is_public = not name.startswith("_")
            assert not is_public or name in public_names(path), f"{path}: {name}"


def test_imported_names_are_public():
    public = {name: public_names(path) for name, path in MODULES.items()}
    for path in [*SOURCES, *sorted((ROOT / "benchmarks").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in MODULES:
                names = {alias.name for alias in node.names}
                modules = {x for x in names if f"{node.module}.{x}" in MODULES}
                private = names - modules - public[node.module]
                assert not private, f"{path}: {node.module} has no {private} in __all__"


def names_imported_by(path):
    """Return the names that a module has from other modules."""
    nodes = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def used_names(path):
    """Yield the modules of this project that a file reads names from, with these names.

    A name is imported, as in `from aff_jax.serialization import load`, or an attribute, as in
    `aff_jax.load`.
    """
    tree = ast.parse(path.read_text())
    modules = {}  # by the name that they have in the file
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.split(".")[0]
                modules |= {alias.asname or name: name} if name in MODULES else {}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                if member == "aff_jax.fast":  # the seam of the shortcuts
                    continue
                if member in MODULES:
                    modules[alias.asname or alias.name] = member
                elif node.module in MODULES:
                    yield node.module, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, *others = ast.unparse(node).split(".")
            module = modules.get(first)
            while module and others and f"{module}.{others[0]}" in MODULES:
                module = f"{module}.{others.pop(0)}"
            if module and others:
                yield module, others[0]


def test_names_are_imported_from_the_module_that_defines_them():
    """The shorter paths are for users, and for the commands, which are written as by users."""
    imported = {name: names_imported_by(path) for name, path in MODULES.items()}
    for path in SOURCES:
        if not within(module_name(path), "aff_jax.cli"):
            for module, name in used_names(path):
                is_module = f"{module}.{name}" in MODULES
                assert is_module or name not in imported[module], f"{path}: {name} of {module}"


def test_pmap_and_shard_map_are_used_in_one_file_of_each_package():
    allowed = {
        "pmap": {"train.steps.parallel"},
        "shard_map": {"train.steps.parallel", "aff_jax.inference.frozen"},
    }
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        names = {getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(tree)}
        for name, places in allowed.items():
            assert name not in names or module_name(path) in places, path


def test_the_library_imports_only_what_it_declares():
    """Its dependencies, and the packages of the extras, which are imported lazily."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    optional = ("torch", "parity", "images", "export", "hub")
    wanted = project["dependencies"] + [line for extra in optional for line in extras[extra]]
    declared = {re.split(r"[<>=\[]", line)[0] for line in wanted}
    declared |= {"jax", "aff_jax", "mxnet", "PIL"}  # PIL is imported from pillow
    for path in SOURCES:
        if module_name(path).split(".")[0] == "aff_jax":
            names = {module.split(".")[0] for module in imported_modules(path)}
            assert names <= declared | set(sys.stdlib_module_names), path


def test_the_pinned_oldest_versions_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "tests" / "minimum.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for requirement in project["dependencies"]:
        name, lowest = requirement.split(">=")
        assert (pinned[name] + ".").startswith(lowest + "."), requirement


def test_import_loads_no_heavy_package():
    heavy = "'tensorflow', 'tensorflow_datasets', 'torch', 'mxnet', 'optax', 'orbax', 'grain'"
    heavy += ", 'huggingface_hub', 'matplotlib'"
    code = f"import sys, aff_jax; print([m for m in ({heavy}) if m in sys.modules])"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert process.stdout.strip() == "[]"
