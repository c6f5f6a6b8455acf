from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

REVISION: int

_Found = tuple[int, int, int, int, int, int, int, tuple[float, ...], int]
_Places = Callable[[int], tuple[int, ...]]

def whole(
    values: NDArray[Any], padding: NDArray[Any] | None, step: int, places_of: _Places, /
) -> _Found: ...
def grey(
    slot: NDArray[Any],
    bits: int,
    low: int,
    signed: bool,
    declared: int,
    m: int,
    b: int,
    fits: tuple[int, int] | None,
    padding: tuple[int, int] | None,
    step: int,
    places_of: _Places,
    /,
) -> _Found | None: ...
def real(
    values: NDArray[Any], padding: NDArray[Any] | None, /
) -> tuple[int, int, float, float, float, float]: ...
def steps(values: NDArray[Any], before: int, costs: bytes, /) -> tuple[int, int]: ...
def equal(data: bytes | memoryview, value: int, /) -> int: ...
def crc32c(data: Any, /) -> int | None: ...
def use(most: int, /) -> int: ...
def scan_meta(data: bytes, /) -> tuple[bytes, int] | None: ...
def scan_walk(
    data: bytes,
    at: int,
    last: int,
    implicit: bool,
    wanted: bytes,
    apart: bytes,
    longest: int,
    vr_of: Callable[[int], str | None],
    /,
) -> tuple[bytes, dict[int, tuple[bytes | None, bytes]], int, int, bool, bool] | None: ...
def scan_parts(elements: bytes, implicit: bool, /) -> dict[int, tuple[bytes | None, bytes]]: ...
def scan_values(
    own: dict[int, tuple[bytes | None, bytes]], /
) -> (
    tuple[
        str | None,
        int | None,
        int | None,
        list[float] | None,
        float | None,
        float | None,
        float | None,
        str | None,
        float | None,
    ]
    | None
): ...
