"""Samples of a multiplex group to physical values, (channels, samples) float32 (PS3.3 C.10.9.1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.records import Multiplex

_BLOCK = 1 << 20
"""samples, of all channels together, that are decoded at once"""
HIGH_BITS = "high-bits"

Read = Callable[[int, int], Any]
"""(bytes from the first sample on, how many) to these bytes"""


def decoded(
    group: Multiplex, read: Read, big: bool, room: NDArray[np.uint8] | None
) -> tuple[NDArray[np.float32], str, tuple[str, ...]]:
    """((channels, samples) float32, codec, flags): what samples mean, NaN where they are padding.

    Sample * Channel Sensitivity * Correction Factor + Baseline, in float64 before it is rounded
    (PS3.3 C.10.9.1.4.2). `room`: memory for the result, if it is large enough. A block of samples
    is in memory beside it.
    """
    channels, samples, size = group["channels"], group["samples"], group["bits"] // 8
    out = _room(room, channels, samples)
    lines = group["lines"]
    sensitivity, correction, baseline = (
        np.array([[line[key]] for line in lines])
        for key in ("sensitivity", "correction", "baseline")
    )
    stored = np.array([[line["bits"]] for line in lines])
    outside = False
    step = max(1, _BLOCK // channels)
    for start in range(0, samples, step):
        count = min(step, samples - start)
        data = _ordered(read, start * channels * size, count * channels * size, group, big)
        words = np.frombuffer(data, f"{'>' if big else '<'}u{size}").reshape(count, channels).T
        words = words.astype(f"u{size}", order="C")
        numbers, odd = _numbers(words, group, stored)
        outside |= odd
        with np.errstate(over="ignore"):
            values = numbers * sensitivity * correction + baseline
            if group["padding"] is not None:
                values[words == np.uint64(group["padding"] & (1 << 64) - 1)] = np.nan
            out[:, start : start + count] = values
    codec = "G.711" if group["interpretation"] in ("MB", "AB") else "native"
    return out, codec, (HIGH_BITS,) if outside else ()


def _room(room: NDArray[np.uint8] | None, channels: int, samples: int) -> NDArray[np.float32]:
    need = 4 * channels * samples
    if room is None or len(room) < need:
        return np.empty((channels, samples), np.float32)
    return room[:need].view(np.float32).reshape(channels, samples)


def _ordered(read: Read, offset: int, count: int, group: Multiplex, big: bool) -> Any:
    """Bytes of the samples, those of one byte in their order: in a big-endian OW they lie in words
    (PS3.5 8.3, A.3)."""
    if not (big and group["bits"] == 8 and group["vr"] == "OW"):
        return read(offset, count)
    first, last = offset & ~1, offset + count + 1 & ~1
    words = np.frombuffer(read(first, last - first), ">u2")
    return words.astype("<u2").tobytes()[offset - first :][:count]


def _numbers(
    words: NDArray[Any], group: Multiplex, stored: NDArray[Any]
) -> tuple[NDArray[np.float64], bool]:
    """(samples as numbers, whether bits beyond Waveform Bits Stored were dropped): what is stored
    is right-justified, its sign extended (PS3.3 C.10.9.1.7)."""
    interpretation, bits = group["interpretation"], group["bits"]
    if interpretation in ("MB", "AB"):
        return _companded(interpretation)[words], False
    signed = interpretation[0] == "S"
    found = words.view(f"i{bits // 8}") if signed else words
    odd = False
    for row, own in enumerate(stored[:, 0].tolist()):
        if own < bits:
            held = _held(words[row], own, signed)
            if not (held == found[row]).all():
                found, odd = (found if odd else found.copy()), True
                found[row] = held
    if odd and group["padding"] is not None:  # the padding value is no sample
        padding = words == np.uint64(group["padding"] & (1 << 64) - 1)
        odd = bool((found != (words.view(found.dtype)))[~padding].any())
    return found.astype(np.float64), odd


def _held(words: NDArray[Any], stored: int, signed: bool) -> NDArray[Any]:
    """The lowest bits of words, the highest of them the sign of what is signed."""
    kind, size = words.dtype, words.dtype.itemsize
    low: NDArray[Any] = words & kind.type((1 << stored) - 1)
    if not signed:
        return low
    shift = kind.type(8 * size - stored)
    left: NDArray[Any] = (low << shift).view(f"i{size}")
    held: NDArray[Any] = left >> left.dtype.type(shift)
    return held


@cache
def _companded(interpretation: str) -> NDArray[np.float64]:
    """(256,) values of the bytes of mu-law or A-law (ITU-T G.711), in 16 bits as G.191's decoder
    and all others give them: left-justified, +-32124 and +-32256."""
    code = np.arange(256)
    if interpretation == "MB":
        code = ~code & 0xFF
        size = (((code & 15) << 3) + 132 << (code >> 4 & 7)) - 132
        return np.where(code & 0x80, -size, size).astype(np.float64)
    code = code ^ 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    size = np.where(
        exponent == 0, (mantissa << 4) + 8, (mantissa << 4) + 264 << np.maximum(exponent - 1, 0)
    )
    return np.where(code & 0x80, size, -size).astype(np.float64)
