"""What would inflate to more than a file may ask for, refused before it does."""

from __future__ import annotations

from typing import Protocol

from dicom2cache.errors import FrameError
from dicom2cache.records import Candidate
from dicom2cache.sources.archives.kinds import DEFLATED, GZIP

_AMPLE = 256 << 20
"""bytes that any file may inflate to: an empty image deflates to a thousandth"""


class Bounds(Protocol):
    """Limits of what may be inflated: a recipe's."""

    @property
    def inflate(self) -> int:
        """Bytes that each byte may become."""

    @property
    def inflate_mib(self) -> int:
        """MiB in all."""


def check_claims(candidate: Candidate, limits: Bounds) -> None:
    """Raises FrameError for what would inflate to more than the limits, before it does."""
    member = candidate.member
    if member is None or member.kind not in (DEFLATED, GZIP):
        return
    for most, name in (
        (max(_AMPLE, limits.inflate * member.packed), f"inflate={limits.inflate}"),
        (limits.inflate_mib << 20, f"inflate_mib={limits.inflate_mib}"),
    ):
        if candidate.size > most:
            raise FrameError(
                f"{member.packed} bytes, {'gzip' if member.kind == GZIP else 'deflated'}, that "
                f"are said to inflate to {candidate.size}, more than limits.{name} allows; if that "
                f"is right, give --limits {name.split('=')[0]}=NUMBER, else copy the file again"
            )
