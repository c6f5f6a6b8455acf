"""A share of `make fuzz` without atheris: each target on its seeds and on mutations of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.fuzz.targets import TARGETS

_MUTATIONS = {
    "header-bytes": 120, "header-elements": 500, "chunks": 60, "plan-state": 30, "cache-root": 15,
    "cache-tables": 15, "cache-shards": 15,
}  # fmt: skip
"""mutations of targets that are slow; 600 of all others"""


def _mutated(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(made) + 1)
        how: Callable[[], bytes] = rng.choice(
            [lambda: bytes([rng.randrange(256)]), lambda: rng.randbytes(rng.randrange(1, 8)), bytes]
        )
        made[at : at + rng.choice([0, 1, 1, 4])] = how()
    return bytes(made)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_mutations(name: str) -> None:
    target, rng = TARGETS[name], random.Random(9)
    seeds = list(target.seeds())
    assert seeds
    target.run(b"")
    for seed in rng.sample(seeds, min(len(seeds), 20)):
        target.run(seed)
    for _ in range(_MUTATIONS.get(name, 600)):
        target.run(_mutated(rng.choice(seeds), rng))
