"""The page of a plan: what a cache would have, before any pixel is read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dicom2cache.arrow import ints
from dicom2cache.cli.reporting import whole
from dicom2cache.cli.reporting.charts import counting
from dicom2cache.cli.reporting.contents import Array, Contents
from dicom2cache.cli.reporting.facts import COLUMNS, facts_of
from dicom2cache.cli.reporting.unstored import grouped as by_reason
from dicom2cache.running.job import Job

_PLAN = "Sizes are before compression; what converting finds, values and damage, is not known yet."


def planned(job: Job) -> Contents:
    """What the page of a plan tells; of an update, of what it adds.

    No path, UID or free text is among it: a plan may be one of a cache that will be de-identified.
    """
    plan = job.plan
    frames = whole.listed_only(_frames(plan.files, plan.frames))
    slots = np.array([spec.slot_bytes for spec in plan.arrays], np.float64)
    facts = facts_of(frames, [{"dtype": s.dtype} for s in plan.arrays], slots[_array(frames)])
    arrays = tuple(
        Array(
            s.name, s.dtype, " × ".join(map(str, s.slot)), s.slots, s.shards,
            s.slots * s.slot_bytes, s.slots * s.slot_bytes, s.codec, "–",
        )
        for s in plan.arrays
        if s.slots
    )  # fmt: skip
    version = str(job.facts["software"]["dicom2cache"])
    one = facts.whole
    lead = (
        f"{counting(one.files, 'DICOM file')} of {counting(one.patients, 'patient')}, planned by "
        f"dicom2cache {version}. No pixel was read. {_PLAN}"
    )
    made = (f"Planned by dicom2cache {version}. {_PLAN}",)
    return Contents(
        f"Plan of {whole.titled(facts)}", lead, facts, by_reason(plan.rejects, own_only=True),
        arrays, sum(a.bytes for a in arrays), made, whole.recipe_text(job.recipe.to_dict(), False),
        (*job.facts["software"].items(), *job.facts["codecs"].items()), is_plan=True,
    )  # fmt: skip


def _frames(files: pa.Table, frames: pa.Table) -> pa.Table:
    """The columns of frames/ as far as a plan has them: the frame's own, else its file's."""
    own = {name: frames[name] for name in COLUMNS if name in frames.column_names}
    others = [n for n in COLUMNS if n not in own and n in files.column_names]
    of_file = files.select(others).take(frames["file"])
    return pa.table({**own, **{name: of_file[name] for name in others}})


def _array(frames: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return ints(frames["array"], 0)
