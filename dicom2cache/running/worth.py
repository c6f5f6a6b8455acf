"""How many workers files are worth, before anything is known of them but their size."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from dicom2cache import syntaxes
from dicom2cache.errors import FrameError
from dicom2cache.planning.crew import processes
from dicom2cache.records import Candidate
from dicom2cache.sources.place import Place, open_at, place_of

_SHRUNK = 2.5
"""bytes of a frame for one of its file, where it is encapsulated"""
_LOOKED_AT = 16
"""files whose syntax speaks for all"""
_META = 2048
"""bytes that the Transfer Syntax UID (0002,0010) is within (PS3.10 7.1), in most files"""
_SYNTAX = re.compile(rb"\x02\x00\x10\x00UI..([0-9.]+)", re.DOTALL)


def worth(
    jobs: int, roots: Sequence[str], candidates: Sequence[Candidate], shard_bytes: int,
    forked: bool = False,
) -> int:  # fmt: skip
    """How many workers it takes, at most `jobs`, for the shards that the files will be about.

    One if they are `forked`: more are then, as soon as there is a plan.
    """
    if jobs == 1 or forked or not candidates:
        return 1
    some = candidates[:: -(-len(candidates) // _LOOKED_AT)]
    times = sum(c.size for c in candidates) / max(1, sum(c.size for c in some))
    size = cost = abreast = 0.0
    for c in some:
        said = _syntax(place_of(os.path.join(roots[c.root], c.path), c))
        plain = times * c.size * (1 if said in syntaxes.NATIVE else _SHRUNK)
        size, cost = size + plain, cost + plain * syntaxes.cost_weight(said)
        abreast += plain * syntaxes.cost_weight(said) * syntaxes.abreast(said)
    return processes(jobs, cost, abreast / max(1.0, cost), 1 + int(size / shard_bytes))


def _syntax(place: Place) -> str:
    """The transfer syntax that a file names; implicit little endian where it names none."""
    try:
        with open_at(place) as file:
            found = _SYNTAX.search(file.read(0, _META))
    except (OSError, FrameError):  # whoever reads its header says so
        found = None
    return found[1].decode() if found else syntaxes.IMPLICIT_LE
