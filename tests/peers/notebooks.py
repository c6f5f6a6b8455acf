"""The first three recipes of docs/train.md as notebooks: `python -m tests.peers.notebooks`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parents[2]
FOLDER = HERE / "examples" / "notebooks"
NAMES = ("classification", "segmentation", "patches")


def recipes() -> list[tuple[str, str, str]]:
    """(heading, what is said of it, code) of the page."""
    page = (HERE / "docs" / "train.md").read_text()
    return re.findall(r"^## (.*?)\n(.*?)\n```python\n(.*?)```", page, re.DOTALL | re.MULTILINE)


def notebook(name: str) -> Any:
    """A recipe as a notebook: a cell for each paragraph of it."""
    heading, said, code = recipes()[NAMES.index(name)]
    cells = [new_markdown_cell(f"# {heading}\n{said.strip()}")]
    cells += [new_code_cell(part.strip("\n")) for part in re.split(r"\n\n+(?=\S)", code)]
    for k, cell in enumerate(cells):
        cell["id"] = f"{name}-{k}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def text(name: str) -> str:
    """A notebook as it is stored."""
    return str(nbformat.writes(notebook(name))) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        (FOLDER / f"{name}.ipynb").write_text(text(name))
