"""A share of `make test-hostile`: few mutants, and each bomb that takes no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile import bombs, runs
from tests.hostile.mutants import made, mutant


def test_a_mutant_is_the_same_each_time(tmp_path: Path) -> None:
    more = tuple(made(tmp_path))
    assert mutant(1, 2, more) == mutant(1, 2, more)
    assert len({mutant(1, number, more)[1] for number in range(50)}) > 40


def test_mutants_cost_themselves_only(tmp_path: Path) -> None:
    more = tuple(made(tmp_path / "made"))
    source = tmp_path / "healthy"
    runs.neighbours(source)
    flags = [*runs.RECIPES["lightlytrain"], "--jobs", "1"]
    assert runs.run([source, tmp_path / "quiet", *flags], 300).status == 0
    alone = runs.healthy(tmp_path / "quiet", 0)
    assert len(alone) > 20
    told = runs.write_mutants(tmp_path / "mutants", 4711, range(60), more)
    came = runs.run([source, tmp_path / "mutants", tmp_path / "cache", *flags], 300)
    runs.check(came, tmp_path / "cache", set(told), alone)
    assert (came.status, came.problems, came.internal) == (1, [], []), came.said


@pytest.mark.parametrize("with_flags", [False, True])
def test_bombs_cost_themselves_only(tmp_path: Path, with_flags: bool) -> None:
    """All quick ones together; each by itself, and the others: `make test-hostile`."""
    some = tuple(bomb for bomb in bombs.BOMBS if bomb.quick and bool(bomb.flags) == with_flags)
    assert len(some) == (2 if with_flags else 6)
    assert bombs.problems(some, tmp_path)[0] == []
