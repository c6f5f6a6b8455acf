"""The compiled loops against NumPy, bit by bit, and against sums by hand."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom2cache.errors import FrameError
from dicom2cache.frames.chunk import chunk_of_frame
from dicom2cache.frames.decode import Source
from dicom2cache.frames.plain import plain_frame
from dicom2cache.pixels import kernel, lanes
from dicom2cache.pixels.statistics import nearest, statistics
from dicom2cache.recipes.recipe import Treatment
from dicom2cache.records import ArraySpec
from dicom2cache.syntaxes import EXPLICIT_LE
from tests.house.kernel import compiler
from tests.support.caches import run_cli, tree
from tests.support.dicom_files import CT_IMAGE, pattern, real, write_dicom
from tests.support.faults import with_fault

T = TypeVar("T")
needed = pytest.mark.skipif(
    kernel.compiled is None and compiler() is None, reason="no C compiler: nothing to compare"
)


@pytest.fixture(autouse=True, scope="module")
def best_again() -> Iterator[None]:
    """Some tests use sets of loops of lesser processors."""
    yield
    if kernel.compiled is not None:
        kernel.compiled.use(2)


@contextmanager
def by_numpy() -> Iterator[None]:
    """A block in which the compiled loops are not there."""
    before, kernel.compiled = kernel.compiled, None
    try:
        yield
    finally:
        kernel.compiled = before


def both(work: Callable[[], T]) -> tuple[T, T]:
    """(by the compiled loops, by NumPy)."""
    assert kernel.compiled is not None
    with by_numpy():
        slow = work()
    return work(), slow


def bits(found: Any) -> Any:
    """The statistics, floats as their bytes: 0.0 and -0.0 are two."""
    if isinstance(found, tuple):
        return tuple(map(bits, found))
    return struct.pack("<d", found) if isinstance(found, float) else found


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


def _header(path: Path, raw: NDArray[Any], **more: Any) -> dict[str, Any]:
    status, width = path.stat(), raw.dtype.itemsize * 8
    return {
        "size": status.st_size, "mtime_ns": status.st_mtime_ns, "rule": None, "parts": None,
        "transfer_syntax": EXPLICIT_LE, "pixel_keyword": "PixelData", "bits_allocated": width,
        "samples": 1, "bits_stored": width, "high_bit": width - 1, "signed": False, "kind": "image",
        "palette_bits": None, "photometric": "MONOCHROME2", "lut_low": None, "unit": "US",
        "flags": None, "slope": 1.0, "padding_value": None, "padding_limit": None,
        "overlay_bits": None, "waveforms": None,
        "height": raw.shape[0], "width": raw.shape[1], "pixel_offset": 0, "pixel_vr": "OW",
        "pixel_length": raw.nbytes, "planar": None, "frames": 1, "inverted": False, "lossy": False,
        **more,
    }  # fmt: skip


def _outcome(path: Path, header: dict[str, Any], row: dict[str, Any], dtype: str) -> Any:
    """(bytes, row of RESULTS), or the words of the error, of a frame in an unaligned slot."""
    room = np.zeros(header["height"] * header["width"] * 2 + 3, np.uint8)[1:]
    spec = ArraySpec("one", dtype, (header["height"], header["width"]), 1, 1)
    try:
        with Source(str(path), header) as source:  # type: ignore[arg-type]
            chunk, result = chunk_of_frame(
                source, row, room, treatments=[Treatment()], spec=spec, limits=None
            )  # type: ignore[arg-type]
    except FrameError as e:
        return str(e)
    result = {name: result.get(name) for name in sorted({*result, "window_low", "window_high"})}
    return np.asarray(chunk.data).tobytes(), {name: bits(v) for name, v in result.items()}


_STORED = st.tuples(st.sampled_from([8, 16]), st.integers(1, 16), st.integers(0, 15))


@needed
@settings(max_examples=300, deadline=None)
@given(
    stored=_STORED, signed=st.booleans(), clean=st.booleans(), overlay=st.sampled_from([0, 0x8000]),
    size=st.sampled_from([(1, 1), (7, 9), (65, 63), (130, 129)]), seed=st.integers(0, 1 << 30),
    slope=st.sampled_from([1.0, 1.0, 1.0, -1.0, 2.0, 3.0, 0.5, 0.0, 65537.0, 1e300]),
    intercept=st.sampled_from([0.0, -1024.0, -32768.0, 32767.0, 40000.0, 0.25, -1e300]),
    dtype=st.sampled_from(["int16", "int16", "uint16", "uint8", "int32", "float32"]),
    most=st.integers(0, 2),
    padding=st.sampled_from([None, 0, -2000, 63536, -32768, 65535, 1e9, math.inf]),
    limit=st.sampled_from([None, None, 5, -1000, 70000, 4095]),
)  # fmt: skip
@example((16, 16, 15), True, True, 0, (65, 63), 1, 1.0, 0.0, "int16", 2, -32768, None)
@example((16, 12, 11), False, True, 0, (65, 63), 1, 1.0, -1024.0, "int16", 2, 0, 4095)
@example((16, 12, 11), True, False, 0x8000, (65, 63), 1, 1.0, -1024.0, "int16", 2, 63536, None)
@example((16, 16, 15), False, True, 0, (130, 129), 3, 1.0, -1024.0, "int16", 2, None, None)
def test_a_plain_frame_is_what_the_long_way_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, stored: tuple[int, int, int], signed: bool,
    clean: bool, overlay: int, size: tuple[int, int], seed: int, slope: float, intercept: float,
    dtype: str, most: int, padding: float | None, limit: float | None,
) -> None:  # fmt: skip
    kernel.compiled.use(most)
    width, bits_stored, high = stored
    bits_stored = min(bits_stored, width)
    high = min(max(high, bits_stored - 1), width - 1)
    random = np.random.default_rng(seed)
    raw = random.integers(0, 1 << width, size).astype(f"u{width // 8}")
    if clean:
        most = min(int(random.integers(1, 1 << bits_stored)), 1 << max(1, bits_stored - 1))
        raw = random.integers(0, most, size).astype(raw.dtype) << (high + 1 - bits_stored)
    path = tmp_path_factory.mktemp("plain") / "frame.raw"
    path.write_bytes(raw.astype(raw.dtype.newbyteorder("<")).tobytes())
    header = _header(
        path, raw, bits_stored=bits_stored, high_bit=high, signed=signed,
        overlay_bits=overlay or None, padding_value=padding,
        padding_limit=None if padding is None else limit,
    )  # fmt: skip
    row = {"file": 0, "frame": 0, "part_of_frame": 0, "stack": 0, "slope": slope, "unit": "US",
           "intercept": intercept, "windows": None, "mapped_low": None, "mapped_high": None,
           "scale_y": None}  # fmt: skip
    try:
        fast, slow = both(lambda: _outcome(path, header, row, dtype))
    except OverflowError:  # of an infinite padding value: the long way's words
        with pytest.raises(OverflowError), by_numpy():
            _outcome(path, header, row, dtype)
        return
    assert fast == slow


@needed
def test_plain_frames_go_the_short_way(tmp_path: Path) -> None:
    """12 bits of CT in HU, by hand: a value above BitsStored is masked, and flagged."""
    raw = np.array([[0, 4095, 1024], [0x8000 | 24, 1000, 1000]], np.uint16)
    (tmp_path / "frame.raw").write_bytes(raw.tobytes())
    header = _header(tmp_path / "frame.raw", raw, bits_stored=12, high_bit=11, padding_value=1000.0)
    row = {"frame": 0, "slope": 1.0, "intercept": -1024.0, "scale_y": None, "mapped_low": None}
    room = np.zeros(raw.nbytes, np.uint8)
    with Source(str(tmp_path / "frame.raw"), header) as source:  # type: ignore[arg-type]
        found = plain_frame(source, row, room, [Treatment()], "int16")  # type: ignore[arg-type]
    assert found is not None
    assert found.pixels.tolist() == [[-1024, 3071, 0], [-1000, -24, -24]]
    assert np.shares_memory(found.pixels, room)
    assert found.flags == ("high-bits",)
    said = found.statistics
    assert (said.min, said.max, said.mean, said.padding_fraction) == (-1024, 3071, 1047 / 4, 1 / 3)
    assert said.percentiles == (-1024, -1024, 0, 3071, 3071)


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


@needed
def test_a_cache_is_the_same_without_the_compiled_loops(tmp_path: Path, config_home: Path) -> None:
    """Real files of each dtype, padding, a modality LUT, colour: every byte, what made it too."""
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
    "CT_small.dcm", "MR_small.dcm", "rtdose.dcm", "693_UNCI.dcm", "examples_palette.dcm",
    "mlut_18.dcm", "SC_rgb_jpeg_dcmtk.dcm", "emri_small.dcm", "US1_UNCI.dcm",
)  # fmt: skip
