"""The keywords of CacheLoader and the records that they make."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from trainer_adapter import CacheLoader, Labels, Order, Ranks, open_cache
from trainer_adapter.loading.options import Keywords


def test_keywords_are_the_fields_of_the_records() -> None:
    own = {f.name: f.type for kind in (Order, Labels, Ranks) for f in fields(kind)}
    assert set(get_type_hints(Keywords)) == set(own)
    assert len(own) == sum(len(fields(kind)) for kind in (Order, Labels, Ranks))


def test_records_and_keywords_say_the_same(ct_series_cache: Path) -> None:
    cache = open_cache(ct_series_cache)
    one = CacheLoader(
        cache, 2, order=Order(shuffle=True, seed=3), labelling=Labels("modality"),
        ranking=Ranks(1, 2), threads=0,
    )  # fmt: skip
    other = CacheLoader(
        cache, 2, shuffle=True, seed=3, label="modality", rank=1, ranks=2, threads=0
    )
    assert one.state_dict() == other.state_dict()
    indices = [batch.index.tolist() for batch in one]
    assert indices == [batch.index.tolist() for batch in other]
    assert len(indices) == 3
    assert one.classes == ["CT"]


def test_what_is_said_twice_or_unknown_is_an_error(ct_series_cache: Path) -> None:
    cache = open_cache(ct_series_cache)
    with pytest.raises(TypeError, match="seed: said by the Order"):
        CacheLoader(cache, order=Order(), seed=1)
    with pytest.raises(
        TypeError,
        match=r"unknown shufle; legal besides the loader's own: shuffle.*; did you mean shuffle\?",
    ):
        CacheLoader(cache, shufle=True)  # type: ignore[call-arg]
