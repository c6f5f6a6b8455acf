"""No message says `1 frames`: counts are said by one helper of each package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import dicom2cache.errors
import trainer_adapter.errors

HERE = Path(__file__).parents[2]
_THINGS = (
    "arrays batches boxes caches channels chunks classes columns contours copies elements entries "
    "failures files folders fragments frames generations groups images items jobs keys labels "
    "lines masks members modalities names nodes pairs parts patients patches pictures planes "
    "points processes rows samples segments sets shards slices slots stacks studies tasks "
    "tiles times values voxels volumes waveforms windows workers"
)
_BEHIND = re.compile(rf" (?:more |other )?(?:{_THINGS.replace(' ', '|')})\b")


def _by_hand(source: str) -> Iterator[int]:
    """Lines of f-strings that have a value and then things, other than of a constant."""
    tree = ast.parse(source)
    told_apart = {id(node.orelse) for node in ast.walk(tree) if isinstance(node, ast.IfExp)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr) or id(node) in told_apart:
            continue
        for one, then in zip(node.values, node.values[1:], strict=False):
            if (
                isinstance(one, ast.FormattedValue)
                and isinstance(then, ast.Constant)
                and _BEHIND.match(str(then.value))
                and _is_count(one)
            ):
                yield one.lineno


def _is_count(value: ast.FormattedValue) -> bool:
    """Whether it is a number that may be 1, and no constant, share or text."""
    if value.format_spec is not None or value.conversion != -1:
        return False
    called = value.value.func if isinstance(value.value, ast.Call) else value.value
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name == "len" or not (isinstance(value.value, ast.Call) or name.isupper())


def test_counts_are_said_by_the_helper() -> None:
    found = [
        f"{path.relative_to(HERE)}:{line}"
        for package in ("dicom2cache", "trainer_adapter")
        for path in sorted((HERE / package).rglob("*.py"))
        for line in _by_hand(path.read_text())
    ]
    assert found == [], "say counting(n, 'frame')"


def test_the_helpers() -> None:
    for package in (dicom2cache.errors, trainer_adapter.errors):
        said = [package.counting(n, "frame") for n in (0, 1, 2)]
        assert said == ["0 frames", "1 frame", "2 frames"]
        assert package.counting(1, "copy was", "copies were") == "1 copy was"
        assert package.counting(3, "copy was", "copies were") == "3 copies were"


def test_what_is_looked_for_is_found() -> None:
    assert list(_by_hand('f"{len(x)} frames"\nf"{n} more files"\nf"{a.b} rows"')) == [1, 2, 3]
    assert not list(_by_hand('f"{_MOST} frames"\nf"{counting(n, 1)} files"\nf"{x:.0f} rows"'))
