"""Private names of other packages that we use: these, of versions looked at, and no others."""

from __future__ import annotations

import ast
import tomllib
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path

import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from pydicom.dataset import Dataset

HERE = Path(__file__).parents[2]
PYDICOM = {
    ("pydicom.filereader", "_read_file_meta_info"),  # the public one takes a path only
    ("", "_character_set"),  # of a Dataset: what its reader has made of Specific Character Set
}
OTHERS = {
    ("", "_new_shared"),  # torch.UntypedStorage: how torch's own collate makes shared batches
    ("", "_open_image_numpy__with_pydicom"),  # LightlyTrain: looked at when a context begins
    ("", "_supported_image_extensions"),  # LightlyTrain: which files of a folder it lists
}
DOCUMENTED = {"_asdict", "_exit", "_fields", "_getframe", "_replace"}
"""of os, sys and NamedTuple: public but for their looks"""


def private_names(code: str) -> set[tuple[str, str]]:
    """(module, name) that a module imports, ("", name) that it takes of an object not its own."""
    found, tree = set(), ast.parse(code)
    own = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and _is_self(n.value)}
    own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not _ours(node.module or ""):
            found |= {(node.module or "", a.name) for a in node.names if _private(a.name)}
        if isinstance(node, ast.Attribute) and _private(node.attr) and node.attr not in own:
            found.add(("", node.attr))
    return found


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def _ours(module: str) -> bool:
    return module.split(".")[0] in ("dicom2cache", "trainer_adapter")


def test_private_names_are_known() -> None:
    paths = [*HERE.glob("dicom2cache/**/*.py"), *HERE.glob("trainer_adapter/**/*.py")]
    assert len(paths) > 90
    found = set[tuple[str, str]]().union(*(private_names(p.read_text()) for p in paths))
    assert found == PYDICOM | OTHERS


def test_private_names_are_found() -> None:
    code = "from pydicom.a import _b\nfrom dicom2cache.c import _d\nds._e\nos._exit(1)\nself._f.g()"
    assert private_names(code) == {("pydicom.a", "_b"), ("", "_e")}


@pytest.mark.parametrize(("module", "name"), sorted(PYDICOM))
def test_they_are_there(module: str, name: str) -> None:
    assert hasattr(import_module(module) if module else Dataset(), name)


def test_torch_has_its_own() -> None:
    torch = pytest.importorskip("torch")
    assert torch.UntypedStorage._new_shared(8).is_shared()


def test_there_are_upper_bounds() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    (pydicom,) = (line for line in project["dependencies"] if line.startswith("pydicom"))
    assert pydicom == "pydicom>=3.0.2,<3.1"
    assert project["optional-dependencies"]["lightly"] == ["lightly-train[dicom]>=0.18,<0.19"]


def test_a_worker_that_died_is_told_by_the_standard_library() -> None:
    """So that joblib's own copy of loky need not be named."""
    assert issubclass(TerminatedWorkerError, BrokenProcessPool)
