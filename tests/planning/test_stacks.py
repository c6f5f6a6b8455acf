"""Stacks: which frames are a volume or a time series, and in which order."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.support.plans import AXIAL, SAGITTAL, header, plan_of, stacks_of


def _slice(name: str, z: float, **values: Any) -> dict[str, Any]:
    """An axial slice at height z, mm."""
    return header(name, position=[10.0, -20.0, z], **{"orientation": AXIAL, **values})


def _sagittal(name: str, x: float, **values: Any) -> dict[str, Any]:
    return header(name, position=[x, 0.0, 0.0], orientation=SAGITTAL, **values)


_VOLUME = [_slice(f"z{k}", 2.5 * k, instance=9 - k) for k in range(5)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # a plain volume: by position, although instance numbers run the other way
        (_VOLUME, [(True, ["z0", "z1", "z2", "z3", "z4"])]),
        # positions written with rounding noise are evenly spaced still
        ([_slice("a", 0.0), _slice("b", 2.5004), _slice("c", 4.9996)], [(True, ["a", "b", "c"])]),
        # a slice is missing
        ([_slice("a", 0.0), _slice("b", 2.5), _slice("c", 7.5)], [(False, ["a", "b", "c"])]),
        # two slices have nothing to be uneven with
        ([_slice("a", 0.0), _slice("b", 7.0)], [(True, ["a", "b"])]),
        # two orientations in one series: two volumes
        ([_slice("a0", 0), _sagittal("s0", 0), _slice("a1", 1), _sagittal("s1", 1)],
         [(True, ["s1", "s0"]), (True, ["a0", "a1"])]),
        # oblique: the position counts along the normal of the image plane
        ([header(n, position=[0.0, -0.8 * k, 0.6 * k], orientation=[1, 0, 0, 0, 0.6, 0.8])
          for n, k in (("a", 0.0), ("b", 3.0), ("c", 6.0))], [(True, ["a", "b", "c"])]),
        # a series over time: each phase is a volume
        ([_slice(f"t{t}z{z}", z, temporal_index=t) for t in (1, 2) for z in (0, 1, 2)],
         [(True, ["t1z0", "t1z1", "t1z2"]), (True, ["t2z0", "t2z1", "t2z2"])]),
        # two echoes
        ([_slice(f"e{e}z{z}", z, echo_time=float(e)) for z in (0, 1) for e in (5, 10)],
         [(True, ["e5z0", "e5z1"]), (True, ["e10z0", "e10z1"])]),
        # diffusion
        ([_slice(f"b{b}z{z}", z, b_value=float(b)) for z in (0, 1) for b in (0, 1000)],
         [(True, ["b0z0", "b0z1"]), (True, ["b1000z0", "b1000z1"])]),
        # echo and time together: in the order of acquisition
        ([_slice(f"e{e}t{t}z{z}", z, echo_time=float(e), temporal_index=t)
          for z in (0, 1) for t in (1, 2) for e in (5, 10)],
         [(True, ["e5t1z0", "e5t1z1"]), (True, ["e10t1z0", "e10t1z1"]),
          (True, ["e5t2z0", "e5t2z1"]), (True, ["e10t2z0", "e10t2z1"])]),
        # an acquisition number of its own for each slice must not tear a volume apart
        ([_slice(f"z{k}", k, acquisition=k) for k in range(4)],
         [(True, ["z0", "z1", "z2", "z3"])]),
        # nor where positions repeat over time and it says nothing about that
        ([_slice(f"t{t}z{z}", z, temporal_index=t, acquisition=10 * t + z)
          for t in (1, 2) for z in (0, 1)],
         [(True, ["t1z0", "t1z1"]), (True, ["t2z0", "t2z1"])]),
        # repeats that no element explains: by occurrence in instance order
        ([_slice("z0i4", 0, instance=4), _slice("z0i1", 0, instance=1),
          _slice("z1i2", 1, instance=2), _slice("z1i3", 1, instance=3)],
         [(True, ["z0i1", "z1i2"]), (True, ["z0i4", "z1i3"])]),
        # one slice over time: one stack in instance order, and no volume
        ([_slice(f"i{k}", 5.0, instance=k) for k in (3, 1, 2)], [(False, ["i1", "i2", "i3"])]),
        # no positions, as in ultrasound
        ([header(f"i{k}", instance=k) for k in (2, 3, 1)], [(None, ["i1", "i2", "i3"])]),
        # a cine: frames in the order of the file
        ([header("cine", frames=4)], [(None, [f"cine#{k}" for k in range(4)])]),
        # a single frame with a position
        ([_slice("a", 3.0)], [(False, ["a"])]),
        # a localizer in the series of the volume is not of it
        ([_slice("a", 0, image_type="ORIGINAL\\PRIMARY\\AXIAL"),
          _slice("b", 1, image_type="ORIGINAL\\PRIMARY\\AXIAL"),
          _slice("l", 2, image_type="ORIGINAL\\PRIMARY\\LOCALIZER")],
         [(True, ["a", "b"]), (False, ["l"])]),
        # other units, sizes and spacings do not mix
        ([_slice("a", 0, unit="HU"), _slice("b", 1, unit="US")], [(False, ["a"]), (False, ["b"])]),
        ([_slice("a", 0, height=8), _slice("b", 1)], [(False, ["b"]), (False, ["a"])]),
        ([_slice("a", 0, spacing_y=1.0, spacing_x=1.0),
          _slice("b", 1, spacing_y=0.5, spacing_x=0.5)], [(False, ["b"]), (False, ["a"])]),
        # nor do series
        ([_slice("a", 0, series_uid="2"), _slice("b", 1, series_uid="1")],
         [(False, ["b"]), (False, ["a"])]),
        # a multi-frame file that holds a volume, its frames out of order
        ([header("m", frames=3, per_frame=[{"position": [0.0, 0.0, z], "orientation": AXIAL}
                                           for z in (2.0, 0.0, 1.0)])],
         [(True, ["m#1", "m#2", "m#0"])]),
        # a multi-frame file with two stacks, told apart by Stack ID, in the order of its frames
        ([header("m", frames=4, per_frame=[
            {"position": [0.0, 0.0, z], "orientation": AXIAL, "stack_name": s}
            for s in ("2", "1") for z in (0.0, 1.0)])],
         [(True, ["m#0", "m#1"]), (True, ["m#2", "m#3"])]),
        # two stacks by Stack ID at other heights, with a gap between them
        ([header("m", frames=6, per_frame=[
            {"position": [0.0, 0.0, z], "orientation": AXIAL, "stack_name": s}
            for s, low in (("1", 0.0), ("2", 20.0)) for z in (low, low + 1.0, low + 2.0)])],
         [(True, ["m#0", "m#1", "m#2"]), (True, ["m#3", "m#4", "m#5"])]),
    ],
)  # fmt: skip
def test_stacks(rows: list[dict[str, Any]], expected: list[tuple[bool | None, list[str]]]) -> None:
    assert stacks_of(plan_of(rows)) == expected
    for seed in range(5):  # in whatever order the files come
        Random(seed).shuffle(rows)
        assert stacks_of(plan_of(rows)) == expected


def test_the_type_is_one_for_a_stack() -> None:
    # One slice with a slope of 0.5 makes all of the volume float32, its neighbours too.
    rows = [_slice("a", 0), _slice("b", 1, slope=0.5), _slice("c", 2)]
    plan = plan_of(rows)
    assert [spec.name for spec in plan.arrays] == ["float32_4x4"]
    assert stacks_of(plan) == [(True, ["a", "b", "c"])]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ({"bits_stored": 8}, "uint8"),
        ({"bits_stored": 12}, "int16"),  # before uint16, for which torch has few operations
        ({"bits_stored": 15}, "int16"),
        ({"bits_stored": 16}, "uint16"),
        ({"bits_stored": 16, "signed": True}, "int16"),
        ({"bits_stored": 16, "intercept": -1024.0, "unit": "HU"}, "int16"),  # by the unit
        ({"bits_stored": 16, "intercept": -1024.0}, "int32"),
        ({"bits_stored": 16, "slope": 2.0}, "int32"),
        ({"bits_stored": 32, "bits_allocated": 32}, "float64"),  # holds every one of 32 bits
        ({"bits_stored": 31, "bits_allocated": 32}, "int32"),
        ({"slope": 0.5}, "float32"),
        ({"slope": 0.5, "unit": "HU"}, "float32"),
        ({"intercept": 0.25}, "float32"),
        ({"pixel_keyword": "FloatPixelData", "bits_allocated": 32, "bits_stored": 32}, "float32"),
        ({"pixel_keyword": "DoubleFloatPixelData", "bits_allocated": 64, "bits_stored": 64},
         "float64"),
        ({"lut_low": 0.0, "lut_high": 255.0}, "uint8"),  # the LUT's entries, not the stored bits
        ({"lut_low": -5.0, "lut_high": 40000.0}, "int32"),
        ({"bits_stored": 12, "inverted": True}, "int16"),
        ({"samples": 3, "photometric": "RGB", "slope": None, "intercept": None,
          "bits_allocated": 8, "bits_stored": 8}, "uint8"),
        ({"photometric": "PALETTE COLOR", "palette_bits": 16, "slope": None, "intercept": None,
          "bits_allocated": 8, "bits_stored": 8}, "uint16"),
    ],
)  # fmt: skip
def test_type_from_the_header(values: dict[str, Any], dtype: str) -> None:
    assert [spec.dtype for spec in plan_of([header("a", **values)]).arrays] == [dtype]


def test_monochrome1_without_unit_is_mirrored_in_slope_and_windows() -> None:
    window = {"center": 1000.0, "width": 200.0, "explanation": None}
    windows = [{**window, "function": "LINEAR"}, {**window, "function": "SIGMOID"}]
    plan = plan_of([header("a", inverted=True, windows=windows, photometric="MONOCHROME1")])
    frame, file = plan.frames.to_pylist()[0], plan.files.to_pylist()[0]
    assert (frame["slope"], frame["intercept"]) == (-1, 4095)  # 12 bits: 4095 - v
    # PS3.3 C.11.2.1.2: LINEAR is centred on c - 0.5
    assert [w["center"] for w in file["windows"]] == [4095 - 1000 + 1, 4095 - 1000]
    assert (file["inverted"], file["flags"]) == (False, ["inverted"])


@pytest.mark.parametrize(
    ("values", "recipe"),
    [
        ({"unit": "HU"}, {}),  # a unit is kept
        ({"unit": "OD"}, {}),
        ({}, {"monochrome1": "keep"}),
        ({}, {"intensity": "stored"}),
        ({"lut_low": 0.0, "lut_high": 9.0}, {}),  # a LUT says where larger goes
    ],
)
def test_monochrome1_is_kept(values: dict[str, Any], recipe: dict[str, str]) -> None:
    plan = plan_of([header("a", inverted=True, **values)], **recipe)
    assert plan.frames.to_pylist()[0]["slope"] == 1
    assert plan.files.to_pylist()[0]["inverted"] is True
