"""Keys that somebody said, and that change nothing beside the others: refused, by name.

Only of what a user says now: a recipe that is recorded in a cache stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from dicom2cache.errors import RecipeError

_SIZED = "without size"
_IDLE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "percentiles": ("without intensity percentiles", lambda t: t.intensity != "percentiles"),
    "fit": (_SIZED, lambda t: t.size is None),
    "pad": (_SIZED, lambda t: t.size is None),
}
"""of a key of a treatment, when it does nothing"""


def check_said(said: Mapping[str, Any], recipe: Any, origin: str) -> None:
    """Raises RecipeError for a key of `said`, or of one of its rules, that does nothing in the
    recipe that it says."""
    usual = {field.name: field.default for field in dataclasses.fields(recipe)}
    rules = [rule for rule in said.get("rules", ()) if isinstance(rule, Mapping)]
    own = [rule.treatment for rule in recipe.rules]
    parts = [("", said, recipe.treatments)]
    parts += [
        (f" (in the rule for {rule['where']!r})", rule, (treatment,))
        for rule, treatment in zip(rules, own, strict=False)
    ]
    for where, table, treatments in parts:
        for key, (beside, idle) in _IDLE.items():
            own_way = key in table and getattr(treatments[0], key) != usual[key]
            if own_way and all(map(idle, treatments)):
                raise _refused(origin, key, table[key], beside, where)
    if said.get("mask_grid", usual["mask_grid"]) != usual["mask_grid"] and recipe.masks == "none":
        raise _refused(origin, "mask_grid", said["mask_grid"], "with masks none", "")


def _refused(origin: str, key: str, value: Any, beside: str, where: str) -> RecipeError:
    return RecipeError(
        f"{origin}: {key} = {value!r} {beside} changes nothing; leave it out, or change the other"
        f"{where}"
    )
