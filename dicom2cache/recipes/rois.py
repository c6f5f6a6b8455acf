"""Classes of the recipe: names for the zoo of labels that segments and structures have."""

from __future__ import annotations

import re
from typing import Any

from dicom2cache.errors import RecipeError

Rois = tuple[tuple[str, tuple[str, ...]], ...]
"""(class, regular expressions of labels), in the order of their numbers, from 1"""
_MOST = 65535
_LEGAL = (
    'legal: a table of class names, each with a regular expression of labels, such as "(?i)^liver",'
    " or a list of them"
)


def rois_of(said: Any) -> Rois:
    """The classes that a recipe says. Raises RecipeError for what is none."""
    if isinstance(said, dict):
        pairs = list(said.items())
    elif isinstance(said, list | tuple) and all(_is_pair(pair) for pair in said):
        pairs = [tuple(pair) for pair in said]
    else:
        raise RecipeError(f"recipe: rois = {said!r}; {_LEGAL}")
    found: dict[str, tuple[str, ...]] = {}
    for name, patterns in pairs:
        patterns = [patterns] if isinstance(patterns, str) else patterns
        texts = isinstance(patterns, list | tuple) and all(isinstance(p, str) for p in patterns)
        if not isinstance(name, str) or not name.strip() or name in found or not texts:
            raise RecipeError(f"recipe: rois has {name!r} = {patterns!r}; {_LEGAL}")
        if not patterns:
            raise RecipeError(f"recipe: rois.{name} has no regular expression; {_LEGAL}")
        for pattern in patterns:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as e:
                raise RecipeError(
                    f"recipe: rois.{name} = {pattern!r} is no regular expression: {e}; {_LEGAL}"
                ) from e
        found[name] = tuple(patterns)
    if len(found) > _MOST:
        raise RecipeError(f"recipe: classes in rois: {len(found)}; legal: up to {_MOST}")
    return tuple(found.items())


def _is_pair(said: Any) -> bool:
    return isinstance(said, list | tuple) and len(said) == 2


def class_of(label: str | None, rois: Rois) -> int:
    """Number of the first class that a label is found by; 0: none."""
    if label is None:
        return 0
    for number, (_, patterns) in enumerate(rois, 1):
        if any(re.search(pattern, label) for pattern in patterns):
            return number
    return 0
