"""The targets: what is fuzzed, and what inputs it begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fuzz import headers


@dataclass(frozen=True)
class Target:
    """One way into the program."""

    name: str
    run: Callable[[bytes], None]
    """raises whatever should not be raised"""
    seeds: Callable[[], Iterator[bytes]]
    longest: int
    """bytes of an input"""
    share: int
    """of the runs or the time, in percent"""


TARGETS = {
    target.name: target
    for target in (
        Target("header-bytes", headers.header_bytes, headers.whole_files, 8192, 10),
        Target("header-elements", headers.header_elements, headers.of_each_base, 256, 30),
    )
}
