"""Clusters: no grid, no chains, and the same whatever the order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom2cache.planning.clusters import clusters, vector_clusters

NONE = float("nan")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.4, 5.0, 5.9], [0, 0, 1, 1]),
        ([5.9, 0.4, 5.0, 0.0], [1, 0, 1, 0]),  # numbered as the values are
        ([0.0, 1.0], [0, 0]),  # the tolerance itself is within
        ([0.0, 1.1], [0, 1]),
        ([0.3, 0.2 - 1.0 + 0.1], [0, 0]),  # in spite of binary fractions
        ([0.0, 0.9, 1.8, 2.7], [0, 0, 1, 1]),  # no chain: each spreads by 0.9 at most
        ([0.0, 0.9, 1.8, 9.0], [0, 0, 1, 2]),
        ([NONE, 3.0, NONE], [-1, 0, -1]),
        ([-1e300, 1e300], [0, 1]),
        ([], []),
    ],
)
def test_clusters_within_1(values: list[float], expected: list[int]) -> None:
    found = clusters(np.array(values), np.zeros(len(values), np.int64), 1.0)
    assert found.tolist() == expected


def test_groups_are_apart_and_have_their_own_tolerance() -> None:
    values, group = np.array([0.0, 0.5, 0.5, 1.5]), np.array([0, 0, 1, 1])
    assert clusters(values, group, 1.0).tolist() == [0, 0, 1, 1]
    tolerance = np.array([0.1, 0.1, 1.0, 1.0])
    assert clusters(values, group, tolerance).tolist() == [0, 1, 2, 2]


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_spread_order_and_gaps(tenths: list[int]) -> None:
    values = np.array(tenths) / 10
    zeros = np.zeros(len(values), np.int64)
    found = clusters(values, zeros, 1.0)
    turned = np.random.default_rng(len(tenths)).permutation(len(values))
    assert clusters(values[turned], zeros, 1.0).tolist() == found[turned].tolist()
    spans = [(values[found == k].min(), values[found == k].max()) for k in range(found.max() + 1)]
    assert max(high - low for low, high in spans) <= 1 + 1e-6
    for (low, high), (next_low, next_high) in pairwise(spans):
        assert high < next_low
        # What is two would not fit into one, or lies in a run that is cut from its least value.
        assert next_high - low > 1 or next_low - high > 1


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 3), min_size=1, max_size=40))
def test_vectors_spread_by_no_more_than_the_tolerance(tenths: list[tuple[int, int, int]]) -> None:
    vectors = np.array(tenths)[:, None] / 10
    zeros = np.zeros(len(vectors), np.int64)
    found = vector_clusters(vectors, zeros, 1.0)
    for k in range(found.max() + 1):
        mine = vectors[found == k, 0]
        assert np.linalg.norm(mine.max(axis=0) - mine.min(axis=0)) <= 1 + 1e-6
    turned = np.random.default_rng(len(tenths)).permutation(len(vectors))
    assert vector_clusters(vectors[turned], zeros, 1.0).tolist() == found[turned].tolist()


def test_a_spread_of_the_tolerance_by_its_last_bit_is_no_end_of_cutting() -> None:
    """2.9 - 1.9 is above 1 by its last bit: cut by the tolerance it would stay whole, for ever."""
    vectors = np.array([[[1.9, 0.0, 0.0]], [[2.9, 0.5, 0.0]]])
    assert vector_clusters(vectors, np.zeros(2, np.int64), 1.0).tolist() == [0, 1]
