"""Candidate files to a plan: their headers, which are stored, where each frame goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from dicom2cache.planning import select
from dicom2cache.planning.apart import apart
from dicom2cache.planning.masks.outlined import as_files
from dicom2cache.planning.masks.stored import NONE
from dicom2cache.planning.plan import make_plan
from dicom2cache.planning.select import owned
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec, Candidate, Plan
from dicom2cache.running import inventory
from dicom2cache.running.contours import without_copies as copies_out
from dicom2cache.running.faults import FaultLog
from dicom2cache.running.masked import seen
from dicom2cache.running.progress import Progress, phase
from dicom2cache.schema import REJECTS


@dataclass(frozen=True)
class Survey:
    """How files are looked at."""

    roots: Sequence[str]
    key: PatientKey
    recipe: Recipe
    workers: int
    backend: str
    progress: Progress
    log: FaultLog
    kept: Callable[[pa.Table], pa.Table] = lambda rows: rows
    """of rows of FILES or REJECTS as headers say them, those that may be in the cache"""

    def headers(self, candidates: Sequence[Candidate]) -> tuple[pa.Table, pa.Table, pa.Table]:
        """(FILES that are stored if they are no copies, REJECTS of others, CONTOURS_TABLE)."""
        files, rejects, contours = inventory.read_all_headers(
            self.roots, candidates, self.key, self.recipe.reading, self.workers, self.backend,
            self.progress.advance, self.log.tell,
        )  # fmt: skip
        files, rejects, contours = map(self.kept, (files, rejects, contours))
        selected, odd, faults = apart(files, lambda some: select.select_files(some, self.recipe))
        self.log.tell(faults)
        kept, excluded = selected or (files.slice(0, 0), REJECTS.empty_table())
        others = (owned(some, files) for some in (odd, excluded))
        return kept, pa.concat_tables([rejects, *others]), contours

    def without_copies(self, files: pa.Table) -> tuple[pa.Table, pa.Table]:
        """(files without repeated ones, REJECTS of those and of what fails)."""
        return inventory.without_copies(
            self.roots, files, self.recipe, self.workers, self.backend, self.log.tell
        )

    def plan(
        self,
        candidates: Sequence[Candidate],
        unlisted: pa.Table,
        without_copies: Callable[[pa.Table], tuple[pa.Table, pa.Table]],
        before: Sequence[ArraySpec] = (),
        known: Callable[[pa.Table], pa.Table] | None = None,
        veiled: bool = False,
        images: Callable[[pa.Table], pa.Table] = lambda files: NONE,
    ) -> tuple[Plan | None, pa.Table, pa.Table]:
        """(the plan, REJECTS of all that is not in it, CONTOURS_TABLE); None: no frames are.

        `without_copies`: that of this record, or one that knows more files; `before`: as of
        `make_plan`; `known`: what a cache has of contours of the same instances;
        `images`: its images that masks among the files may lie on.
        """
        work = inventory.header_work(candidates)
        with phase(self.progress, "reading headers", work, "files"):
            files, rejects, drawn = self.headers(candidates)
            read = files
            files, repeated = without_copies(files)
        contours, twice = copies_out(drawn, known and known(drawn), veiled)
        every = [unlisted, rejects, owned(repeated, read), owned(twice, drawn)]
        every = pa.concat_tables(every)
        outlined = None
        if self.recipe.masks != "none" and contours.num_rows:
            outlined = as_files(contours, seen(candidates, contours)), contours
        if not files.num_rows and outlined is None:
            return None, every, contours

        def attempt(some: pa.Table) -> Plan:
            masked = some if outlined is None else pa.concat_tables([some, outlined[0]])
            none = REJECTS.empty_table()
            return make_plan(some, none, self.recipe, before, images(masked), outlined)

        planned, odd, faults = apart(files, attempt)
        self.log.tell(faults)
        every = pa.concat_tables([every, owned(odd, files)])
        if planned is not None:
            every = pa.concat_tables([every, planned.rejects])
        if planned is None or not planned.frames.num_rows:  # masks may lie on no image
            return None, every, contours
        return replace(planned, rejects=every, contours=contours), every, contours
