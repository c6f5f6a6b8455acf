"""Stacks damaged on purpose, each of which the judges of volumes must notice.

`python -m tests.oracles.faults`. Exit status 1 if one is not.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.oracles.programs import Volume
from tests.oracles.series import Series, diffusion, several
from tests.oracles.series import one_volume as one
from tests.oracles.volumes import judge

Damage = Callable[[list[Volume]], list[Volume]]


def change(**how: Callable[[Any], Any]) -> Damage:
    """The last stack with other attributes: name -> what becomes of it."""

    def damage(volumes: list[Volume]) -> list[Volume]:
        *others, last = volumes
        return [*others, replace(last, **{n: f(getattr(last, n)) for n, f in how.items()})]

    return damage


def taken(volume: Volume, slices: Any) -> Volume:
    """Some slices of a volume."""
    places = None if volume.places is None else volume.places[slices]
    frames = [volume.frames[k] for k in np.arange(len(volume.frames))[slices]]
    name = f"{volume.name} from {frames[0][0]}"
    return replace(
        volume, name=name, pixels=volume.pixels[slices], places=places, frames=frames
    )  # fmt: skip


def swapped(volumes: list[Volume]) -> list[Volume]:
    """Two slices in each other's place."""
    order = np.arange(len(volumes[-1].pixels))
    order[[1, 2]] = order[[2, 1]]
    return [*volumes[:-1], taken(volumes[-1], order)]


def joined(volumes: list[Volume]) -> list[Volume]:
    """The first two stacks as one."""
    a, b, *rest = volumes
    assert a.places is not None
    assert b.places is not None
    both = replace(
        a, pixels=np.concatenate([a.pixels, b.pixels]), frames=a.frames + b.frames,
        places=np.concatenate([a.places, b.places]),
    )  # fmt: skip
    return [both, *rest]


def moved(by: float, k: int) -> Callable[[Any], Any]:
    """Slice `k` lies elsewhere."""

    def move(places: Any) -> Any:
        places = places.copy()
        places[k, 2] += by
        return places

    return move


def tipped(affine: Any) -> Any:
    """Slices follow each other a tenth of a millimetre further."""
    step = np.zeros((4, 4))
    step[2, 2] = 0.1
    return affine + step


def off_by_one(pixels: Any) -> Any:
    """One pixel is a grey level brighter."""
    pixels = pixels.copy()
    pixels[1, 3, 4] += 1
    return pixels


def opposite(gradient: Any) -> Any:
    """The other way; unknown stays so."""
    return None if gradient is None else -gradient


def exchanged(volumes: list[Volume]) -> list[Volume]:
    """The order of two parts."""
    a, b, *rest = volumes
    return [replace(a, order=b.order), replace(b, order=a.order), *rest]


FAULTS: list[tuple[str, Callable[[Series], None], Damage]] = [
    ("two slices swapped", one.ct, swapped),
    ("a slice lost", one.ct, lambda v: [taken(v[0], slice(1, None))]),
    ("a volume lost", several.fmri, lambda v: v[1:]),
    ("torn in halves", one.ct, lambda v: [taken(v[0], slice(0, 5)), taken(v[0], slice(5, None))]),
    ("every other slice", one.ct, lambda v: [taken(v[0], np.s_[::2]), taken(v[0], np.s_[1::2])]),
    ("two volumes joined", several.fmri, joined),
    ("upside down", one.ct, change(pixels=lambda p: p[:, ::-1])),
    ("left and right", one.ct, change(pixels=lambda p: p[:, :, ::-1])),
    ("one value", one.ct, change(pixels=off_by_one)),
    ("the first slice moved", one.ct, change(places=moved(0.1, 0))),
    ("the last slice moved", one.ct, change(places=moved(0.1, -1))),
    ("a tilted stack moved", one.tilted, change(places=moved(0.3, -1))),
    ("the first of an uneven stack moved", one.gap, change(places=moved(0.1, 0))),
    ("a longer step in the affine", one.ct, change(affine=tipped)),
    ("rows for columns in the affine", one.ct, change(affine=lambda a: a[:, [1, 0, 2, 3]])),
    ("no places", one.ct, change(places=lambda _: None)),
    ("spacings exchanged", one.ct, change(along_row=lambda v: v * 8 / 7)),
    ("turned by a degree", one.ct, change(along_row=lambda v: v + np.array([0, 0.0175, 0]))),
    ("another b-value", diffusion.diffusion, change(b=lambda _: 999.0)),
    ("the opposite direction", diffusion.diffusion, change(gradient=opposite)),
    ("no direction", diffusion.diffusion, change(gradient=lambda _: None)),
    ("parts exchanged", several.fmri, exchanged),
    ("called irregular", one.ct, change(regular=lambda _: False)),
    ("called regular", one.gap, change(regular=lambda _: True)),
    ("not called tilted", one.tilted, change(flags=lambda f: f - {"tilted"})),
    ("called joined", one.ct, change(flags=lambda f: f | {"joined"})),
    ("frames of another file", one.ct, change(frames=lambda f: [f[1], f[0], *f[2:]])),
]  # fmt: skip


def main() -> int:
    """Damage, judge, print what nobody noticed."""
    warnings.simplefilter("ignore")
    silent = 0
    for name, kind, damage in FAULTS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, kind.__name__)
            folder.mkdir()
            kind(s := Series(folder))
            found = []
            for n, how in enumerate((lambda v: v, damage)):
                scratch = Path(temporary, str(n))
                scratch.mkdir()
                (judged,) = judge(folder, s, scratch, 1, how)
                found.append(judged.differs)
            new = [text for text in found[1] if text not in found[0]]
            silent += not new
            print(f"{name}: {new[0] if new else 'NOBODY NOTICES'}", flush=True)
    print(f"{len(FAULTS)} faults, {silent} that nobody notices")
    return int(silent > 0)


if __name__ == "__main__":
    sys.exit(main())
