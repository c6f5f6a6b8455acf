"""The house: each module imports only from lower floors, no circle, no room too large.

And its pages lead to each other, and name what is there.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trainer_adapter

HERE = Path(__file__).parents[2]

# From the ground up: folders, and modules that stand beside them. A folder imports from floors
# below its own; within it, modules import each other without a circle.
FLOORS = {
    "dicom2cache": {
        "errors": 0, "records": 0, "schema": 0, "syntaxes": 0,
        "arrow": 1, "pixels": 1, "sources": 1,
        "privacy": 2, "recipes": 2, "store": 2,
        "headers": 3, "planning": 3,
        "frames": 4,
        "running": 5,
        "pipeline": 6,
        "cli": 7,
        "__init__": 8, "__main__": 8,
    },
    "trainer_adapter": {
        "errors": 0, "order": 0, "batch": 0,
        "device": 1, "format": 1,
        "reading": 2,
        "volumes": 3,
        "cache": 4,
        "stage": 5,
        "loading": 6,
        "lightly": 7,
        "__init__": 8,
    },
}  # fmt: skip
APART = [{"headers", "planning"}, {"headers", "store"}, {"planning", "store"}]
"""folders of dicom2cache that know nothing of each other"""
PURE = {
    "arrow", "planning", "pixels", "records", "schema", "syntaxes", "store.layout",
    "store.compression", "frames.codestream", "running.tables",
    *(f"cli.reporting.{name}" for name in (
        "charts", "contents", "datasheet", "facts", "markup", "shapes", "traces",
    )),
}  # fmt: skip
"""folders and modules that touch no file and no process"""
MOST = {"dicom2cache": 20, "trainer_adapter": 14}
"""entries at the top of a package"""


def _modules(package: str) -> list[str]:
    """Dotted names below the package: `errors`, `planning.plan`, `planning.__init__`."""
    below = HERE / package
    return sorted(
        ".".join(path.relative_to(below).with_suffix("").parts) for path in below.rglob("*.py")
    )


MODULES = [(package, module) for package in FLOORS for module in _modules(package)]


def _path(package: str, module: str) -> Path:
    return HERE / package / Path(*module.split(".")).with_suffix(".py")


def imported(package: str, module: str) -> set[str]:
    """Dotted names of all modules that a module imports, late imports too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(_path(package, module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _own(package: str, module: str) -> set[str]:
    """The modules of its own package that a module imports."""
    known, found = set(_modules(package)), set[str]()
    for name in imported(package, module):
        top, _, rest = name.partition(".")
        if top != package or not rest:
            continue
        parts = rest.split(".")
        for n in (len(parts), len(parts) - 1):
            below = ".".join(parts[:n])
            if below in known:
                found.add(below)
                break
            if n and f"{below}.__init__" in known:
                found.add(f"{below}.__init__")
                break
    return found


def test_there_is_a_house() -> None:
    assert len(MODULES) > 90
    assert any(module.count(".") for _, module in MODULES)


def test_every_room_has_a_floor() -> None:
    for package, floors in FLOORS.items():
        assert {module.split(".")[0] for module in _modules(package)} == set(floors)


@pytest.mark.parametrize("package", sorted(MOST))
def test_few_doors(package: str) -> None:
    entries = {p.name for p in (HERE / package).iterdir() if p.name != "__pycache__"}
    assert len(entries) <= MOST[package], sorted(entries)


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_imports_go_down(package: str, module: str) -> None:
    floors, own = FLOORS[package], module.split(".")[0]
    for other in _own(package, module):
        folder = other.split(".")[0]
        assert folder == own or floors[folder] < floors[own], f"{module} imports {other}"
        assert {own, folder} not in APART, f"{module} imports {other}"


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_no_circle(package: str) -> None:
    left = {module: _own(package, module) - {module} for module in _modules(package)}
    while free := {module for module, needs in left.items() if not needs & set(left)}:
        left = {module: needs for module, needs in left.items() if module not in free}
    assert not left, f"a circle among {sorted(left)}"


def test_frames_know_headers_by_one_door() -> None:
    inside = [m for m in _modules("dicom2cache") if m.startswith("frames.")]
    assert len(inside) > 5
    knows = [m for m in inside if any(o.startswith("headers.") for o in _own("dicom2cache", m))]
    assert len(knows) <= 1, knows


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_the_packages_share_no_code(package: str, module: str) -> None:
    tops = {name.split(".")[0] for name in imported(package, module)}
    banned = {
        "dicom2cache": {"trainer_adapter", "torch"},  # a conversion node has no torch
        "trainer_adapter": {"dicom2cache", "zarr", "pydicom"},  # the format is the interface
    }
    if package == "dicom2cache" and module.startswith("cli."):  # commands of who trains
        tops -= {"trainer_adapter"}
        tree = ast.parse(_path(package, module).read_text())
        doors = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        for door in (d for d in doors if str(d.module).startswith("trainer_adapter")):
            public = {alias.name for alias in door.names} <= set(trainer_adapter.__all__)
            assert door.module == "trainer_adapter", "a name that is not public"
            assert public, "a name that is not public"
            assert door not in tree.body, "imported before it is called for"
    assert not tops & banned[package]


@pytest.mark.parametrize("place", sorted(PURE))
def test_pure_modules_touch_no_file_and_no_process(place: str) -> None:
    inside = [m for m in _modules("dicom2cache") if m == place or m.startswith(f"{place}.")]
    assert inside
    for module in inside:
        tops = {name.split(".")[0] for name in imported("dicom2cache", module)}
        unwanted = {"os", "pathlib", "subprocess", "multiprocessing", "joblib", "pydicom"}
        late = {"pydicom"} if module == "syntaxes" else set()  # the name of a UID, for a refusal
        assert not tops & (unwanted - late), module
        text = _path("dicom2cache", module).read_text()
        calls = [n.func for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
        assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "open"]


_LARGE = {"schema": 610, "records": 480}
"""the catalogue is a table, and rows as objects are made from it"""


@pytest.mark.parametrize(("package", "module"), MODULES)
def test_rooms_stay_small(package: str, module: str) -> None:
    lines = _path(package, module).read_text().splitlines()
    assert len(lines) <= _LARGE.get(module, 400)
    assert module.split(".")[-1] not in {"util", "utils", "helpers", "common", "misc"}


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import trainer_adapter; trainer_adapter.open_cache", {"torch", "zarr", "pydicom"}),
        ("import trainer_adapter.loading.dataset", {"zarr", "pydicom", "dicom2cache"}),
        (
            "import trainer_adapter.lightly",
            {"torch", "zarr", "pydicom", "dicom2cache", "lightly_train", "cv2"},
        ),
        ("import dicom2cache", {"pydicom", "pyarrow", "numpy", "joblib"}),  # a fast start
        (
            "import dicom2cache.cli.app",
            {"torch", "zarr", "trainer_adapter", "pydicom", "joblib", "imagecodecs"},
        ),
    ],
)
def test_imports_at_run_time(statement: str, unwanted: set[str]) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(out.stdout.split()) & unwanted


PAGES = [HERE / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += [HERE / "dicom2cache" / "FORMAT.md", *sorted((HERE / "docs").glob("*.md"))]


@pytest.mark.parametrize("package", ["dicom2cache", "trainer_adapter"])
def test_every_module_has_its_place_in_the_house(package: str) -> None:
    page = (HERE / "docs" / "house.md").read_text()
    section = page.split(f"## {package}/\n")[1].split("\n## ")[0]
    said = set()
    for line in re.findall(r"^\| \d \| (.*)$", section, re.MULTILINE):
        place, what = line.split(" | ")
        inside = re.findall(r"`(\w+\.py)`", what)
        said |= (
            {place.strip("`")} if place.endswith(".py`") else {place.strip("`") + f for f in inside}
        )
    there = {str(f.relative_to(HERE / package)) for f in (HERE / package).rglob("*.py")}
    assert said == {f for f in there if not f.endswith("__init__.py")} - {"cli/__main__.py"}


def test_every_make_target_exists() -> None:
    makefile = (HERE / "Makefile").read_text()
    pages = "".join(page.read_text() for page in PAGES)
    for target in set(re.findall(r"`make ([a-z-]+)", pages)) - {"help"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def _anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), link
        assert not anchor or anchor in _anchors(there), link


def test_the_readme_leads_to_every_page() -> None:
    pages = {f"docs/{page.name}" for page in (HERE / "docs").glob("*.md")}
    assert len(pages) > 8
    assert pages <= set(re.findall(r"\]\(([^)#]+)", (HERE / "README.md").read_text()))


def test_the_site_has_every_page() -> None:
    """`make docs` refuses a page that is not in its navigation; here that costs no environment."""
    listed = re.findall(r"^ +- ([-\w./]+\.md)$", (HERE / "mkdocs.yml").read_text(), re.MULTILINE)
    assert {f"docs/{page.name}" for page in (HERE / "docs").glob("*.md")} <= set(listed)
    assert "dicom2cache/FORMAT.md" in listed


def test_files_that_are_named_exist() -> None:
    """What CONTRIBUTING.md sends a newcomer to is there."""
    page = (HERE / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:dicom2cache|trainer_adapter|tests|docs)/[\w/.]+)`", page)
    assert len(named) > 8
    for path in named:
        assert (HERE / path).exists(), path


def test_tests_that_the_page_of_masks_names_exist() -> None:
    """Of each section in the file that it names, unless a name says more."""
    page = (HERE / "docs" / "masks.md").read_text()
    count = 0
    for section in page.split("\n## ")[1:]:
        own = re.search(r"`(tests/[\w/]+\.py)`, unless|Tests are in `(tests/[\w/]+\.py)`", section)
        for path, name in re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", section):
            file = path or (own[1] or own[2] if own else "")
            assert file, name
            assert f"def {name}(" in (HERE / file).read_text(), (file, name)
            count += 1
    assert count > 30
