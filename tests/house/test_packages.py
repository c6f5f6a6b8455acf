"""What is public, one version, and a wheel that works without the checkout."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import dicom2cache
import trainer_adapter
from dicom2cache import errors
from tests.support.dicom_files import CT_IMAGE, pattern, write_dicom

HERE = Path(__file__).parents[2]


def test_public_names() -> None:
    exceptions = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.Dicom2cacheError)
    }
    commands = {
        "build", "plan", "convert", "commit", "verify", "repair", "info", "compare", "merge",
        "update", "remove", "purge",
    }  # fmt: skip
    assert set(dicom2cache.__all__) == {"Recipe", "__version__"} | commands | exceptions
    for package in (dicom2cache, trainer_adapter):
        assert package.__all__ == sorted(package.__all__)
        for name in package.__all__:
            assert getattr(package, name) is not None
        # Names that are imported when they are asked for have no type but by an import.
        nodes = ast.walk(ast.parse(Path(package.__file__).read_text()))
        seen = {a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}
        assert set(package.__all__) - {"__version__"} <= seen


def test_a_command_is_no_module() -> None:
    """Importing all of the package leaves `dicom2cache.verify` the function."""
    code = (
        "import dicom2cache, pkgutil, importlib\n"
        "for m in pkgutil.walk_packages(dicom2cache.__path__, 'dicom2cache.'):\n"
        "    m.name.endswith('__main__') or importlib.import_module(m.name)\n"
        "assert all(callable(getattr(dicom2cache, n)) for n in "
        "('build', 'plan', 'convert', 'commit', 'verify', 'repair', 'info', 'compare'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_reader_is_told_all_that_it_imports() -> None:
    """What it imports is asked for by the distribution of `make dist`, or by an extra of it."""
    source = tomllib.loads((HERE / "pyproject.toml").read_text())
    reader = source["tool"]["distributions"]["trainer-adapter"]
    modules = {"google-crc32c": "google_crc32c"}
    asked = {modules.get(name, name) for name in reader["dependencies"]}
    always, late = set(), set()
    for path in (HERE / "trainer_adapter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for inner in ast.iter_child_nodes(node):
                names = (
                    [a.name for a in inner.names] if isinstance(inner, ast.Import)
                    else [str(inner.module)] if isinstance(inner, ast.ImportFrom)
                    else []
                )  # fmt: skip
                at_import = isinstance(node, ast.Module | ast.With)
                (always if at_import else late).update(name.split(".")[0] for name in names)
    own = {*sys.stdlib_module_names, "trainer_adapter", "__future__"}
    assert always - own == {"numpy", "pyarrow", "google_crc32c", "torch"}
    assert always - own - {"torch"} <= asked  # `train`; by name in trainer_adapter.__getattr__
    extras = {"torch", "scipy", "lightly_train", "nibabel", "highdicom"}
    brought = {"cv2"}  # by lightly-train
    assert late - own <= asked | extras | brought
    assert {"train", "volumes", "export", "seg", "lightly"} == set(reader["extras"])
    extra = source["project"]["optional-dependencies"]
    assert extra["export"] == extra["volumes"]


def test_the_conda_recipe_asks_for_the_same() -> None:
    recipe = (HERE / "packaging/conda/recipe.yaml").read_text()
    source = tomllib.loads((HERE / "pyproject.toml").read_text())
    wanted = source["project"]["dependencies"]
    listed = re.findall(r"- ([\w.-]+) ([<>=][^\n]*)", recipe.rpartition("\n      run:\n")[2])
    bounds = {name: spec for name, spec in listed if name not in ("setuptools", "trainer-adapter")}
    assert bounds == {name: spec for name, spec in (_apart(each) for each in wanted)}
    reader = recipe.partition("name: trainer-adapter")[2].partition("run_constraints")[0]
    for name in source["tool"]["distributions"]["trainer-adapter"]["dependencies"]:
        assert f"- {name} {bounds[name]}\n" in reader
    assert f'version: "{dicom2cache.__version__}"' in recipe


def _apart(requirement: str) -> tuple[str, str]:
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return name[0], requirement.removeprefix(name[0])


_USE = """
import sys
from pathlib import Path
import dicom2cache, trainer_adapter
from dicom2cache import Recipe, build
from trainer_adapter import open_cache
site = Path(sys.prefix)
for package in (dicom2cache, trainer_adapter):
    assert site in Path(package.__file__).parents, package.__file__
counts = build("scans", "cache", Recipe.from_toml("mixed"), jobs=2)
assert counts["frames_stored"] == 2, counts
print(open_cache("cache")[0].shape)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made of the sdist, as an index would have it."""
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "checkout"  # a build leaves folders beside the sources
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    named = subprocess.run(listing, cwd=HERE, capture_output=True, text=True, check=True).stdout
    for name in filter(lambda name: (HERE / name).is_file(), named.splitlines()):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(HERE / name, copy / name)
    code = "from setuptools import build_meta as b; print(b.build_sdist(%r))"
    backend = [sys.executable, "-c"]
    subprocess.run([*backend, code % str(folder)], cwd=copy, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    subprocess.run(["tar", "-xf", str(sdist)], cwd=folder, check=True)
    code = "from setuptools import build_meta as b; print(b.build_wheel(%r))"
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*backend, code % str(folder)], cwd=unpacked, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_one_version(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == dicom2cache.__version__
    citation = (HERE / "CITATION.cff").read_text()
    assert f"\nversion: {dicom2cache.__version__}\n" in citation
    released, dev, _ = dicom2cache.__version__.partition(".dev")
    assert f"\n## {'Unreleased' if dev else released}\n" in (HERE / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has the wheel and the libraries of this one, no checkout.

    Libraries are not installed anew: it is our own files that a wheel may lack, and a registry is
    no part of a test.
    """
    home = tmp_path_factory.mktemp("environment") / "env"
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = (home / "lib").glob("python*/site-packages")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    libraries = [p for p in sys.path if p.endswith("site-packages")]
    assert libraries
    # Plain folders on the path: .pth files in them, such as that of an editable install, are not
    # looked at.
    (site / "libraries.pth").write_text("\n".join(libraries))
    return home / "bin" / "python"


def test_the_wheel_works_without_the_checkout(wheel: Path, python: Path, tmp_path: Path) -> None:
    for k in range(2):
        write_dicom(
            tmp_path / "scans" / f"{k}.dcm", pattern(str(k), (16, 16)),
            SOPClassUID=CT_IMAGE, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024,
        )  # fmt: skip
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ran = subprocess.run(
        [python, "-c", _USE],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "(512, 512)\n"
    packed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", str(wheel)], check=True, capture_output=True,
        text=True,
    ).stdout  # fmt: skip
    for package in ("dicom2cache", "trainer_adapter"):
        for path in (HERE / package).rglob("*"):
            name = path.relative_to(HERE).as_posix()
            if path.is_file() and "__pycache__" not in name:
                assert re.search(rf"^{re.escape(name)}\s", packed, re.MULTILINE), name


def test_types_are_seen_by_a_client(python: Path, tmp_path: Path) -> None:
    """py.typed: mypy in a folder of its own knows the packages, and what they return."""
    (tmp_path / "client.py").write_text(
        "import dicom2cache\nimport trainer_adapter\n"
        "reveal_type(dicom2cache.build('a', 'b'))\n"
        "reveal_type(trainer_adapter.open_cache('b'))\n"
        "dicom2cache.build(1, 'b')\n"
    )
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\n[mypy-torch.*,numpy.*,pyarrow.*,zarr.*]\nfollow_imports = skip\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "mypy", "client.py"]
    command += ["--python-executable", str(python)]
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MYPYPATH")}
    ran = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert 'Revealed type is "dict[str, int]"' in ran.stdout.replace("builtins.", ""), ran.stdout
    assert 'Revealed type is "trainer_adapter.cache.Cache"' in ran.stdout
    assert "import-untyped" not in ran.stdout
    assert ran.stdout.count("error:") == 1
    assert "client.py:5" in ran.stdout
