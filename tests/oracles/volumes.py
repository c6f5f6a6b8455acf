"""Series to stacks, held against dcm2niix and SimpleITK's series reader.

`python -m tests.oracles.volumes` writes a series of each kind (series/) and holds the stacks
against both programs and against what was put in: which slices belong together, their order, where
they lie, their values, b-values and directions. `... volumes DIR` does so with a folder of one's
own; `--disturb NAME` changes all files first in a way that must make no difference. Exit status 1
if anything differs for which limits.py has no reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.oracles.limits import (
    Header,
    copied,
    dcm2niix_limit,
    direction_limit,
    limit_of,
    read_headers,
    simpleitk_limit,
)
from tests.oracles.pairs import UNKNOWN, diffusion, geometry, same, slices, text
from tests.oracles.programs import Frame, Ours, Volume, by_dcm2niix, by_simpleitk, volumes_of
from tests.oracles.series import KINDS, Series
from tests.oracles.series.disturbances import DISTURBANCES, disturb

ODD = {"gap", "uneven", "tilted", "one-place", "order-unknown", "repeated", "joined"}
"""flags that a stack must have a reason for"""
SHOWN = 20
"""differences of one series that are printed"""


@dataclass
class Judged:
    """What is to be said of one series."""

    name: str
    equal: Counter[str] = field(default_factory=Counter)
    """judge: volumes in which it agrees"""
    excused: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)
    """who: what he makes of the series"""


def by_program(
    judged: Judged, ours: list[Volume], theirs: list[Volume], headers: Sequence[Header]
) -> None:
    """Pair the volumes of one program with ours; what is left must have an excuse."""
    if not theirs:
        return
    who, left, strange = theirs[0].program, list(ours), []
    groups = defaultdict[str, list[Volume]](list)
    for volume in theirs:
        for mine in left:
            back = same(mine, volume)
            if back is not None:
                left.remove(mine)
                judged.equal[who] += 1
                groups[volume.group].append(mine)
                wrong = [*geometry(mine, volume, back)]
                paths = {path for path, _ in mine.frames}
                if (
                    mine.b is None
                    and volume.b == 0
                    and all(h.kind == "DERIVED" for h in headers if h.path in paths)
                ):
                    judged.excused.append(f"{who} gives b = 0 to maps")
                else:
                    wrong += diffusion(mine, volume)
                unknown = [w for w in wrong if w.endswith(UNKNOWN)]
                if unknown and direction_limit(headers):
                    judged.excused.append(f"{who} is not sure of its directions itself")
                    wrong = [w for w in wrong if w not in unknown]
                judged.differs += [f"{who}, {mine.name}: {what}" for what in wrong]
                break
        else:
            strange.append(volume)
    if who == "dcm2niix" and len({h.instance for h in headers}) < len(headers):
        groups.clear()  # it orders by Instance Number
    for group, pairs in groups.items():
        parts = [v.order for v in pairs]
        if len({v.group for v in pairs}) == 1 and parts != sorted(parts):
            judged.differs.append(f"{who}: its volumes in {group} are our parts {parts}")
    if copied(headers):
        again = [v for v in strange if any(same(mine, v) is not None for mine in ours)]
        if again:
            judged.excused.append(f"{who} converts copies too")
            strange = [v for v in strange if v not in again]
    left = [v for v in left if len(v.pixels) > 1 or strange]  # single pictures are no volumes
    reason = limit_of(who, headers, left, strange) if strange or left else None
    if reason:
        judged.excused.append(f"{who} {reason}")
        return
    for volume in strange:
        judged.differs.append(
            f"{who}'s volume {volume.name} of {len(volume.pixels)} slices is none of ours; "
            f"its slices: {_whereabouts(volume, ours)}"
        )
    if not strange:
        judged.differs += [
            f"{who} has no such volume: {v.name} of {len(v.pixels)} slices" for v in left
        ]


def _whereabouts(volume: Volume, ours: list[Volume]) -> str:
    """In which of our stacks the slices of a volume lie."""
    size = volume.pixels.shape[1:]
    if not any(v.pixels.shape[1:] == size for v in ours):
        return f"of {size}; we have {sorted({v.pixels.shape[1:] for v in ours}) or 'nothing'}"
    home = {s: v.name for v in reversed(ours) for s in slices(v)}
    return _listed(Counter(home.get(s, "no stack, by these values") for s in slices(volume)))


def _listed(places: Counter[str]) -> str:
    shown = [f"{n} in {name}" for name, n in places.most_common(4)]
    return ", ".join(shown) + (f" and {len(places) - 4} more" if len(places) > 4 else "")


def by_header(judged: Judged, ours: list[Volume], headers: Sequence[Header]) -> None:
    """Where single frames lie is what their files say, read by pydicom."""
    said = {h.path: h.position for h in headers if h.frames == 1}
    for volume in ours:
        paths = [path for path, _ in volume.frames]
        if volume.places is None or len(set(paths)) < len(paths):  # slices of a mosaic
            continue
        for path, place in zip(paths, volume.places, strict=True):
            position = said.get(path)
            if position is not None and np.abs(place - position).max() > 1e-6:
                judged.differs.append(
                    f"pydicom, {volume.name}: {path} lies at {text(position)}, not at {text(place)}"
                )


def by_what_was_put_in(judged: Judged, ours: list[Volume], s: Series) -> None:
    """The stacks against the volumes that were written."""
    left, told = list(ours), []
    for n, volume in enumerate(s.put):
        wanted = _once(volume, s)
        mine = next((v for v in left if _once(v.frames, s) == wanted), None)
        if mine is None:
            judged.differs.append(
                f"volume {n} that was put in, of {len(volume)} slices, is none of ours; "
                f"its slices: {_homes(wanted, ours, s)}"
            )
            continue
        left.remove(mine)
        told.append(mine)
        judged.equal["put in"] += 1
        judged.differs += [f"put in, {mine.name}: {what}" for what in _oddities(mine, s)]
    if left and not s.spare:
        judged.differs.append(f"never put in: {_listed(Counter(v.name for v in left))}")
    if s.parts and len(told) == len(s.put) > 1 and told[0].group:
        if len({v.group for v in told}) > 1:
            judged.differs.append("the parts of one acquisition do not share stack_of")
        elif [v.order for v in told] != list(range(len(told))):
            judged.differs.append(f"the parts are numbered {[v.order for v in told]}")


def _once(frames: list[Frame], s: Series) -> list[Frame]:
    return [(s.twins.get(path, path), k) for path, k in frames]


def _homes(wanted: list[Frame], ours: list[Volume], s: Series) -> str:
    """In which of our stacks the frames of a volume lie, and how if all are in one."""
    home = {frame: v for v in ours for frame in _once(v.frames, s)}
    stacks = Counter(home[f].name if f in home else "no stack" for f in wanted)
    if len(stacks) > 1 or len(wanted) < 2 or wanted[0] not in home:
        return _listed(stacks)
    order = _once(home[wanted[0]].frames, s)
    return f"{_listed(stacks)} of {len(order)}, at {[order.index(f) for f in wanted]}"


def _oddities(mine: Volume, s: Series) -> Iterator[str]:
    if len(mine.frames) == 1:  # no volume, whatever it is called
        return
    if mine.regular not in s.regular:
        yield f"stack_regular is {mine.regular}"
    if missing := s.flags - mine.flags:
        yield f"stack_flags lack {', '.join(sorted(missing))}"
    if more := (mine.flags & ODD) - s.flags - s.maybe:
        yield f"stack_flags have {', '.join(sorted(more))}"


def judge(
    folder: Path,
    s: Series | None,
    scratch: Path,
    jobs: int,
    damage: Callable[[list[Volume]], list[Volume]] = list,
) -> Iterator[Judged]:
    """Each series of the folder by every judge; `s` if it is one that was written here.

    `damage` is done to our stacks before: see faults.py.
    """
    headers = read_headers(folder)
    theirs = by_dcm2niix(folder, scratch / "nii")
    ours = Ours(folder, scratch / "cache", jobs)
    for series in sorted(set(headers) | set(theirs) | set(ours.by_series)):
        files, mine = headers.get(series, []), damage(ours.volumes(series))
        first = files[0].path if files else "no file"
        judged = Judged(folder.name if s else f"series {series} ({first}, {len(files)} files)")
        found = [v for path in theirs.get(series, []) for v in volumes_of(path)]
        if limit := dcm2niix_limit(files):
            judged.excused.append(f"dcm2niix {limit}")
        else:
            by_program(judged, mine, found, files)
        read = simpleitk_limit(files) or by_simpleitk(folder, [h.path for h in files], scratch)
        if isinstance(read, str):
            judged.excused.append(f"SimpleITK {read}")
        else:
            by_program(judged, mine, [read], files)
        judged.shapes = {
            "dcm2niix": _sizes(found),
            "SimpleITK": read if isinstance(read, str) else _sizes([read]),
            "dicom2cache": _sizes(mine) + ours.not_stored(f.path for f in files),
        }
        by_header(judged, mine, files)
        if s:
            by_what_was_put_in(judged, mine, s)
            judged.shapes["put in"] = f"{len(s.put)}: " + "; ".join(str(len(v)) for v in s.put)
        yield judged


def _sizes(volumes: list[Volume]) -> str:
    """Such as `3: 2 of 5 regular; 4 irregular uneven`."""
    shown = Counter(
        " ".join([
            str(len(v.pixels)),
            *([] if v.regular is None else ["regular" if v.regular else "irregular"]),
            *sorted(v.flags),
        ])
        for v in volumes
    )  # fmt: skip
    parts = (f"{n} of {what}" if n > 1 else what for what, n in shown.items())
    return f"{len(volumes)}: " + "; ".join(parts)


def tell(judged: Judged) -> None:
    """One line if all agree; else also what each makes of the series, and what differs."""
    agree = ", ".join(f"{who} {n}" for who, n in judged.equal.items())
    print(
        "; ".join(
            [f"{judged.name}: volumes equal to {agree or 'nobody'}", *dict.fromkeys(judged.excused)]
        )
    )
    if judged.differs:
        for who, what in judged.shapes.items():
            print(f"    {who:12} {what}")
        for what in judged.differs[:SHOWN]:
            print(f"    DIFFERS      {what}")
        if len(judged.differs) > SHOWN:
            print(f"    and {len(judged.differs) - SHOWN} differences more")
    sys.stdout.flush()


def main() -> int:
    """Compare, print, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="*", type=Path, help="of one's own series")
    parser.add_argument("--kind", action="append", help="of the synthesised ones, only this")
    parser.add_argument("--disturb", choices=DISTURBANCES, help="change each file first, so")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds = [k for k in KINDS if not given.kind or k.__name__ in given.kind]
    if given.disturb:
        kinds = [k for k in kinds if k.__name__ not in DISTURBANCES[given.disturb].spoils]
    every: list[Judged] = []
    for source in given.folder or kinds:
        with tempfile.TemporaryDirectory() as temporary:
            s = None
            if isinstance(source, Path):
                folder = source
            else:
                folder = Path(temporary, source.__name__)
                folder.mkdir()
                source(s := Series(folder))
                if given.disturb:
                    disturb(s, given.disturb)
            for judged in judge(folder, s, Path(temporary), given.jobs):
                tell(judged)
                every.append(judged)
    bad = sum(bool(j.differs) for j in every)
    programs = Counter[str]()
    for j in every:
        programs += j.equal
    agree = ", ".join(f"{n} as {who}" for who, n in programs.items())
    print(f"{len(every)} series; volumes: {agree or 'none'}; {bad} series with a difference")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
