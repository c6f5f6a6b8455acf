"""Signs and bits of codestream and header: what is stored of every pair, by hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A reversible JPEG 2000 stream and what the header says of it; BitsAllocated is 16."""

    stream: str
    """signed or unsigned"""
    precision: int
    header: str
    bits: int
    """BitsStored"""
    coded: tuple[int, ...]
    stored: tuple[int, ...] | str
    """or what the refusal says"""
    flags: tuple[str, ...] = ()


# fmt: off
PAIRS = (
    Pair("unsigned", 12, "unsigned", 12, (0, 4095), (0, 4095)),
    Pair("unsigned", 8, "unsigned", 12, (0, 255), (0, 255)),
    Pair("unsigned", 16, "unsigned", 12, (0, 4095), (0, 4095)),
    Pair("unsigned", 16, "unsigned", 12, (1, 0x8001), (1, 1), ("high-bits",)),
    Pair("signed", 12, "signed", 12, (-2048, 2047), (-2048, 2047)),
    Pair("signed", 8, "signed", 12, (-128, 127), (-128, 127)),
    Pair("signed", 16, "signed", 12, (-2048, 2047), (-2048, 2047)),
    Pair("signed", 16, "signed", 12, (-2050, 2049), (-2050, 2049), ("precision-conflict",)),
    # no sign in the stream: two's complement, of its own bits where these are fewer
    Pair("unsigned", 12, "signed", 12, (1, 4095), (1, -1)),
    Pair("unsigned", 8, "signed", 12, (1, 255), (1, -1), ("precision-conflict",)),
    Pair("unsigned", 8, "signed", 12, (1, 127), (1, 127)),
    Pair("unsigned", 16, "signed", 12, (1, 0xFFFF), (1, -1)),
    Pair("unsigned", 16, "signed", 12, (1, 0x8001), (1, 1), ("high-bits",)),
    Pair("unsigned", 16, "signed", 16, (1, 0xFFFF), (1, -1)),
    # a sign in the stream alone: it is explicit (PS3.5 8.2.4)
    Pair("signed", 12, "unsigned", 12, (-1500, 1499), (-1500, 1499), ("sign-conflict",)),
    Pair("signed", 8, "unsigned", 12, (-128, 127), (-128, 127), ("sign-conflict",)),
    Pair("signed", 16, "unsigned", 12, (-1500, 1499), (-1500, 1499), ("sign-conflict",)),
    Pair("signed", 16, "unsigned", 12, (-1500, 30000), (-1500, 30000), ("sign-conflict",)),
    Pair("signed", 12, "unsigned", 12, (0, 1499), (0, 1499)),
    Pair("signed", 16, "unsigned", 16, (0, 30000), (0, 30000)),
    Pair("signed", 16, "unsigned", 16, (-1500, 1499), "the codestream is signed"),
)
# fmt: on
