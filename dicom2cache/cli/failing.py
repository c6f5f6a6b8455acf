"""How many files may fail, for an exit status of 0."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer

from dicom2cache.errors import Dicom2cacheError

MaxFailures = Annotated[
    str | None,
    typer.Option(
        "--max-failures",
        metavar="N|P%",
        help="Exit status 0 where no more files fail, or no greater share of all to be stored (0).",
    ),
]
_LEGAL = "legal: a number of files, such as 10, or a share of them from 0% to 100%, such as 0.5%"


@dataclass(frozen=True)
class Allowed:
    """What --max-failures allows."""

    files: int = 0
    percent: float | None = None
    """instead of a number"""

    def holds(self, failed: int, of: int) -> bool:
        """True if `failed` of `of` files are no more than that."""
        return failed <= (self.files if self.percent is None else self.percent * of / 100)


def allowed(said: str | None, on_error: str = "skip") -> Allowed:
    """What a text allows. Raises Dicom2cacheError for what is neither a number nor a share."""
    if said is None:
        return Allowed()
    if on_error == "raise":
        raise Dicom2cacheError(
            "--max-failures and --on-error raise contradict each other: it stops at the first; "
            "leave one"
        )
    if re.fullmatch(r"[0-9]{1,15}", said):
        return Allowed(int(said))
    share = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,15})?)%", said)
    if share is None or float(share[1]) > 100:
        raise Dicom2cacheError(f"--max-failures {said}; {_LEGAL}")
    return Allowed(percent=float(share[1]))


def failed_files(rejects: pa.Table) -> int:
    """Files that are not stored, or not all of, since they failed: of rows of failures/."""
    failed = rejects.filter(pc.equal(rejects["outcome"], "failed")).select(["root", "path"])
    if not failed.num_rows:
        return 0
    return int(failed.group_by(["root", "path"]).aggregate([]).num_rows)
