"""A cache's recipe as TOML, for the converter's command: it is read back as the same recipe."""

from __future__ import annotations

import tomllib

import pytest

from dicom2cache import Recipe
from trainer_adapter.loading.convert import toml


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),  # tables within it too, such as the limits
        Recipe(limits={"frames": 7}, where='modality == "CT"', exclude=("localizer",)),
        Recipe(window=("lung", "40,400"), rules=({"where": 'modality == "MR"', "size": 64},)),
        Recipe(where="body_part == 'a\\x7f\"\u00e9'"),
    ],
    ids=["plain", "limits", "rules", "characters"],
)
def test_a_recipe_comes_back(recipe: Recipe) -> None:
    assert Recipe.from_dict(tomllib.loads(toml(recipe.to_dict()))) == recipe
