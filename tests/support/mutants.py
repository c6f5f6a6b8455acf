"""Codestreams that are damaged on purpose, the same each time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def body_of(stream: bytes) -> int:
    """Where the coded data of a codestream begin; 0 if nothing in it says so."""
    if stream[:2] == b"\xff\xd8":
        scan = stream.find(b"\xff\xda")
        return scan + 2 + int.from_bytes(stream[scan + 2 : scan + 4], "big")
    if stream[:2] == b"\xff\x4f":
        return stream.find(b"\xff\x93") + 2
    return 64 if stream[1:8] == b"\0\0\0\x40\0\0\0" else 0


def mutants(stream: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` pairs (what was done, another stream), each kind of damage in turn."""
    rng, body, size = np.random.default_rng(seed), body_of(stream), len(stream)
    made = 0
    while made < count:
        kind = KINDS[made % len(KINDS)]
        there = bytearray(stream)
        place = int(rng.integers(body, size - 1))
        long = int(rng.integers(1, 65))
        if kind == "header bit" and body:
            place = int(rng.integers(2, body))
        if kind in ("bit", "header bit"):
            there[place] ^= 1 << int(rng.integers(8))
        elif kind == "bytes":
            there[place : place + 8] = rng.bytes(min(8, size - place))
        elif kind == "zeros":
            there[place : place + long] = bytes(min(long, size - place))
        elif kind == "lost":
            del there[place : place + long]
        elif kind == "doubled":
            there[place:place] = there[place : place + long]
        else:
            del there[place:]
        if bytes(there) != stream:
            made += 1
            yield kind, bytes(there)


KINDS = ("header bit", "bit", "bytes", "zeros", "lost", "doubled", "cut")
