"""Folders import only from those before them in the data flow; no circles; former import paths."""

import ast
import graphlib
import importlib
import pickle
import re
from pathlib import Path

import pytest

import pgjax
from pgjax.core import moved

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pgjax"
# In the order of the lecture and of the data.
FOLDERS = (
    *("core", "environments", "policies", "sampling", "estimators", "critics", "objectives"),
    *("ascents", "training", "study", "pictures", "runs", "cli"),
)
MODULES = {
    ".".join(["pgjax", *file.relative_to(PACKAGE).with_suffix("").parts]): file
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.name != "__init__.py"
}


def imports(module):
    """The modules of pgjax that a module imports anywhere, inside of functions too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("pgjax."))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pgjax":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def test_the_first_level_is_the_folders():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert entries == {*FOLDERS, "__init__.py", "__init__.pyi", "py.typed"}
    assert len(entries) <= 16


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_no_later_folder(module):
    folder = module.split(".")[1]
    allowed = FOLDERS[: FOLDERS.index(folder) + 1]
    for imported in imports(module):
        # The package itself: what it exports is looked up when it is used.
        assert imported == "pgjax" or imported.split(".")[1] in allowed, f"{module}: {imported}"


def test_no_circle():
    graph = {m: {i for i in imports(m) if i in MODULES} for m in MODULES}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


def test_gymnax_is_behind_one_interface():
    for module, file in MODULES.items():
        if module not in ("pgjax.environments.spaces", "pgjax.environments.gymnax_objects"):
            assert not re.search(r"^\s*(import|from) gymnax", file.read_text(), re.MULTILINE), (
                module
            )


def test_the_readmes_map_has_the_folders_in_their_order():
    readme = (ROOT / "README.md").read_text()
    assert re.findall(r"^pgjax/(\w+)/ ", readme, re.MULTILINE) == list(FOLDERS)


@pytest.mark.parametrize(("former", "place"), moved.MOVED.items())
def test_a_former_import_path_names_the_new_place(former, place):
    sentence = f"^pgjax.{former} is now pgjax.{place}$"
    assert f"pgjax.{place}" in MODULES or (PACKAGE / place.replace(".", "/")).is_dir()
    with pytest.raises(ModuleNotFoundError, match=sentence):
        importlib.import_module(f"pgjax.{former}")
    with pytest.raises(ModuleNotFoundError, match=sentence):
        exec(f"from pgjax.{former} import anything")
    if former not in pgjax.__all__:  # `tabular` is a public name
        folder, _, name = f"pgjax.{former}".rpartition(".")
        with pytest.raises(ModuleNotFoundError, match=sentence):
            exec(f"from {folder} import {name}")


@pytest.mark.parametrize(
    ("former", "place"),
    [
        ("pgjax.environments.make", "pgjax.environments.interface.make"),
        ("pgjax.policies.Policy", "pgjax.policies.policy.Policy"),
        ("pgjax.runs.Run", "pgjax.runs.host_loop.Run"),
        ("pgjax.training._train", "pgjax.training.training._train"),
        ("pgjax.cli.entry", "pgjax.cli.main.entry"),
    ],
)
def test_a_folder_that_was_a_module_names_the_new_place(former, place):
    module, _, name = former.rpartition(".")
    with pytest.raises(ImportError, match=f"^{former} is now {place}$"):
        exec(f"from {module} import {name}")
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = importlib.import_module(module).no_such_name


def test_a_pickle_of_a_former_path_says_where_the_class_is():
    data = pickle.dumps(pgjax.Config, protocol=0).replace(b"pgjax.training.config", b"pgjax.config")
    with pytest.raises(ModuleNotFoundError, match=r"^pgjax.config is now pgjax.training.config$"):
        pickle.loads(data)
