"""The house: each module imports only from lower floors; no room is too large."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent

# From the ground up. A module may import from floors below its own, and from nowhere else here.
FLOORS = {
    "dicom2cache": [
        {
            "errors",
            "records",
            "progress",
            "patient",
            "colour",
            "resize",
            "direct",
            "workers",
            "ranges",
            "unraisable",
            "bounded",
            "coded",
        },
        {
            "columns",
            "committed",
            "mounts",
            "tags",
            "where",
            "intensity",
            "compression",
            "window",
            "codestream",
            "deflated",
            "header_values",
        },
        {
            "layout",
            "arrays",
            "stacks",
            "header_stretches",
            "recipe",
            "codecs",
            "encapsulated",
            "lut",
            "meaning",
            "suv",
        },
        {"transform", "placement", "image_pixel", "scan", "shards", "header_scan", "versions"},
        {"selection", "plan", "tables", "describe", "decode"},
        {"header_rows", "ledger", "values", "open_sources"},
        {"headers"},
        {"receipts", "isolate", "survey", "report"},
        {"trial", "commit", "backlog", "target"},
        {"convert"},
        {"execute", "verify"},
        {"pipeline"},
        {"flags"},
        {"cli", "__init__"},
        {"__main__"},
    ],
    "trainer_adapter": [
        {"errors"},
        {
            "format",
            "normalize",
            "sampler",
            "pool",
            "order",
            "transfer",
            "columns",
            "augment",
            "lightly_look",
            "lightly_roots",
        },
        {"unpack", "crop", "batches", "lightly_pixels", "lightly_args", "lightly_counts"},
        {"shards"},
        {"mapped"},
        {"pread"},
        {"reading"},
        {"core"},
        {"cache"},
        {"labels", "stage", "sampling", "lightly_names"},
        {"dataset", "loader", "lightly_convert"},
        {"lightly_images"},
        {"lightly_serve"},
        {"lightly"},
        {"__init__"},
    ],
}
PURE = {
    "arrays",
    "codestream",
    "colour",
    "columns",
    "compression",
    "intensity",
    "layout",
    "placement",
    "plan",
    "resize",
    "selection",
    "stacks",
    "transform",
    "window",
}
"""modules that touch no file and no process"""
MODULES = [(p, f.stem) for p in FLOORS for f in sorted((HERE / p).glob("*.py"))]


def imported(package: str, module: str) -> set[str]:
    """Dotted names of all modules that a module imports, late imports too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((HERE / package / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_a_floor() -> None:
    housed = [(p, m) for p, floors in FLOORS.items() for floor in floors for m in floor]
    assert sorted(housed) == sorted(MODULES)


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_imports_go_down(package: str, module: str) -> None:
    floor = {m: k for k, floor in enumerate(FLOORS[package]) for m in floor}
    for name in imported(package, module):
        top, _, rest = name.partition(".")
        if top != package:
            continue
        other = rest.split(".")[0]
        if other in floor:  # else a name of the package itself, such as __version__
            assert floor[other] < floor[module], f"{module} imports {other}"


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_the_packages_share_no_code(package: str, module: str) -> None:
    tops = {name.split(".")[0] for name in imported(package, module)}
    banned = {
        "dicom2cache": {"trainer_adapter", "torch"},  # a conversion node has no torch
        "trainer_adapter": {"dicom2cache", "zarr", "pydicom"},  # the format is the interface
    }
    assert not tops & banned[package]


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_touch_no_file_and_no_process(module: str) -> None:
    tops = {name.split(".")[0] for name in imported("dicom2cache", module)}
    assert not tops & {"os", "pathlib", "subprocess", "multiprocessing", "joblib", "pydicom"}
    text = (HERE / "dicom2cache" / f"{module}.py").read_text()
    calls = [n.func for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "open"]


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_rooms_stay_small(package: str, module: str) -> None:
    lines = (HERE / package / f"{module}.py").read_text().splitlines()
    assert len(lines) <= 300
    assert module not in {"util", "utils", "helpers", "common", "misc"}


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import trainer_adapter; trainer_adapter.open_cache", {"torch", "zarr", "pydicom"}),
        ("import trainer_adapter.dataset", {"zarr", "pydicom", "dicom2cache"}),
        (
            "import trainer_adapter.lightly",
            {"torch", "zarr", "pydicom", "dicom2cache", "lightly_train", "cv2"},
        ),
        ("import dicom2cache", {"pydicom", "pyarrow", "numpy", "joblib"}),  # a fast start
        ("import dicom2cache.cli", {"torch", "zarr", "trainer_adapter"}),
    ],
)
def test_imports_at_run_time(statement: str, unwanted: set[str]) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(out.stdout.split()) & unwanted
