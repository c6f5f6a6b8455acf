"""Orders by counter: permutations, windows, weights; batches of ranks. Pure, without files."""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trainer_adapter
from trainer_adapter.order.batches import Batches
from trainer_adapter.order.permutations import (
    Sequential,
    Shuffle,
    Stream,
    Weighted,
    WindowedShuffle,
    key_of,
    mix,
    permuted,
    uniform,
)


def test_the_hash_is_splitmix64() -> None:
    # The first outputs of Vigna's reference splitmix64.c for the seed 0.
    states = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert mix(states).tolist() == expected


@given(n=st.integers(1, 5000), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_a_permutation_sends_all_to_all(n: int, seed: int, epoch: int) -> None:
    found = permuted(np.arange(n), n, key_of(seed, epoch))
    assert sorted(found.tolist()) == list(range(n))


@pytest.mark.parametrize("n", [1024, 1025, 4096, 4097, 65_537, 1_000_003])  # the ends of the cycle
def test_a_position_alone_is_the_same_as_in_the_whole(n: int) -> None:
    key = key_of(7, 3)
    whole = permuted(np.arange(n), n, key)
    assert len(np.unique(whole)) == n
    for k in (0, 1, n // 2, n - 1):
        assert permuted(np.array([k]), n, key)[0] == whole[k]


@pytest.mark.parametrize(
    ("n", "first", "all_of_it"),
    [
        (1500, [833, 956, 700, 970, 154, 368], 537390332),
        (100_000, [11545, 54311, 86672, 96558, 52322, 36355], 50033188168),
    ],
)
def test_a_permutation_stays_what_states_of_before_went_through(
    n: int, first: list[int], all_of_it: int
) -> None:
    found = permuted(np.arange(n), n, key_of(7, 3))
    assert found[:6].tolist() == first
    assert int((found * np.arange(n) % 1000003).sum()) == all_of_it
    np.testing.assert_array_equal(permuted(np.arange(6), n, key_of(7, 3)), first)


def test_the_order_is_part_of_the_contract() -> None:
    # A run that is resumed by a later version must go on in the order in which it began.
    assert Shuffle(10, seed=0).at(0, np.arange(10)).tolist() == SMALL
    assert Shuffle(1_000_000, seed=5).at(2, np.arange(5)).tolist() == LARGE
    assert WindowedShuffle(np.arange(12) // 3, 2, seed=1).at(0, np.arange(12)).tolist() == WINDOWED
    assert Weighted([1, 2, 3, 4], seed=2).at(1, np.arange(4)).tolist() == WEIGHTED


SMALL = [2, 6, 5, 3, 0, 4, 7, 1, 8, 9]
LARGE = [345551, 192075, 485938, 685947, 26150]
WINDOWED = [10, 7, 9, 11, 6, 8, 1, 0, 3, 4, 5, 2]
WEIGHTED = [0, 1, 2, 0]


@pytest.mark.parametrize("n", [1000, 50_000])  # sorted hashes, and the network
def test_a_shuffle_has_no_memory(n: int) -> None:
    orders = np.stack([Shuffle(n, seed=1).at(e, np.arange(n)) for e in range(40)])
    place = np.arange(n)
    correlations = [abs(np.corrcoef(place, order)[0, 1]) for order in orders]
    between = [abs(np.corrcoef(a, b)[0, 1]) for a, b in itertools.pairwise(orders)]
    # Of 79 independent ones about N(0, 1/n), none is beyond 4.5 deviations (p = 5e-4).
    assert max(correlations + between) < 4.5 / n**0.5
    # A fixed point, and a pair of neighbours that stays one, come about once in an epoch each.
    assert 20 <= sum((order == place).sum() for order in orders) <= 64
    assert 20 <= sum((np.diff(order) == 1).sum() for order in orders) <= 64


def test_each_sample_comes_to_each_place() -> None:
    orders = np.stack([Shuffle(16, seed=9).at(e, np.arange(16)) for e in range(4000)])
    counts = np.stack([np.bincount(orders[:, k], minlength=16) for k in range(16)])
    chi_square = ((counts - 250) ** 2 / 250).sum()
    assert 140 < chi_square < 330  # 225 degrees of freedom: 225 +- 21


def test_windows_hold_shards_in_random_order() -> None:
    shard = np.repeat(np.arange(40), np.r_[np.full(39, 25), 3])  # the last is short
    order = WindowedShuffle(shard, window=10, seed=3)
    whole = order.at(0, np.arange(len(shard)))
    assert sorted(whole.tolist()) == list(range(len(shard)))
    edges = np.cumsum([0, *(len(w) for w in _windows(shard, whole, 4))])
    seen = []
    for first, last in itertools.pairwise(edges):
        inside = set(shard[whole[first:last]].tolist())
        assert len(inside) == 10
        seen.append(inside)
    assert set().union(*seen) == set(range(40))
    assert all(a.isdisjoint(b) for k, a in enumerate(seen) for b in seen[k + 1 :])
    # shuffled within: the first 25 frames of a window are not those of one shard
    assert len(set(shard[whole[:25]].tolist())) >= 7
    other = order.at(1, np.arange(len(shard)))
    assert set(shard[other[:250]].tolist()) != seen[0]
    middle = np.arange(300, 700)
    assert (order.at(0, middle) == whole[middle]).all()


def _windows(shard: np.ndarray, whole: np.ndarray, count: int) -> list[np.ndarray]:
    """The order cut where a shard comes that was not in the window of the first 10 new ones."""
    cuts, inside, start = [], set(), 0
    for k, s in enumerate(shard[whole].tolist()):
        if s not in inside and len(inside) == 10:
            cuts.append(whole[start:k])
            inside, start = set(), k
        inside.add(s)
    cuts.append(whole[start:])
    assert len(cuts) == count
    return cuts


def test_weights_are_the_frequencies() -> None:
    weights = np.array([0, 1, 2, 7])
    drawn = Weighted(weights, n=100_000, seed=4).at(0, np.arange(100_000))
    counts = np.bincount(drawn, minlength=4)
    assert counts[0] == 0
    expected = weights[1:] / 10 * 100_000
    assert (np.abs(counts[1:] - expected) < 4 * np.sqrt(expected)).all()
    again = Weighted(weights, n=100_000, seed=4).at(1, np.arange(100_000))
    assert (again != drawn).mean() > 0.3


@pytest.mark.parametrize("weights", [[], [1, -1], [0, 0], [1, np.nan], [[1, 2]]])
def test_weights_that_are_none(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Weighted(weights)


def test_uniform_numbers_are_uniform() -> None:
    drawn = uniform(key_of(0), np.arange(100_000))
    assert ((drawn >= 0) & (drawn < 1)).all()
    tenths = np.bincount((drawn * 10).astype(int), minlength=10)
    assert np.abs(tenths - 10_000).max() < 4 * 10_000**0.5


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    size=st.integers(1, 9),
    ranks=st.integers(1, 5),
    pad=st.booleans(),
    drop_last=st.booleans(),
    shuffled=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_ranks_share_an_epoch(
    sizes: list[int], size: int, ranks: int, pad: bool, drop_last: bool, shuffled: bool, epoch: int
) -> None:
    """Law: equally many batches; disjoint; complete unless something is dropped; one group each."""
    edges = np.cumsum([0, *sizes])
    members = [np.arange(a, b) for a, b in itertools.pairwise(edges)]
    groups = [(m, Shuffle(len(m), 5) if shuffled else Sequential(len(m))) for m in members]
    seen: Counter[int] = Counter()
    counts = set()
    for rank in range(ranks):
        batches = Batches(
            groups, size, rank=rank, ranks=ranks, pad=pad, drop_last=drop_last, mixed=shuffled
        )
        counts.add(len(batches))
        for k in range(len(batches)):
            batch = batches.batch(epoch, k)
            assert 1 <= len(batch) <= size
            assert not drop_last or len(batch) == size
            assert len(np.unique(np.searchsorted(edges, batch, side="right"))) == 1
            seen.update(batch.tolist())
    assert len(counts) == 1
    if not drop_last:
        repeated = sum(-n % ranks for n in sizes)
        dropped = sum(n % ranks for n in sizes)
        assert sum(seen.values()) == sum(sizes) + (repeated if pad else -dropped)
        assert len(seen) == sum(sizes) - (0 if pad else dropped)
        if not pad:
            assert set(seen.values()) <= {1}
    elif not pad:
        assert set(seen.values()) <= {1}


class Watched(Shuffle):
    """A shuffle that counts the positions that are asked for."""

    asked = 0

    def at(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        self.asked += len(positions)
        return super().at(epoch, positions)


def test_a_late_batch_costs_no_more_than_an_early_one() -> None:
    order = Watched(1_000_000, 0)
    batches = Batches([(np.arange(1_000_000), order)], 64)
    late = batches.batch(3, 15_000)
    assert order.asked <= 64 * 64
    assert late.tolist() == order.at(3, np.arange(15_000 * 64, 15_001 * 64)).tolist()


@pytest.mark.parametrize(("size", "rank", "ranks"), [(0, 0, 1), (4, 2, 2), (4, -1, 2)])
def test_batches_that_are_none(size: int, rank: int, ranks: int) -> None:
    with pytest.raises(ValueError, match="legal"):
        Batches([(np.arange(3), Sequential(3))], size, rank=rank, ranks=ranks)


def test_groups_keep_step_so_that_windows_stay_windows() -> None:
    # Two sizes, each in 200 shards of 100 frames: with room for 32 shards, none is loaded twice.
    groups = []
    for g in range(2):
        shard = np.repeat(np.arange(200), 100) + 200 * g
        groups.append((np.arange(20_000) + 20_000 * g, WindowedShuffle(shard, 8, g)))
    batches = Batches(groups, 64, mixed=True)
    held: dict[int, None] = {}
    loads = 0
    for k in range(len(batches)):
        for s in np.unique(batches.batch(0, k) // 100).tolist():
            loads += s not in held
            held.pop(s, None)
            held[s] = None
            if len(held) > 48:
                held.pop(next(iter(held)))
    assert loads <= 1.3 * 400
    kinds = [int(batches.batch(0, k)[0] >= 20_000) for k in range(len(batches))]
    assert 0.35 < np.mean(kinds[:60]) < 0.65  # and both come all along
    assert kinds != [int(batches.batch(1, k)[0] >= 20_000) for k in range(len(batches))]


def test_no_two_draws_share_their_numbers() -> None:
    """The numbers themselves are part of what a seed means."""
    assert {s.name: int(s) for s in Stream} == {
        "SHARDS": 1, "WINDOW": 2, "JITTER": 3, "GROUP": 4, "GROUPS": 5,
        "CROP": 10, "BOX": 20, "FLIP": 30, "FOREGROUND": 40, "INSTEAD": 42, "KEPT": 43,
        "START": 50,
    }  # fmt: skip
    calls = 0
    for path in Path(trainer_adapter.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("key_of", "uniform"):
                calls += 1
                inside = [n for a in node.args for n in ast.walk(a)]
                numbers = [n for n in inside if isinstance(n, ast.Constant)]
                assert not numbers, f"{path.name}: {ast.unparse(node)}: name its Stream"
    assert calls > 10
