"""docs/train.md: each recipe is run, on the CPU, and learns what it is to learn."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from tests.peers.hospital import hospital
from tests.peers.notebooks import FOLDER, NAMES, recipes, text
from trainer_adapter import open_cache

RECIPES = {heading: code for heading, _, code in recipes()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """scans/, hospital.csv, cache/, and sides.csv."""
    folder = tmp_path_factory.mktemp("hospital")
    key = config_home / "dicom2cache" / "patient.key"
    key.parent.mkdir(exist_ok=True)
    key.unlink(missing_ok=True)
    key.touch(0o600)
    key.write_bytes(bytes(32))  # one key: hashes, and so sides, are the same each time
    sides = open_cache(hospital(folder)).split(fractions=(0.6, 0.2, 0.2), stratify="kind")
    sides.write(folder / "sides.csv")
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (what MONAI and torchio may draw from)


def run(recipe: str) -> dict[str, Any]:
    made: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        exec(RECIPES[recipe], made)
    return made


def executed(name: str, folder: Path, shown: str) -> Any:
    """What an expression gives at the end of a notebook."""
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    book.cells.insert(0, new_code_cell("import torch\ntorch.manual_seed(0)"))
    book.cells.append(new_code_cell(f"import json\nprint(json.dumps({shown}))"))
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    said = [o["text"] for o in book.cells[-1].outputs if o.get("name") == "stdout"]
    return json.loads("".join(said))


def test_the_page_is_what_it_says() -> None:
    assert len(RECIPES) == 7
    for name, code in RECIPES.items():
        lines = [line for line in code.splitlines() if line.strip()]
        assert 20 <= len(lines) <= 50, (name, len(lines))


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_the_recipes(name: str) -> None:
    stored = (FOLDER / f"{name}.ipynb").read_text()
    assert stored == text(name), "run python -m tests.peers.notebooks"


def test_classification(folder: Path) -> None:
    shown = '[train.classes, len(known), sides.table["patients"].to_pylist(), accuracy(test)]'
    # Of 20 examinations one was not read.
    expected = [["clear", "nodule"], 19 * 8, [11, 4, 4], 1.0]
    assert executed("classification", folder, shown) == expected


def test_segmentation(folder: Path) -> None:
    drawn, dice = executed("segmentation", folder, "[drawn, dice]")
    assert drawn > 100
    assert dice > 0.8


def test_patches(folder: Path) -> None:
    assert executed("patches", folder, "hit / total") > 0.8


def test_two_views() -> None:
    made = run("Two views of an image")
    assert made["losses"][-1] < made["losses"][0]
    assert made["one"].shape == made["other"].shape == (32, 32)


def test_lightning() -> None:
    made = run("A Lightning DataModule")
    assert made["trainer"].callback_metrics["accuracy"] > 0.6
    assert made["trainer"].global_step == 6 * len(made["trainer"].datamodule.train)


def test_transformers() -> None:
    made = run("Hugging Face's Trainer")
    assert made["trainer"].evaluate()["eval_accuracy"] > 0.6
    assert made["trainer"].state.epoch == 8


def test_bridges() -> None:
    made = run("MONAI's and torchio's transforms")
    assert made["x"].shape[1:] == (1, 32, 32)
    assert made["v"].shape == (8, 1, 16, 16, 4)
    assert 0 <= float(made["v"].min()) <= float(made["v"].max()) <= 1
