"""The law of the plan: every frame in exactly one place, whatever the order of the files."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom2cache.errors import RecipeError
from dicom2cache.planning.plan import make_plan
from dicom2cache.planning.tasks import part, tasks
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import Plan
from dicom2cache.schema import REJECTS
from tests.support.plans import AXIAL, SAGITTAL, files, frames_of, header, plan_of

_MANY = settings(max_examples=40, deadline=None)


@st.composite
def _row(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """A plausible header: few distinct values, so that frames meet in series and stacks."""
    pick = st.sampled_from
    bits = draw(pick([(8, 8), (16, 8), (16, 12), (16, 16), (32, 31), (32, 32)]))
    frames = draw(pick([1, 1, 1, 2, 5]))
    values: dict[str, Any] = {
        "frames": frames,
        "height": draw(pick([3, 8, 9, 64])),
        "width": draw(pick([3, 8, 17])),
        "bits_allocated": bits[0],
        "bits_stored": bits[1],
        "high_bit": bits[1] - 1,
        "signed": draw(st.booleans()),
        "series_uid": draw(pick(["1.1.1", "1.1.2"])),
        "instance": draw(pick([None, 1, 2])),
        "echo_time": draw(pick([None, 5.0, 10.0])),
        "b_value": draw(pick([None, 0.0, 1000.0])),
        "temporal_index": draw(pick([None, 1, 2])),
        "acquisition": draw(pick([None, 1, 2])),
        "transfer_syntax": draw(pick(["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"])),
    }
    if draw(st.booleans()):
        values["position"] = [0.0, draw(pick([0.0, 0.0004])), float(draw(st.integers(0, 3)))]
        values["orientation"] = draw(pick([AXIAL, SAGITTAL]))
    kind = draw(pick(["grey", "grey", "grey", "hu", "mono1", "rgb", "palette", "lut", "float"]))
    if kind == "rgb":
        values |= {"samples": 3, "photometric": "RGB", "slope": None, "intercept": None,
                   "signed": False}  # fmt: skip
    elif kind == "palette":
        values |= {"photometric": "PALETTE COLOR", "palette_bits": draw(pick([8, 16])),
                   "slope": None, "intercept": None}  # fmt: skip
    elif kind == "lut":
        values |= {"lut_low": -7.0, "lut_high": draw(pick([100.0, 60000.0]))}
    elif kind == "float":
        values |= {"pixel_keyword": "FloatPixelData", "bits_allocated": 32, "bits_stored": 32,
                   "high_bit": 31, "signed": True}  # fmt: skip
    else:
        values["slope"] = draw(pick([1.0, 2.0, -1.0, 0.5, 0.1, 0.0]))
        values["intercept"] = draw(pick([0.0, -1024.0, 0.25, 1e6]))
        values["inverted"] = kind == "mono1"
        values["unit"] = "HU" if kind == "hu" else "US"
    if frames > 1 and draw(st.booleans()):
        values["per_frame"] = [
            {
                "slope": draw(pick([None, 1.0, 0.5])) if kind == "grey" else None,
                "position": [0.0, 0.0, float(draw(st.integers(0, 3)))],
                "orientation": AXIAL,
            }
            for _ in range(frames)
        ]
    if frames == 1 and values["height"] == values["width"] == 8 and draw(st.booleans()):
        along = [1.0, 0.0, 0.0] if values.get("orientation") == SAGITTAL else [0.0, 0.0, 1.0]
        values |= {"parts": 3, "parts_across": 2, "part_height": 4, "part_width": 4,
                   "part_step": draw(pick([None, along]))}  # fmt: skip
    return header(f"f{number:02}", **values)


_ROWS = st.integers(1, 14).flatmap(lambda n: st.tuples(*(_row(k) for k in range(n)))).map(list)


def _frames(rows: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """(path, frame, part of it) of all that is to be stored."""
    return sorted(
        (row["path"], k, part)
        for row in rows
        for k in range(row["frames"])
        for part in range(row["parts"] or 1)
    )


def _size(row: dict[str, Any]) -> tuple[int, int]:
    """Of what is stored of a file: of a mosaic, its slices."""
    return row["part_height"] or row["height"], row["part_width"] or row["width"]


@_MANY
@given(_ROWS, st.sampled_from([256, 16]))
def test_every_frame_and_every_slot_exactly_once(
    rows: list[dict[str, Any]], max_arrays: int
) -> None:
    plan = plan_of(rows, max_arrays=max_arrays)
    placed = frames_of(plan)
    found = sorted((row["path"], row["frame"], row["part_of_frame"]) for row in placed)
    assert found == _frames(rows)
    taken = sorted((row["array"], row["row"]) for row in placed)
    assert taken == [(a, r) for a, spec in enumerate(plan.arrays) for r in range(spec.slots)]
    # In the order of the cache.
    assert [(row["array"], row["row"]) for row in placed] == taken
    assert len(plan.arrays) <= max_arrays
    sizes = {row["path"]: row for row in rows}
    wasted = 0
    for row in placed:
        spec, own = plan.arrays[row["array"]], sizes[row["path"]]
        colour = own["samples"] == 3 or own["palette_bits"]
        height, width = _size(own)
        assert spec.slot[0] >= height
        assert spec.slot[1] >= width
        assert spec.slot[2:] == ((3,) if colour else ())
        pixels = spec.slot[0] * spec.slot[1] - height * width
        wasted += pixels * (3 if colour else 1) * np.dtype(spec.dtype).itemsize
    assert plan.wasted_bytes == wasted
    if len({(*_size(r), r["samples"]) for r in rows}) * 6 < max_arrays:
        assert wasted == 0


@_MANY
@given(_ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_files_does_not_matter(rows: list[dict[str, Any]], random: Any) -> None:
    plan = plan_of(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)
    other = plan_of(shuffled)
    assert other.arrays == plan.arrays
    assert other.files.equals(plan.files)
    assert other.frames.equals(plan.frames)
    assert other.wasted_bytes == plan.wasted_bytes
    # Nor does it matter how the table came to be chunked.
    table = files(rows)
    chunked = make_plan(
        table.slice(0, 1).combine_chunks() if len(rows) == 1 else _chunks(table),
        REJECTS.empty_table(), Recipe(),
    )  # fmt: skip
    assert chunked.frames.equals(plan.frames)


def _chunks(table: Any) -> Any:
    import pyarrow as pa

    return pa.concat_tables([table.slice(1), table.slice(0, 1)])


@_MANY
@given(_ROWS)
def test_a_stack_is_of_one_kind_and_lies_together(rows: list[dict[str, Any]]) -> None:
    of = {row["path"]: row for row in rows}
    stacks: dict[int, list[dict[str, Any]]] = {}
    for row in frames_of(plan_of(rows)):
        stacks.setdefault(row["stack"], []).append(row)
    for members in stacks.values():
        assert [m["stack_index"] for m in members] == list(range(len(members)))
        first = members[0]
        assert [m["row"] for m in members] == list(range(first["row"], first["row"] + len(members)))
        for key in ("array", "orientation", "spacing_y", "image_type", "stack_regular"):
            assert len({repr(m[key]) for m in members}) == 1, key
        for key in ("series_uid", "samples", "unit", "kind"):
            assert len({of[m["path"]][key] for m in members}) == 1, key
        assert len({_size(of[m["path"]]) for m in members}) == 1
        if first["stack_regular"] is False and "one-place" in first["stack_flags"]:
            assert len({repr(m["position"]) for m in members}) <= 2  # 0.0004 mm is no step
        elif first["stack_regular"] is not None:
            # Each position once: the projection on the normal of axial planes is z, else x.
            axis = 2 if first["orientation"] == AXIAL else 0
            places = [round(m["position"][axis], 3) for m in members]
            assert len(set(places)) == len(places)
            steps = np.diff(places)
            assert len(steps)
            even = bool(np.allclose(steps, steps[0]))
            assert first["stack_regular"] is even
            assert even or {"gap", "uneven"} & set(first["stack_flags"])


@_MANY
@given(_ROWS, st.integers(1, 9), st.integers(1, 3))
def test_parts_are_all_tasks_once_and_shards_keep_their_size(
    rows: list[dict[str, Any]], of: int, shard_mib: int
) -> None:
    # Frames of 0.5 MiB and more, so that shards of 1 to 3 MiB fill up.
    sides = (("height", 100), ("part_height", 100), ("width", 200), ("part_width", 200))
    big = [{**row, **{k: row[k] and n * row[k] for k, n in sides}} for row in rows]
    plan = plan_of(big, shard_mib=shard_mib)
    every = tasks(plan)
    parts = [part(every, k, of) for k in range(of)]
    assert sorted((t for p in parts for t in p), key=lambda t: t.start) == every
    assert _covered(plan, every) == plan.frames.num_rows
    for task in every:
        spec = plan.arrays[task.array]
        frames = task.stop - task.start
        assert frames == min(spec.frames_per_shard, spec.slots - task.shard * spec.frames_per_shard)
        assert frames == 1 or frames * spec.slot_bytes <= shard_mib << 20
    loads = [sum(t.cost for t in p) for p in parts]
    # Balanced: no part has more than the fair share and one task.
    assert max(loads) <= sum(loads) / of + max(t.cost for t in every) + 1e-6


def _covered(plan: Plan, every: list[Any]) -> int:
    """Rows that the tasks cover, one after another without a gap."""
    at = 0
    for task in every:
        assert task.start == at
        rows = plan.frames.slice(task.start, task.stop - task.start).to_pylist()
        spec = plan.arrays[task.array]
        assert [r["row"] // spec.frames_per_shard for r in rows] == [task.shard] * len(rows)
        assert {r["array"] for r in rows} == {task.array}
        at = task.stop
    return at


_WHOLE = [("uint8", 0, 255), ("int16", -(2**15), 2**15 - 1), ("uint16", 0, 2**16 - 1),
          ("int32", -(2**31), 2**31 - 1)]  # fmt: skip


def _range(row: dict[str, Any], frame: int) -> tuple[Fraction, Fraction, bool]:
    """(least, greatest, whole) of a frame's values as its header says, exactly."""
    if row["lut_low"] is not None:
        return Fraction(row["lut_low"]), Fraction(row["lut_high"]), True
    if row["palette_bits"]:
        return Fraction(0), Fraction(2 ** row["palette_bits"] - 1), True
    bits = row["bits_stored"]
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if row["signed"] else (0, 2**bits - 1)
    said = (row["per_frame"] or [{}] * row["frames"])[frame]
    slope = said.get("slope") or row["slope"]
    slope = Fraction(1 if slope is None else slope)
    intercept = Fraction(row["intercept"] or 0)
    ends = sorted((slope * low + intercept, slope * high + intercept))
    whole = slope.denominator == intercept.denominator == 1
    return ends[0], ends[1], whole and row["pixel_keyword"] == "PixelData"


@_MANY
@given(_ROWS)
def test_the_type_holds_what_the_headers_of_a_stack_allow(rows: list[dict[str, Any]]) -> None:
    of = {row["path"]: row for row in rows}
    plan = plan_of(rows)
    stacks: dict[int, list[dict[str, Any]]] = {}
    for row in frames_of(plan):
        stacks.setdefault(row["stack"], []).append(row)
    for members in stacks.values():
        ranges = [_range(of[m["path"]], m["frame"]) for m in members]
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        if not all(r[2] for r in ranges):
            expected = "float32"
        elif of[members[0]["path"]]["unit"] == "HU":
            expected = "int16"
        else:
            fitting = [name for name, least, most in _WHOLE if least <= low and high <= most]
            expected = fitting[0] if fitting else "float64"
        assert plan.arrays[members[0]["array"]].dtype == expected


@_MANY
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_rare_sizes_share_slots_until_the_arrays_are_few(
    sizes: list[tuple[int, int]], max_arrays: int
) -> None:
    rows = [header(f"f{k:02}", height=h, width=w) for k, (h, w) in enumerate(sizes)]
    plan = plan_of(rows, max_arrays=max_arrays)
    assert len(plan.arrays) <= max_arrays
    of = {row["path"]: row for row in rows}
    members: dict[int, list[tuple[int, int]]] = {}
    for row in frames_of(plan):
        own = of[row["path"]]
        members.setdefault(row["array"], []).append((own["height"], own["width"]))
    for number, shapes in members.items():
        # A slot is just large enough for its members.
        assert plan.arrays[number].slot == (max(h for h, _ in shapes), max(w for _, w in shapes))


def test_a_size_that_fills_a_shard_keeps_its_shape() -> None:
    many = [header(f"m{k:03}", height=500, width=511) for k in range(5)]  # 2.4 MiB of 1 MiB shards
    rare = [header(f"r{k:03}", height=500 + k, width=512) for k in range(1, 9)]
    plan = plan_of([*many, *rare], max_arrays=3, shard_mib=1)
    assert "int16_500x511" in [spec.name for spec in plan.arrays]
    assert len(plan.arrays) <= 3


@pytest.mark.parametrize(
    ("height", "width", "bits"),
    [
        (512, 512, 12), (64, 64, 12), (128, 128, 8), (1024, 1024, 12), (2500, 3000, 12),
        (3518, 4280, 12),  # 28.7 MiB: four in a shard
    ],
)  # fmt: skip
def test_few_files_hold_many_pixels(height: int, width: int, bits: int) -> None:
    """A file for 100 MiB, and one more: inodes are counted on clusters."""
    size = height * width * (1 if bits == 8 else 2)
    n = (1 << 30) // size
    row = header("a", frames=n, height=height, width=width, bits_stored=bits, high_bit=bits - 1)
    every = tasks(plan_of([row]))
    assert sum(task.stop - task.start for task in every) == n
    assert len(every) <= n * size / (100 << 20) + 1


@pytest.mark.parametrize(
    ("rows", "max_arrays", "needed"),
    [
        ([header("a"), header("b", bits_stored=8, series_uid="2")], 1, 2),  # two types
        ([header("a", bits_stored=8), header("b", bits_stored=8, samples=3, photometric="RGB",
                                             slope=None, intercept=None)], 1, 2),  # grey and colour
    ],
)  # fmt: skip
def test_too_few_arrays_is_said(rows: list[dict[str, Any]], max_arrays: int, needed: int) -> None:
    with pytest.raises(RecipeError, match=f"max_arrays {max_arrays} is too few.*need {needed}"):
        plan_of(rows, max_arrays=max_arrays)


def test_parts_weigh_compressed_frames_more() -> None:
    slow = [header(f"j{k}", transfer_syntax="1.2.840.10008.1.2.4.90", height=600, width=900)
            for k in range(4)]  # fmt: skip
    fast = [header(f"n{k}", height=601, width=900) for k in range(4)]
    every = tasks(plan_of([*slow, *fast], shard_mib=1))
    assert len(every) == 8
    kinds = [Counter(task.array for task in part(every, k, 2)) for k in range(2)]
    assert [kind[0] for kind in kinds] == [2, 2]  # the slow ones are dealt out evenly
