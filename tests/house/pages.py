"""Tables of the docs that are written from the code: `python -m tests.house.pages` writes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dicom2cache.recipes.limits import Limits
from dicom2cache.recipes.recipe import Recipe

RECIPE = Path(__file__).parents[2] / "docs" / "recipe.md"


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


if __name__ == "__main__":
    RECIPE.write_text(with_table(RECIPE.read_text(), recipe_table()))
