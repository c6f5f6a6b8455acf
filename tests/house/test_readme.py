"""The README is run: its commands, its Python, its recipe; and its facts are held to the code."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from dicom2cache import Recipe
from tests.house.pages import (
    ALTERNATIVES,
    FIGURES,
    RESULTS,
    recipe_table,
    with_figures,
    with_results,
    with_table,
)
from tests.support.caches import run_cli, run_here
from tests.support.dicom_files import CT_IMAGE, pattern, real, uid, write_dicom
from tests.support.drawn import write_seg

HERE = Path(__file__).parents[2]
README = (HERE / "README.md").read_text()
COMMANDS = re.findall(r"\| `dicom2cache ([^`]+)` \|", README)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RECIPE = (HERE / "docs" / "recipe.md").read_text()
(RULES,) = re.findall(r"```toml\n(.*?)```", RECIPE, re.DOTALL)


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with what the README's commands name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    key = (
        tmp_path / "config" / "dicom2cache" / "patient.key"
    )  # one key, so that splits are the same
    key.parent.mkdir(parents=True)
    key.touch(0o600)
    key.write_bytes(bytes(32))
    for name in ("scans", "ct", "mr"):
        for k in range(24 if name == "scans" else 3):
            write_dicom(
                tmp_path / name / f"IM{k}",  # no suffix: files are known by their content
                pattern(f"{name}{k}", (64, 64)),
                SOPClassUID=CT_IMAGE,
                Modality="CT",
                BitsStored=12,
                HighBit=11,
                RescaleSlope=1,
                RescaleIntercept=-1024,
                SOPInstanceUID=uid(f"{name}{k}"),
                PatientID=f"MRN-{814 + k // 2:04}",  # two slices each: a volume
                BodyPartExamined="CHEST" if k else "",  # as often, not all of them say it
                ImageType=["ORIGINAL", "PRIMARY"],
                SliceThickness=5,
                ImagePositionPatient=[0, 0, 5 * k],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[0.8, 0.8],
                FrameOfReferenceUID=uid("space"),
            )
    (tmp_path / "my.toml").write_text(RULES)
    return tmp_path


def test_the_readme_has_commands() -> None:
    assert {c.split()[0] for c in COMMANDS} == {
        "build", "plan", "info", "report", "failures", "doctor", "verify", "update",
    }  # fmt: skip
    assert len(README.splitlines()) <= 114  # half of what it was: ten minutes


def _run(*words: str) -> None:
    ran = run_here(*words)
    assert ran.returncode == 0, ran.stderr


def _prepare(verb: str) -> None:
    """What a command needs to be there."""
    if verb in ("convert", "commit"):
        _run("plan", "scans", "cache")
    if verb == "commit":
        _run("convert", "cache", "--jobs", "1")
    if verb in (
        "update",
        "verify",
        "repair",
        "info",
        "report",
        "show",
        "failures",
        "compare",
        "split",
        "export",
        "labels",
        "remove",
        "purge",
        "key",
    ):
        _run("build", "scans", "cache", "--jobs", "1")
    if verb == "labels":
        Path("predicted").mkdir()
        np.save("predicted/stack0.npy", np.ones((2, 64, 64), np.uint8))
    if verb == "compare":
        _run("build", "scans", "new", "--jobs", "1")
    if verb == "merge":
        _run("build", "ct", "site-a", "--jobs", "1")
        _run("build", "mr", "site-b", "--jobs", "1")


@pytest.mark.parametrize("command", COMMANDS)
def test_command(scans: Path, command: str) -> None:
    words = shlex.split(command)
    _prepare(words[0])
    _run(*words)


DOCS = {
    f"{page.name}: {line}": line
    for page in sorted((HERE / "docs").glob("*.md"))
    for line in re.findall(r"(?:^|^\| `)(dicom2cache [^`\n]+)", page.read_text(), re.MULTILINE)
}


def test_the_docs_have_commands() -> None:
    assert {shlex.split(line)[1] for line in DOCS.values()} >= {
        "build", "plan", "convert", "commit", "verify", "repair", "info", "compare", "merge",
        "split",
    }  # fmt: skip


@pytest.mark.parametrize("line", DOCS)
def test_command_of_the_docs(scans: Path, line: str) -> None:
    (scans / "site.key").touch(0o600)
    (scans / "site.key").write_bytes(bytes(32))
    words = shlex.split(DOCS[line])[1:]
    _prepare(words[0])
    _run(*words)


DOCS_PYTHON = {
    f"{page.name}, {k}": code
    for page in sorted((HERE / "docs").glob("*.md"))
    if page.name
    not in ("lightlytrain.md", "tools.md", "train.md")  # run where there are such tools
    for k, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
}


@pytest.mark.parametrize("code", DOCS_PYTHON)
def test_python_of_the_docs(scans: Path, code: str) -> None:
    if "mask" in DOCS_PYTHON[code]:
        square = np.zeros((64, 64), np.uint8)
        square[20:40, 20:40] = 1
        planes = [(1, uid(f"scans{k}"), 5.0 * k, square) for k in range(24)]
        write_seg(scans / "scans" / "SEG", planes, {1: "liver"}, spacing=0.8)
    if code.startswith("waveforms.md"):
        shutil.copy(real("waveform_ecg.dcm"), scans / "scans")
    test_python(scans, DOCS_PYTHON[code])


@pytest.mark.parametrize("code", PYTHON)
def test_python(scans: Path, code: str) -> None:
    if "build(" not in code:
        _prepare("info")
    exec(code, {"__name__": "__main__"})


def test_library_column_is_valid(scans: Path) -> None:
    calls = re.findall(r"\| `(build\([^`]+\))` \|", README)
    assert len(calls) == 2
    for k, call in enumerate(calls):
        exec(f"from dicom2cache import Recipe, build; {call.replace('cache', f'cache{k}')}", {})
        assert Path(f"cache{k}", "zarr.json").exists()


def test_recipe_block_is_legal() -> None:
    assert Recipe.from_dict(tomllib.loads(RULES)).exclude == ("derived", "localizer")


def test_the_recipe_page_is_current() -> None:
    assert with_table(RECIPE, recipe_table()) == RECIPE, "run python -m tests.house.pages"
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", RECIPE, re.MULTILINE)
    assert {"intensity", "window", "size", "exclude", "codec"} <= set(rows)


def test_the_page_of_alternatives_has_the_figures_of_the_benchmarks() -> None:
    page = ALTERNATIVES.read_text()
    assert with_results(page) == page, "run python -m tests.house.pages"
    assert len(re.findall(r"^\| .* \| [\d,.]+ \|$", page, re.MULTILINE)) == 17


def test_the_page_of_figures_has_those_of_the_benchmarks() -> None:
    page = FIGURES.read_text()
    assert with_figures(page) == page, "run python -m tests.house.pages"
    kept = {path.stem for path in RESULTS.glob("*.json") if "bars" in json.loads(path.read_text())}
    assert set(re.findall(r"<!-- results: (\w+) -->", page)) == kept
    assert {"read", "convert"} <= kept


def test_every_key_has_its_flag() -> None:
    said = run_cli("build", "--help", env={"COLUMNS": "200"}).stdout
    flags = set(re.findall(r"--([a-z0-9-]+)", said))
    keys = {f.name.replace("_", "-") for f in dataclasses.fields(Recipe)} - {"rules", "rois"}
    assert keys <= flags, keys - flags
