"""Tables of the docs that are written from the code: `python -m tests.house.pages` writes them.

Those of docs/alternatives.md and docs/figures.md come from what benchmarks have left in
benchmarks/results.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from benchmarks import figures
from dicom2cache.recipes.limits import Limits
from dicom2cache.recipes.recipe import Recipe

HERE = Path(__file__).parents[2]
RECIPE = HERE / "docs" / "recipe.md"
ALTERNATIVES = HERE / "docs" / "alternatives.md"
FIGURES = HERE / "docs" / "figures.md"
RESULTS = HERE / "benchmarks" / "results"
_READERS = (
    "CacheLoader", "FrameDataset, DataLoader", "one .npy map, DataLoader", "LitData",
    "tensorstore, batched", "MONAI PersistentDataset", "WebDataset", "MosaicML streaming",
    "pydicom, uncompressed", "zarr-python", "pydicom, JPEG 2000",
)  # fmt: skip
_CONVERTERS = (
    "dicom2cache, 1 job", "dcm2niix", "dicomsdl to .npy", "pydicom to .npy", "SimpleITK to .npy",
    "MONAI PersistentDataset",
)  # fmt: skip


def recipe_table() -> str:
    """docs/recipe.md's table: key, values, default."""
    rows = ["| key | values | default |", "| --- | --- | --- |"]
    for key in dataclasses.fields(Recipe):
        none = key.default in (None, (), Limits())
        default = "none" if none else key.default
        shown = default if default == "none" and key.default != "none" else f"`{default}`"
        rows.append(f"| `{key.name}` | {key.metadata['values']} | {shown} |")
    return "\n".join(rows).replace("`(0.5, 99.5)`", "`[0.5, 99.5]`") + "\n"


def with_table(page: str, table: str) -> str:
    """The page with its last table replaced."""
    head = page.split("| key |")[0]
    return head + table


def _column(page: Path, section: str, column: str) -> dict[str, str]:
    """Of the section's table, what stands in a column, by what stands in the first."""
    (found,) = [s for s in page.read_text().split("\n## ") if s.startswith(section)]
    rows = [line.strip("| ").split(" | ") for line in found.splitlines() if line.startswith("|")]
    place = rows[0].index(column)
    return {row[0]: row[place] for row in rows[2:] if len(row) > place}


def _best(rates: dict[str, str], reader: str) -> str:
    """The highest rate of a reader's rows: alone, with workers, with threads."""
    own = [rate for name, rate in rates.items() if name.startswith(reader)]
    return max(own, key=lambda rate: float(rate.replace(",", "")))


def with_results(page: str) -> str:
    """docs/alternatives.md with its figures as the benchmarks' results have them."""
    sizes = ("512x512 int16, batch 64,", "224x224x3 uint8,")
    grey, colour = (_column(RESULTS / "read.md", size, "frames/s") for size in sizes)
    reading = ["| | 512x512 int16 | 224x224x3 uint8 |", "| --- | ---: | ---: |"]
    reading += [f"| {name} | {_best(grey, name)} | {_best(colour, name)} |" for name in _READERS]
    spent = _column(RESULTS / "convert.md", "CT 512x512, 12 bits, uncompressed", "CPU, ms/file")
    converting = ["| | ms |", "| --- | ---: |"]
    converting += [f"| {name} | {spent[name]} |" for name in _CONVERTERS]
    for mark, table in (("reading", reading), ("converting", converting)):
        head, _, rest = page.partition(f"<!-- {mark} -->\n\n")
        _, _, rest = rest.partition("\n\n") if rest.startswith("|") else ("", "", rest)
        page = f"{head}<!-- {mark} -->\n\n" + "\n".join(table) + f"\n\n{rest}"
    return page


def with_figures(page: str) -> str:
    """docs/figures.md with its tables as the results have them, each with its command."""

    def kept(found: re.Match[str]) -> str:
        result = json.loads((RESULTS / f"{found[1]}.json").read_text())
        when = f", {result['month']}" if "month" in result else ""
        lines = [f"`{result['command']}`{when}:", "", *figures.table(result["bars"])]
        return f"<!-- results: {found[1]} -->\n" + "\n".join(lines) + "\n<!-- end -->"

    return re.sub(r"<!-- results: (\w+) -->\n.*?<!-- end -->", kept, page, flags=re.DOTALL)


if __name__ == "__main__":
    FIGURES.write_text(with_figures(FIGURES.read_text()))
    RECIPE.write_text(with_table(RECIPE.read_text(), recipe_table()))
    ALTERNATIVES.write_text(with_results(ALTERNATIVES.read_text()))
