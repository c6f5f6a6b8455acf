"""Claims of processes that are gone, or elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from dicom2cache.records import ShardTask
from dicom2cache.running.job import Job

_BEGIN = """
import sys
from pathlib import Path
from dicom2cache.running import claims
from dicom2cache.running.job import load_job
job = load_job(Path(sys.argv[1]))
assert all([claims.take(job, task) for task in job.tasks])
"""


def begin_all_and_die(cache: Path) -> None:
    """A process claims every shard of the plan in `cache`, and ends."""
    subprocess.run([sys.executable, "-c", _BEGIN, str(cache)], check=True, timeout=60)


def claim_elsewhere(job: Job, task: ShardTask, beat: int = 0) -> Path:
    """A claim as a process on another machine holds it, after so many beats."""
    holder = {
        "host": "node7", "pid": 4711, "machine": "another", "started": 5, "run": "r", "token": "t",
    }  # fmt: skip
    path = job.state / "claims" / task.name
    path.write_text(f"{beat:012d} {json.dumps(holder)}")
    return path
