"""Which frames are one volume where a series holds several, or is not what it seems."""

from __future__ import annotations

from math import cos, pi, radians, sin
from random import Random
from typing import Any

import numpy as np
import pytest

from dicom2cache.arrow import ints
from dicom2cache.planning import stacks as stacking
from tests.support.plans import AXIAL, SAGITTAL, assembled, frames_of, header, plan_of

Row = dict[str, Any]


def at(name: str, z: float, **values: Any) -> Row:
    """An axial slice at height z, mm."""
    return header(name, **{"position": [10.0, -20.0, z], "orientation": AXIAL, **values})


def volume(name: str, zs: Any, first: int = 1, **values: Any) -> list[Row]:
    """Slices NAME0, NAME1, ... with instance numbers from `first` on."""
    return [at(f"{name}{k}", z, instance=first + k, **values) for k, z in enumerate(zs)]


def names(name: str, count: int) -> list[str]:
    return [f"{name}{k}" for k in range(count)]


def evenly(count: int, step: float = 2.5, start: float = 0.0) -> list[float]:
    return [start + step * k for k in range(count)]


FOUR = evenly(4)


def interleaved(*volumes: list[Row]) -> list[Row]:
    """Instance numbers that run through the volumes at one place before the next place."""
    rows = [row for place in zip(*volumes, strict=True) for row in place]
    return [{**row, "instance": k + 1} for k, row in enumerate(rows)]


_KINDS: dict[str, tuple[list[Row], list[tuple[str, list[str]]]]] = {
    # dynamic PET: frame reference time alone tells the times apart
    "times": (
        volume("a", FOUR, 1, time=15e3) + volume("b", FOUR, 5, time=6e4),
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    # the last volume was cut short: it is judged alone
    "cut-short": (
        volume("a", FOUR, 1, time=0.0) + volume("b", FOUR, 5, time=1e3)
        + volume("c", FOUR[:3], 9, time=2e3),
        [("+", names("a", 4)), ("+", names("b", 4)), ("+", names("c", 3))],
    ),
    # one slice of one volume is missing: the others stay whole
    "hole": (
        [row for t, n in enumerate("ab") for row in volume(n, FOUR, 1 + 4 * t, temporal_index=t)
         if row["path"] != "b2"],
        [("+", names("a", 4)), ("- gap", ["b0", "b1", "b3"])],
    ),
    # nothing tells the volumes apart, whose slices follow one another: passes over the places
    "passes": (
        volume("a", FOUR, 1) + volume("b", FOUR, 5),
        [("+ repeated", names("a", 4)), ("+ repeated", names("b", 4))],
    ),
    # nothing tells them apart, a slice is missing in the first: it does not pull on the second
    "passes-hole": (
        [*volume("a", FOUR[:2], 1), at("a3", 7.5, instance=3), *volume("b", FOUR, 4),
         *volume("c", FOUR, 8)],
        [("- gap repeated", ["a0", "a1", "a3"]), ("+ repeated", names("b", 4)),
         ("+ repeated", names("c", 4))],
    ),
    # all times at one place, then the next place: by occurrence
    "slice-first": (
        interleaved(volume("a", FOUR), volume("b", FOUR), volume("c", FOUR)),
        [("+ repeated", names("a", 4)), ("+ repeated", names("b", 4)),
         ("+ repeated", names("c", 4))],
    ),
    # one slice was sent twice under another UID: the volume is whole, the copy is apart
    "sent-twice": (
        [*volume("a", FOUR), at("x", 5.0, instance=3)],
        [("+ repeated", names("a", 4)), ("- repeated one-place", ["x"])],
    ),
    # trigger times differ from slice to slice: their rank at each place tells the phases
    "heart-beats": (
        [at(f"t{t}z{k}", z, trigger_time=t * (300.0 + 7 * k), instance=1 + 3 * k + t)
         for k, z in enumerate(FOUR) for t in range(3)],
        [("+", [f"t{t}z{k}" for k in range(4)]) for t in range(3)],
    ),
    # acquisition times differ from slice to slice as well
    "clock": (
        [at(f"t{t}z{k}", z, acquired=1e12 + 4000 * t + 100 * k) for k, z in enumerate(FOUR)
         for t in range(3)],
        [("+", [f"t{t}z{k}" for k in range(4)]) for t in range(3)],
    ),
    # echo times within 0.5 ms that are two all the same
    "short-echoes": (
        volume("a", FOUR, 1, echo_time=0.07) + volume("b", FOUR, 5, echo_time=0.3),
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    # echo times that jitter in the fourth digit are one
    "echo-jitter": (
        [at(f"{e}{k}", z, echo_time=te + 1e-4 * k) for k, z in enumerate(FOUR)
         for e, te in (("a", 5.0), ("b", 9.0))],
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    # b-values of 0 and 0.001 are two things to the vendor
    "tiny-b": (
        volume("a", FOUR, 1, b_value=0.0) + volume("b", FOUR, 5, b_value=0.001)
        + volume("c", FOUR, 9, b_value=1000.0),
        [("+", names("a", 4)), ("+", names("b", 4)), ("+", names("c", 4))],
    ),
    # directions; acquisition number differs in three slices, and must not tear
    "acquisition-tears": (
        interleaved(*(
            [{**row, "b_value": 1000.0 * (g > 0), "gradient": [float(g == k) for k in (1, 2, 3)],
              "acquisition": 19 if (k, g) in ((2, 1), (2, 2), (3, 1)) else 22}
             for k, row in enumerate(volume(f"g{g}z", FOUR))]
            for g in range(4)
        )),
        [("+", names(f"g{g}z", 4)) for g in range(4)],
    ),
    # directions in axes that are not known; without instance numbers acquisition numbers order them
    "said-directions": (
        [at(f"{n}{k}", z, gradient_said=g, acquisition=t) for k, z in enumerate(FOUR)
         for t, (n, g) in enumerate([("c", [1.0, 0.0, 0.0]), ("b", [0.0, 1.0, 0.0]),
                                     ("a", [0.0, 0.0, 1.0])])],
        [("+", names("c", 4)), ("+", names("b", 4)), ("+", names("a", 4))],
    ),
    # b = 0 several times, then directions: what no element tells apart is told by order
    "several-b0": (
        volume("a", FOUR, 1, b_value=0.0) + volume("b", FOUR, 5, b_value=0.0)
        + volume("c", FOUR, 9, b_value=1e3, gradient=[1.0, 0.0, 0.0])
        + volume("d", FOUR, 13, b_value=1e3, gradient=[0.0, 1.0, 0.0]),
        [("+ repeated", names("a", 4)), ("+ repeated", names("b", 4)), ("+", names("c", 4)),
         ("+", names("d", 4))],
    ),
    # two echoes over time: pairs, when no single element does
    "pair": (
        [at(f"t{t}e{e}z{k}", z, echo_time=e, temporal_index=t) for t in (1, 2) for e in (5, 9)
         for k, z in enumerate(FOUR)],
        [("+", names(f"t{t}e{e}z", 4)) for t in (1, 2) for e in (5, 9)],
    ),
    # flip angles, two inversion times and labels: triples
    "triple": (
        [at(f"f{f}i{i}{c}z{k}", z, flip_angle=f, inversion_time=i, asl_label=c)
         for f in (2.0, 9.0) for i in (100.0, 900.0) for c in ("CONTROL", "LABEL")
         for k, z in enumerate(FOUR)],
        [("+", names(f"f{f}i{i}{c}z", 4)) for f in (2.0, 9.0) for i in (100.0, 900.0)
         for c in ("CONTROL", "LABEL")],
    ),
    # gated CT: percent of the cycle
    "phases": (
        volume("b", FOUR, 1, phase=50.0) + volume("a", FOUR, 5, phase=0.0),
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    # phases of different extent, by acquisition number: no place has three slices
    "extents": (
        volume("a", evenly(10), 1, acquisition=1) + volume("b", evenly(5), 11, acquisition=2)
        + volume("c", evenly(4, 2.5, 15.0), 16, acquisition=3),
        [("+", names("a", 10)), ("+", names("b", 5)), ("+", names("c", 4))],
    ),
    # phases whose tables differ by 0.3 mm, and in length: no place repeats, and the union is uneven
    "moved-table": (
        volume("a", evenly(10, 5), 1, acquisition=1)
        + volume("b", evenly(8, 5, 0.3), 11, acquisition=2),
        [("+", names("a", 10)), ("+", names("b", 8))],
    ),
    # axial shots of four slices each, one slice missing: a gap, and not torn to shots
    "shots": (
        [at(f"z{k}", 5.0 * k, acquisition=k // 4) for k in range(16) if k != 9],
        [("- gap", [f"z{k}" for k in range(16) if k != 9])],
    ),
    # two volumes side by side: where slices begin in their plane counts
    "side-by-side": (
        volume("a", FOUR, 1) + [
            at(f"b{k}", z, instance=5 + k, position=[210.0, -20.0, z]) for k, z in enumerate(FOUR)],
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    # two enhanced files of one series with the same places
    "two-files": (
        [header(n, frames=3, per_frame=[{"position": [0.0, 0.0, z], "orientation": AXIAL}
                                        for z in (0.0, 1.0, 2.0)]) for n in ("a", "b")],
        [("+", ["a#0", "a#1", "a#2"]), ("+", ["b#0", "b#1", "b#2"])],
    ),
    # directions of one enhanced file are in the order of its frames
    "frames-in-order": (
        [header("m", frames=9, instance=1, per_frame=[
            {"position": [0.0, 0.0, z], "orientation": AXIAL, "gradient": g}
            for g in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
            for z in (0.0, 1.0, 2.0)])],
        [("+", [f"m#{3 * g + z}" for z in range(3)]) for g in range(3)],
    ),
    # an enhanced file whose dimension indices alone tell times apart
    "dimensions": (
        [header("m", frames=6, per_frame=[
            {"position": [0.0, 0.0, z], "orientation": AXIAL, "dimensions": [t, int(z) + 1]}
            for z in (0.0, 1.0, 2.0) for t in (1, 2)])],
        [("+", ["m#0", "m#2", "m#4"]), ("+", ["m#1", "m#3", "m#5"])],
    ),
    # patients: never two in a stack, whatever the UIDs
    "patients": (
        [at(f"{p}{k}", 2.5 * k + 1.25 * (p == "b"), patient=p) for p in "ab" for k in range(4)],
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    # no Patient ID anywhere: names or birth dates tell them apart
    "names": (
        [at(f"{p}{k}", 2.5 * k + 1.25 * (p == "b"), person=p) for p in "ab" for k in range(4)],
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    # one Patient ID for all, as anonymisers write it: birth dates tell patients apart, else names
    "one-id-births": (
        [at(f"{p}{k}", 2.5 * k + 1.25 * (p == "b"), patient="ANON", person="x", born=p)
         for p in "ab" for k in range(4)],
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    "one-id-names": (
        [at(f"{p}{k}", 2.5 * k + 1.25 * (p == "b"), patient="ANON", person=p)
         for p in "ab" for k in range(4)],
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    "one-id-two-spellings": (  # the birth date decides
        [at(f"a{k}", z, patient="ANON", person=f"x{k}", born="1") for k, z in enumerate(FOUR)],
        [("+", names("a", 4))],
    ),
    "one-id-some-births": (  # a file without a birth date is of who has its name
        [at(f"{p}{k}", 2.5 * k + 1.25 * (p == "b"), patient="ANON", person=p,
            born=p if k % 2 else None) for p in "ab" for k in range(4)],
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    "one-id-some-say-nothing": (
        [at(f"a{k}", z, patient="ANON", **({"person": "x", "born": "1"} if k % 2 else {}))
         for k, z in enumerate(FOUR)],
        [("+", names("a", 4))],
    ),
    # without a series, nothing says that files belong together
    "no-series": (
        [at(f"a{k}", z, series_uid=None) for k, z in enumerate((0, 1))],
        [("- one-place", ["a0"]), ("- one-place", ["a1"])],
    ),
    # one series under a study UID for each slice is one
    "studies": (
        [at(f"a{k}", z, study_uid=f"1.{k}") for k, z in enumerate(FOUR)],
        [("+ joined", names("a", 4))],
    ),
    # two studies that are volumes by themselves are not one, though their series say the same UID
    # and nothing of a frame of reference: interleaved, one after the other, without positions
    "studies-interleaved": (
        [at(f"{s}{k}", 5.0 * k + 2.5 * (s == "b"), study_uid=s, frame_of_reference_uid=None)
         for s in "ab" for k in range(3)],
        [("+", names("a", 3)), ("+", names("b", 3))],
    ),
    "studies-in-turn": (
        [at(f"{s}{k}", 2.5 * k + 7.5 * (s == "b"), study_uid=s, frame_of_reference_uid=None)
         for s in "ab" for k in range(3)],
        [("+", names("a", 3)), ("+", names("b", 3))],
    ),
    "studies-of-two": (  # too short to be anything by themselves
        [at(f"{s}{k}", 2.5 * k + 5.0 * (s == "b"), study_uid=s) for s in "ab" for k in range(2)],
        [("+ joined", ["a0", "a1", "b0", "b1"])],
    ),
    "studies-nowhere": (
        [header(f"{s}{k}", instance=k, study_uid=s) for s in "ab" for k in range(2)],
        [("? order-by-instance", names("a", 2)), ("? order-by-instance", names("b", 2))],
    ),
    # b-values that wobble from slice to slice tear no volume
    "b-wobble": (
        [row for t, n in enumerate("abc") for k, row in enumerate(volume(n, FOUR, 1 + 4 * t))
         for row in [{**row, "b_value": 500.0 * t + k % 2}]],
        [("+", names(n, 4)) for n in "abc"],
    ),
    # nor does a number that alternates, where the order of the instances finds whole volumes
    "alternating": (
        [row for t, n in enumerate("abc") for k, row in enumerate(volume(n, FOUR, 1 + 4 * t))
         for row in [{**row, "flip_angle": 20.0 * t + k % 2}]],
        [("+ repeated", names(n, 4)) for n in "abc"],
    ),
    # a frame of reference for each slice
    "reference-each": (
        [at(f"a{k}", z, frame_of_reference_uid=f"1.{k}") for k, z in enumerate(FOUR)],
        [("+ joined", names("a", 4))],
    ),
    # and a slice is missing, or no two are at one distance: it says nothing all the same
    "reference-each-gap": (
        [at(f"a{k}", z, frame_of_reference_uid=f"1.{k}") for k, z in enumerate((0.0, 2.5, 7.5))],
        [("- gap joined", names("a", 3))],
    ),
    # and nobody knows where the slices lie
    "reference-each-nowhere": (
        [header(f"a{k}", frame_of_reference_uid=f"1.{k}", instance=k) for k in range(3)],
        [("? order-by-instance", names("a", 3))],
    ),
    # the same over time
    "reference-each-time": (
        [at(f"{t}{k}", z, frame_of_reference_uid=f"1.{t}.{k}", temporal_index=ord(t))
         for t in "ab" for k, z in enumerate(FOUR)],
        [("+ joined", names("a", 4)), ("+ joined", names("b", 4))],
    ),
    # two frames of reference with a regular stack each: two, though the union is even
    "two-references": (
        volume("a", FOUR, 1, frame_of_reference_uid="1")
        + volume("b", evenly(4, 2.5, 10.0), 5, frame_of_reference_uid="2"),
        [("+", names("a", 4)), ("+", names("b", 4))],
    ),
    # frames of reference whose union is uneven are not joined
    "uneven-references": (
        [at(f"a{k}", z, frame_of_reference_uid=f"1.{k // 2}")
         for k, z in enumerate((0.0, 2.5, 6.0, 8.5))],
        [("+", ["a0", "a1"]), ("+", ["a2", "a3"])],
    ),
    # slices that were derived, in the middle of a series
    "derived": (
        [at(f"a{k}", z, image_type="DERIVED\\SECONDARY" if k in (2, 5) else "ORIGINAL\\PRIMARY")
         for k, z in enumerate(evenly(8))],
        [("+ joined", names("a", 8))],
    ),
    # three of them in a row close the hole in the others, and are no stack of their own
    "derived-row": (
        [at(f"a{k}", z, image_type="DERIVED" if k in (3, 4, 5) else "ORIGINAL")
         for k, z in enumerate(evenly(9))],
        [("+ joined", names("a", 9))],
    ),
    # every second one
    "derived-alternate": (
        [at(f"a{k}", z, image_type="DERIVED" if k % 2 else "ORIGINAL")
         for k, z in enumerate(evenly(8))],
        [("+ joined", names("a", 8))],
    ),
    # a block of them after the others is a stack of its own
    "derived-after": (
        [at(f"a{k}", z, image_type="DERIVED" if k > 3 else "ORIGINAL")
         for k, z in enumerate(evenly(8))],
        [("+", ["a4", "a5", "a6", "a7"]), ("+", ["a0", "a1", "a2", "a3"])],
    ),
    # value 4 of Image Type
    "added": (
        [at(f"a{k}", z, image_type="ORIGINAL\\PRIMARY\\AXIAL" + "\\ADD" * (k in (0, 3)))
         for k, z in enumerate(evenly(5))],
        [("+ joined", names("a", 5))],
    ),
    # some slices went through a lossy codec
    "lossy": (
        [at(f"a{k}", z, lossy=k == 1) for k, z in enumerate(FOUR)], [("+ joined", names("a", 4))],
    ),
    # magnitude and phase at the same places are two volumes
    "magnitude-phase": (
        volume("m", FOUR, 1, image_type="ORIGINAL\\PRIMARY\\M")
        + volume("p", FOUR, 5, image_type="ORIGINAL\\PRIMARY\\P"),
        [("+", names("m", 4)), ("+", names("p", 4))],
    ),
    # and over time
    "magnitude-phase-time": (
        [at(f"{t}{part}{k}", z, image_type=f"ORIGINAL\\{part}", temporal_index=t)
         for t in (1, 2) for part in "MP" for k, z in enumerate(FOUR)],
        [("+", names(f"{t}{part}", 4)) for part in "MP" for t in (1, 2)],
    ),
    # one coronal frame in an axial series, and localizers of three planes
    "coronal": (
        [*volume("a", FOUR), at("c", 3.0, orientation=[1.0, 0.0, 0.0, 0.0, 0.0, -1.0])],
        [("- one-place", ["c"]), ("+", names("a", 4))],
    ),
    "three-planes": (
        [header(f"{n}{k}", position=[10.0 * k * (n == "s"), 10.0 * k * (n == "c"),
                                     10.0 * k * (n == "a")], orientation=o)
         for n, o in (("a", AXIAL), ("s", SAGITTAL), ("c", [1.0, 0.0, 0.0, 0.0, 0.0, -1.0]))
         for k in range(3)],
        [("+", ["s2", "s1", "s0"]), ("+", names("c", 3)), ("+", names("a", 3))],
    ),
    # what is missing, and what is uneven
    "gap": ([at(f"a{k}", z) for k, z in enumerate((0.0, 2.5, 5.0, 10.0))],
            [("- gap", names("a", 4))]),
    "uneven": ([at(f"a{k}", z) for k, z in enumerate((0.0, 2.5, 5.0, 8.6))],
               [("- uneven", names("a", 4))]),
    # steps within 2% of the median step
    "nearly-even": ([at(f"a{k}", z) for k, z in enumerate((0.0, 2.5, 5.045, 7.5))],
                    [("+", names("a", 4))]),
    # without positions: Slice Location, evenly and not; Instance Number; nothing
    "locations": (
        [header(f"a{k}", slice_location=z, instance=9 - k) for k, z in enumerate(FOUR)],
        [("+ order-by-location", names("a", 4))],
    ),
    "uneven-locations": (
        [header(f"a{k}", slice_location=z) for k, z in enumerate((0.0, 1.0, 7.7))],
        [("- uneven order-by-location", names("a", 3))],
    ),
    # repeats among locations are split as those of positions are
    "locations-times": (
        [header(f"{t}{k}", slice_location=z, temporal_index=ord(t)) for t in "ab"
         for k, z in enumerate(FOUR)],
        [("+ order-by-location", names("a", 4)), ("+ order-by-location", names("b", 4))],
    ),
    # one series UID for two studies, or two image types of two slices, at the same places: what
    # frames say of themselves tells them apart, and not the order of their UIDs
    **{
        column: (
            [at(f"{v}{k}", z, instance=k, sop_uid=f"1.{(k + (v == 'a')) % 2}.{v}{k}",
                **{column: f"1.{v}"}) for v in "ab" for k, z in enumerate(FOUR[:slices])],
            [("+", names("a", slices)), ("+", names("b", slices))],
        )
        for column, slices in (("study_uid", 4), ("image_type", 2), ("frame_of_reference_uid", 2))
    },
    # places repeat, and neither elements nor the order of instances tell which belong together
    "ambiguous": (
        [at(f"{v}{k}", z, instance=k, sop_uid=f"1.{v}{k}") for v in "ab"
         for k, z in enumerate(FOUR)],
        [("+ repeated order-unknown", names("a", 4)), ("+ repeated order-unknown", names("b", 4))],
    ),
    "instances": ([header(f"a{k}", instance=k) for k in range(3)],
                  [("? order-by-instance", names("a", 3))]),
    # one place over time: the number of the moment orders it
    "moments": (
        [at(f"a{k}", 5.0, instance=1, temporal_index=k) for k in range(3)],
        [("- one-place", names("a", 3))],
    ),
    "no-order": ([header(f"a{k}", instance=7) for k in range(3)],
                 [("? order-unknown", names("a", 3))]),
    # clips of ultrasound are a stack each, single images of the series one
    "clips": (
        [header("b", frames=2, instance=1), header("a", frames=2, instance=2),
         header("i1", instance=3), header("i2", instance=4)],
        [("? order-by-instance", ["i1", "i2"]), ("?", ["a#0", "a#1"]), ("?", ["b#0", "b#1"])],
    ),
    # a clip that says where it lies, once for all frames, and another at that place
    "clips-at-one-place": (
        [at(n, 1.0, frames=2) for n in "ab"],
        [("- one-place", ["a#0", "a#1"]), ("- one-place", ["b#0", "b#1"])],
    ),
    # a concatenation is one, in its own order, though all have one Instance Number
    "concatenation": (
        [header(n, frames=2, instance=1, concatenation_uid="1.7", in_concatenation=k, sop_uid=u)
         for n, k, u in (("a", 2, "1.1"), ("b", 1, "1.2"))],
        [("?", ["b#0", "b#1", "a#0", "a#1"])],
    ),
    # frames without positions are in the order of their dimension indices
    "indexed": (
        [header("m", frames=3, per_frame=[{"dimensions": d} for d in ([2, 1], [1, 2], [1, 1])])],
        [("?", ["m#2", "m#1", "m#0"])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", _KINDS)
def test_kinds_of_series(kind: str) -> None:
    rows, expected = _KINDS[kind]
    rows = list(rows)
    for seed in range(4):  # in whatever order the files come
        assert assembled(plan_of(rows)) == expected
        Random(seed).shuffle(rows)


@pytest.mark.parametrize("kind", _KINDS)
def test_the_way_for_many_groups_finds_what_the_way_for_one_does(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(at: Any, *_: Any) -> tuple[Any, Any]:
        return np.zeros(len(at.place), np.int64), np.zeros(len(at.place), bool)

    monkeypatch.setattr(stacking, "split_by_one", none)
    assert assembled(plan_of(_KINDS[kind][0])) == _KINDS[kind][1]


def test_parts_of_one_acquisition_say_so() -> None:
    rows = volume("b", FOUR, 5, temporal_index=2) + volume("a", FOUR, 1, temporal_index=1)
    rows += [{**row, "series_uid": "0"} for row in volume("c", FOUR)]
    said = {r["path"]: (r["stack"], r["stack_of"], r["part"]) for r in frames_of(plan_of(rows))}
    assert said["c0"] == (0, 0, 0)
    assert said["a0"] == said["a3"] == (1, 1, 0)
    assert said["b0"] == said["b3"] == (2, 1, 1)


def test_parts_in_several_arrays_are_of_one_acquisition() -> None:
    # A slope of 0.5 makes one part float32, whose array comes first.
    rows = volume("a", FOUR, 1, temporal_index=1)
    rows += volume("b", FOUR, 5, temporal_index=2, slope=0.5)
    said = {r["path"]: (r["stack"], r["stack_of"], r["part"]) for r in frames_of(plan_of(rows))}
    assert said["b0"] == (0, 0, 1)
    assert said["a0"] == (1, 0, 0)


def _tilted(angle: float, column: float, count: int = 5) -> list[Row]:
    """Slices one above the other, 5 mm apart, whose planes are turned about the row direction."""
    turned = [1.0, 0.0, 0.0, 0.0, cos(radians(angle)), -sin(radians(angle))]
    return [
        at(f"a{k}", 5.0 * k, orientation=turned, position=[0.0, column * k, 5.0 * k],
           spacing_y=0.5, spacing_x=0.5)
        for k in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("angle", "column", "flags", "tilt"),
    [
        (20.0, 0.0, "+ tilted", 20.0),
        (-14.0, 0.0, "+ tilted", -14.0),
        (0.0, 0.0, "+", None),
        (0.4, 0.0, "+", None),  # below half a degree
        # a table that rises along the columns shears as well
        (0.0, -1.0, "+ tilted", 180 / pi * np.arctan(0.2)),
        (0.0, 0.05, "+", None),  # 0.57 degrees, but 0.2 mm in all: less than half a pixel
    ],
)
def test_tilt_comes_from_positions(
    angle: float, column: float, flags: str, tilt: float | None
) -> None:
    plan = plan_of(_tilted(angle, column))
    assert assembled(plan) == [(flags, names("a", 5))]
    assert {r["tilt"] and round(r["tilt"], 6) for r in frames_of(plan)} == {tilt and round(tilt, 6)}


def test_slices_that_do_not_lie_on_a_line_are_uneven() -> None:
    rows = [at(f"a{k}", 5.0 * k, position=[0.0, 3.0 * (k == 2), 5.0 * k]) for k in range(5)]
    assert assembled(plan_of(rows)) == [("- uneven", names("a", 5))]


def _turned(degrees: float) -> list[float]:
    s, c = sin(radians(degrees)), cos(radians(degrees))
    return [c, s, 0.0, -s, c, 0.0]


def test_orientations_that_jitter_are_one_wherever_they_lie() -> None:
    # Every angle, so that no grid of whatever step can tear them apart by chance.
    for degrees in range(0, 360, 7):
        rows = [at(f"a{k}", z, orientation=_turned(degrees + 0.025 * (-1) ** k))
                for k, z in enumerate(FOUR)]  # fmt: skip
        assert assembled(plan_of(rows)) == [("+", names("a", 4))], degrees


def test_orientations_do_not_chain() -> None:
    rows = [at(f"a{k:03}", 2.5 * k, orientation=_turned(0.05 * k)) for k in range(360)]
    stacks: dict[int, list[float]] = {}
    for row in frames_of(plan_of(rows)):
        stacks.setdefault(row["stack"], []).append(0.05 * int(row["path"][1:]))
    assert max(max(angles) - min(angles) for angles in stacks.values()) < 0.06
    shuffled = list(rows)
    Random(3).shuffle(shuffled)
    assert assembled(plan_of(shuffled)) == assembled(plan_of(rows))


@pytest.mark.parametrize("jitter", [2e-5, 0.004, 0.02])
def test_positions_that_jitter_over_time_are_one_place(jitter: float) -> None:
    # 0.02 mm is 0.8% of the step
    rows = [at(f"{t}{k}", z + jitter * n, temporal_index=n)
            for n, t in enumerate("ab") for k, z in enumerate(FOUR)]  # fmt: skip
    assert assembled(plan_of(rows)) == [("+", names("a", 4)), ("+", names("b", 4))]


def test_slices_of_a_microscope_are_not_one_place() -> None:
    rows = [at(f"a{k}", 0.005 * k, spacing_y=0.005, spacing_x=0.005) for k in range(6)]
    assert assembled(plan_of(rows)) == [("+", names("a", 6))]


def test_spacings_that_jitter_are_one_stack() -> None:
    rows = [at(f"a{k}", z, spacing_y=0.7 + 1e-5 * k, spacing_x=0.7) for k, z in enumerate(FOUR)]
    assert assembled(plan_of(rows)) == [("+", names("a", 4))]
    # Where they are made alike, frames of one size lie in one array all the same.
    plan = plan_of(rows, spacing=0.7)
    assert len({r["array"] for r in frames_of(plan)}) == 1


@pytest.mark.parametrize("cosines", [[0.0] * 6, [1.0, 0.0, 0.0, 1.0, 0.0, 0.0], [float("inf")] * 6])
def test_cosines_that_span_no_plane_are_no_orientation(cosines: list[float]) -> None:
    rows = [at(f"a{k}", z, orientation=cosines, instance=k) for k, z in enumerate(FOUR)]
    assert assembled(plan_of(rows)) == [("? order-by-instance", names("a", 4))]


def test_what_tells_patients_and_days_apart_is_in_no_table() -> None:
    plan = plan_of([at("a", 0.0, person="x", born="y", acquired=1e12)])
    for table in (plan.files, plan.frames):
        assert not {"person", "born", "acquired", "gradient_said"} & set(table.column_names)
    assert ints(plan.frames["stack"], -1).tolist() == [0]
