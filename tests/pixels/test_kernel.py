"""The compiled loops against NumPy, bit by bit, and against sums by hand."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom2cache.frames.lossless import _bits, _steps
from dicom2cache.pixels import kernel, lanes
from dicom2cache.pixels.statistics import nearest, statistics
from dicom2cache.store.shards import crc32c
from tests.support.caches import run_cli, tree
from tests.support.dicom_files import CT_IMAGE, pattern, real, write_dicom, write_series
from tests.support.faults import with_fault
from tests.support.kernels import bits, both, by_numpy, needed


@pytest.fixture(autouse=True, scope="module")
def best_again() -> Iterator[None]:
    """Some tests use sets of loops of lesser processors."""
    yield
    if kernel.compiled is not None:
        kernel.compiled.use(2)


SPECIAL: dict[str, list[Any]] = {
    "uint8": [0, 255], "uint16": [0, 65535, 5792, 5793], "int16": [-32768, 32767, -5792, -5793, 0],
    "int32": [-(2**31), 2**31 - 1], "int8": [-128, 127], "uint32": [2**32 - 1],
    "float32": [math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-45, 3e38, -3e38, 1 / 3],
    "float64": [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7e308, -1.7e308, 1e300, 1 / 3],
}  # fmt: skip


def _values(dtype: str, shape: tuple[int, ...], seed: int, special: float) -> NDArray[Any]:
    """Values of all sizes, some of them special; `shape` of any layout in memory."""
    random, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind == "f":
        low, high = random.integers(-30, 30, 2).tolist()
        made = random.normal(0, 1, shape) * 10.0 ** random.integers(min(low, high), 31, shape)
        values = made.astype(kind)
    else:
        limits = np.iinfo(kind)
        narrow = int(random.integers(1, kind.itemsize * 8 + 1))
        values = random.integers(limits.min, limits.max, shape, kind, endpoint=True)
        values >>= kind.itemsize * 8 - narrow
    where = random.random(shape) < special
    values[where] = random.choice(np.array(SPECIAL[dtype], kind), int(where.sum()))
    return values


def _unaligned(values: NDArray[Any]) -> NDArray[Any]:
    room = np.empty(values.nbytes + 1, np.uint8)[1:]
    placed = room.view(values.dtype).reshape(values.shape)
    placed[...] = values
    return placed


@needed
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(SPECIAL)),
    st.sampled_from([(1, 1), (3, 5), (64, 64), (97, 41), (1, 4097), (129, 130), (300, 257)]),
    st.sampled_from([None, 1, 3, 4, 65]),
    st.sampled_from([0.0, 0.01, 1.0]),
    st.sampled_from([None, 0.0, 0.05, 0.9, 1.0]),
    st.integers(0, 1 << 30),
    st.booleans(),
    st.integers(0, 2),
)
def test_statistics_are_numpys_bit_by_bit(
    dtype: str, size: tuple[int, int], channels: int | None, special: float, padded: float | None,
    seed: int, aligned: bool, most: int,
) -> None:  # fmt: skip
    kernel.compiled.use(most)
    size = (7, 9) if channels == 65 else size
    values = _values(dtype, size if channels is None else (*size, channels), seed, special)
    if not aligned:
        values = _unaligned(values)
    padding = None
    if padded is not None:
        padding = np.random.default_rng(seed).random(size) < padded
        padding[: size[0] // 3] = padded > 0.5  # padding mostly lies together
    fast, slow = both(lambda: statistics(values, padding))
    assert bits(astuple(fast)) == bits(astuple(slow))


@needed
@pytest.mark.parametrize("value", [255, 5792, 5793, 6500, 8191, 16384, 32767, -5793, -32768, 65535])
def test_sums_of_whole_numbers_are_exact(value: int) -> None:
    """Squares are added in 32 bits where they are small enough: at both sides of that."""
    values = np.full((67, 64), value, np.uint16 if value > 32767 else np.int16)
    for most in range(3):
        kernel.compiled.use(most)
        for found in both(lambda: statistics(values, None)):
            assert (found.min, found.max, found.mean, found.std) == (value, value, value, 0.0)


@needed
def test_the_compiled_loops_are_what_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests here would compare NumPy with itself."""
    calls: list[str] = []

    class Told:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(loops, name)

    loops = kernel.compiled
    monkeypatch.setattr(kernel, "compiled", Told())
    values = np.arange(12, dtype=np.int16).reshape(3, 4)
    statistics(values, None)
    statistics(values.astype(np.float32), None)
    with by_numpy():
        statistics(values, None)
    assert calls == ["whole", "real"]


@needed
@pytest.mark.parametrize("how", [0, 1])
def test_a_sum_in_lanes_by_hand(how: int) -> None:
    """Value i goes to lane i mod 64: what a large value swallows is not lost."""
    values = np.zeros((2, 128))
    values[0, 0], values[0, 64], values[1, 0] = 1e100, 1.0, -1e100
    values[0, 1], values[1, 65] = 3.0, 4.0
    found = both(lambda: statistics(values, None))[how]
    assert found.mean == 8.0 / 256
    assert found.std == math.sqrt(2e200 / 256)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000, 65536, 65537, 70001])
def test_sums_in_lanes_are_right_to_the_last_digit_or_two(n: int) -> None:
    """Against fractions; and value for value as the page says it."""
    values = np.random.default_rng(n).normal(-1000, 1e6, n)
    exact = sum(map(Fraction, values.tolist()))
    found = lanes.total(values)
    assert abs(Fraction(found) - exact) <= abs(exact) * Fraction(1, 2**52)
    sums, lost = [0.0] * 64, [0.0] * 64
    for i, value in enumerate(values.tolist()):
        rounded = sums[i % 64] + value
        big, small = sorted((sums[i % 64], value), key=abs, reverse=True)
        lost[i % 64] += (big - rounded) + small  # Neumaier's own form
        sums[i % 64] = rounded
    total = left = 0.0
    for value in (*sums, *lost):
        rounded = total + value
        big, small = sorted((total, value), key=abs, reverse=True)
        left += (big - rounded) + small
        total = rounded
    assert found == total + left


def test_zero_has_no_sign() -> None:
    for dtype in (np.float32, np.float64):
        for work in both(lambda dtype=dtype: statistics(np.full((5, 5), -0.0, dtype), None)):
            numbers = (work.min, work.max, work.mean, work.std, *work.percentiles)
            assert [math.copysign(1, n) for n in numbers if n is not None] == [1] * 9


@needed
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(1, 1), (1, 4098), (5, 3), (130, 97), (3, 9001)]), st.integers(1, 16),
    st.sampled_from([0.0, 0.01, 1.0]), st.integers(0, 1 << 30), st.booleans(), st.integers(0, 2),
)  # fmt: skip
def test_sizes_of_differences_are_numpys(
    size: tuple[int, int], precision: int, special: float, seed: int, aligned: bool, most: int
) -> None:
    kernel.compiled.use(most)
    values = _values("uint16", size, seed, special)
    if not aligned:
        values = _unaligned(values)
    costs = np.random.default_rng(seed).bytes(17)
    fast, slow = both(lambda: _steps(values, 1 << precision - 1, costs))
    assert fast == slow
    assert _steps(values, 1 << precision - 1, b"\1" * 17)[0] == values.size


@needed
@pytest.mark.parametrize("how", [0, 1])
def test_sizes_of_differences_by_hand(how: int) -> None:
    """From 2048: 0, 1, -1, then from the pixel above -2048, 32768, which has 16 bits, 3."""
    values = np.array([[2048, 2049, 2048], [0, 32768, 32771]], np.uint16)
    costs = bytes([1, 10, 100, *range(9), 50, 9, 9, 9, 7])
    assert both(lambda: _steps(values, 2048, costs))[how] == (
        1 + 2 * 10 + 100 + 50 + 7, 0b1_0001_0000_0000_0111)  # fmt: skip


@needed
@pytest.mark.parametrize("most", [0, 1, 2])
def test_bits_that_code_by_hand(most: int) -> None:
    """A byte FF is followed by a 0 that codes nothing; those before the marker fill."""
    kernel.compiled.use(most)
    for found in both(lambda: _bits(b"\1\xff\0\2\xff\xff\xff\xd9", 1, 6)):
        assert found == 8 * 2
    for n in (4095, 4096, 4097, 70_000):
        assert kernel.compiled.equal(b"\xff" * n + b"\0", 255) == n


@needed
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # RFC 3720 B.4, this and the next
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc_32c_of_what_the_rfc_has(data: bytes, crc: int) -> None:
    assert kernel.compiled.crc32c(data) in (crc, None)
    assert crc32c(data) == crc


@needed
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 70), st.integers(0, 1 << 30))
def test_crc_32c_is_google_s(count: int, offset: int, seed: int) -> None:
    """Of any length, wherever it lies; without one of its own it says so."""
    data = np.frombuffer(np.random.default_rng(seed).bytes(offset + count), np.uint8)[offset:]
    expected = google_crc32c.value(data.tobytes())
    assert kernel.compiled.crc32c(data) in (expected, None)
    assert both(lambda: crc32c(data)) == (expected, expected)


@needed
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda k: k.whole(np.zeros((2, 2), np.int64), None, 1, nearest), "kind"),
        (lambda k: k.whole(np.zeros((2, 2), ">i2"), None, 1, nearest), "kind"),
        (lambda k: k.whole(np.zeros((2, 2), "S2"), None, 1, nearest), "kind"),
        (lambda k: k.whole(np.zeros(4, np.int16), None, 1, nearest), "a frame is"),
        (lambda k: k.whole(np.zeros((2, 2, 65), np.int16), None, 1, nearest), "channels"),
        (lambda k: k.whole(np.zeros((2, 2, 0), np.int16), None, 1, nearest), "channels"),
        (lambda k: k.whole(np.zeros((4, 4), np.int16)[:, ::2], None, 1, nearest), "contiguous"),
        (lambda k: k.whole(np.zeros((2, 2), np.int16), np.zeros(3, bool), 1, nearest), "padding"),
        (lambda k: k.whole(np.zeros((2, 2), np.int16), np.zeros(4, "u2"), 1, nearest), "padding"),
        (lambda k: k.whole(np.zeros((2, 2), np.int16), None, 0, nearest), "step"),
        (lambda k: k.whole(np.zeros((2, 2), np.int16), None, 1, lambda n: [0]), "tuple"),
        (lambda k: k.whole(np.zeros((2, 2), np.int16), None, 1, lambda n: ("a",)), "integer"),
        (lambda k: k.real(np.zeros((2, 2), np.float16), None), "kind"),
        (lambda k: k.real(np.zeros((2, 2)), np.zeros(5, bool)), "padding"),
        (lambda k: k.real(b"1234", None), "kind|frame"),
        (lambda k: k.steps(np.zeros((2, 2, 1), np.int16), 0, bytes(17)), "kind"),
        (lambda k: k.steps(np.zeros((2, 2, 3), np.uint16), 0, bytes(17)), "a frame is"),
        (lambda k: k.steps(np.zeros((2, 2), np.uint16), 0, bytes(16)), "17 bytes"),
        (lambda k: k.equal("text", 0), "bytes-like"),
        (lambda k: k.crc32c(np.zeros(4)[::2]) or k.equal("", 0), "contiguous|bytes-like"),
        (lambda k: _grey(k, bits=17), "bits"),
        (lambda k: _grey(k, bits=0), "bits"),
        (lambda k: _grey(k, bits=12, low=5), "bits"),
        (lambda k: _grey(k, padding=(5, 4)), "padding"),
        (lambda k: _grey(k, padding=(-40000, 4)), "padding"),
        (lambda k: _grey(k, slot=np.zeros((2, 2, 3), np.int16)), "bits"),
        (lambda k: _grey(k, slot=np.zeros((2, 2), np.float32)), "kind"),
        (lambda k: _grey(k, slot=np.frombuffer(bytes(8), np.int16).reshape(2, 2)), "read-only"),
    ],
)
def test_what_is_no_frame_is_refused(call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError, BufferError), match=words):
        call(kernel.compiled)


def _grey(module: Any, **given: Any) -> Any:
    said: dict[str, Any] = {
        "slot": np.zeros((2, 2), np.int16), "bits": 12, "low": 0, "signed": False, "declared": 0,
        "m": 1, "b": 0, "fits": None, "padding": None, "step": 1, "places_of": nearest, **given,
    }  # fmt: skip
    return module.grey(*said.values())


@needed
def test_places_beyond_the_grid_read_nothing() -> None:
    """The last value, and no byte behind the counts."""
    values = np.arange(4, dtype=np.int16).reshape(2, 2)
    found = kernel.compiled.whole(values, None, 1, lambda n: (0, n - 1, n, 1 << 40))
    assert found[7] == (0.0, 3.0, 3.0, 3.0)
    assert kernel.compiled.whole(np.zeros((0, 3), np.int16), None, 1, nearest)[0] == 0
    assert kernel.compiled.real(np.zeros((3, 0)), None)[0] == 0
    assert kernel.compiled.steps(np.zeros((0, 3), np.uint16), 8, bytes(17)) == (0, 0)
    assert kernel.compiled.equal(b"", 0) == 0


@needed
def test_a_cache_is_the_same_without_the_compiled_loops(tmp_path: Path, config_home: Path) -> None:
    """Real files of each dtype and coder, padding, a LUT, colour: every byte, what made it too."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in _REAL:
        (folder / name).symlink_to(real(name))
    pixels = pattern("padded", (70, 50)).view(np.int16) >> 4
    pixels[:20] = -2000
    write_dicom(
        folder / "padded.dcm", pixels.view(np.uint16), SOPClassUID=CT_IMAGE, Modality="CT",
        PixelRepresentation=1, RescaleSlope=1, RescaleIntercept=-24, PixelPaddingValue=-2000,
    )  # fmt: skip
    write_series(folder / "series", 3, 16)
    made = {}
    for name, env in (("compiled", {}), ("numpy", with_fault("no-kernel"))):
        ran = run_cli("build", folder, tmp_path / name, env=env)
        assert ran.returncode == 0, ran.stderr
        made[name] = tree(tmp_path / name)
    assert made["compiled"] == made["numpy"]


@needed
def test_a_process_without_the_compiled_loops() -> None:
    """What the test above compares with; a build of another revision is not used either."""
    code = "from dicom2cache.pixels import kernel; print(kernel.compiled is None)"
    for faults, said in (("no-kernel", "True"), ("old-kernel", "True"), ("no-links", "False")):
        env = {**os.environ, **with_fault(faults)}
        command = [sys.executable, "-c", code]
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == said


_REAL = (
    "CT_small.dcm", "MR_small_jpeg_ls_lossless.dcm", "rtdose.dcm", "693_UNCI.dcm", "SC_rgb.dcm",
    "examples_palette.dcm", "mlut_18.dcm", "SC_rgb_jpeg_dcmtk.dcm", "emri_small_RLE.dcm",
    "JPEG-LL.dcm", "US1_J2KR.dcm", "MR2_J2KR.dcm",
)  # fmt: skip
