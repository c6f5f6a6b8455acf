"""Segmented palettes (PS3.3 C.7.9.2): by hand, and what a hostile one may cost."""

from __future__ import annotations

import pytest

from dicom2cache.headers.segmented import expanded


@pytest.mark.parametrize(
    ("words", "width", "entries"),
    [
        ([0, 2, 10, 20], 2, [10, 20]),
        ([0, 1, 10, 1, 4, 50], 2, [10, 20, 30, 40, 50]),
        ([0, 1, 50, 1, 2, 10], 2, [50, 30, 10]),
        ([0, 1, 7, 1, 3, 7], 2, [7, 7, 7, 7]),
        ([0, 1, 7, 1, 0, 9], 2, [7]),  # a line of no entries
        ([0, 1, 0, 1, 2, 3], 2, [0, 2, 3]),  # 1.5 is rounded to even
        # one segment again, that at byte 6: the line from 5 to 9, now from 9
        ([0, 1, 5, 1, 2, 9, 2, 1, 6, 0], 2, [5, 7, 9, 9, 9]),
        ([0, 1, 5, 1, 2, 9, 2, 2, 0, 0], 2, [5, 7, 9, 5, 7, 9]),  # both again
        ([0, 1, 5, 1, 2, 9, 2, 1, 3, 0, 0, 0], 1, [5, 7, 9, 9, 9]),  # in bytes
        ([0, 2, 10, 20, 0], 1, [10, 20]),  # padded
        ([], 2, []),
    ],
)
def test_by_hand(words: list[int], width: int, entries: list[int]) -> None:
    assert expanded(words, 100, width) == entries
    assert expanded(words, 1, width) == entries[:1]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([1, 3, 9], "a line has no beginning"),
        ([0, 1, 5, 1, 3], "a line has no beginning, or no end"),
        ([3, 1, 9], "a segment of type 3"),
        ([0, 1, 5, 2, 1, 0], "an indirect segment is cut"),
        ([0, 1, 5, 2, 1, 3, 0], "goes to byte 3, where none begins"),
        ([0, 1, 5, 2, 1, 0, 9], "goes to byte 589824, where none begins"),
        ([0, 0, 2, 9, 0, 0], "more than 131072 segments"),  # itself again, for ever
        ([0, 0] * 200_000, "more than 131072 segments"),
    ],
)
def test_what_cannot_be(words: list[int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        expanded(words, 256, 2)


def test_no_more_is_made_than_is_asked_for() -> None:
    """60 KB that stand for 655,350,000 entries."""
    assert len(expanded([0, 1, 5] + [1, 65535, 7] * 10_000, 256, 2)) == 256
