"""Whether a folder lies on a network file system."""

from __future__ import annotations

import re
from pathlib import Path

_ESCAPE = re.compile(r"\\([0-7]{3})")
_REMOTE = (
    "nfs", "lustre", "gpfs", "cifs", "smb", "ceph", "fuse", "9p", "beegfs", "afs", "pvfs", "panfs",
    "glusterfs", "wekafs", "virtiofs",
)  # fmt: skip
"""how the kinds begin; a FUSE may be local, and costs the same care"""


def is_remote(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether `path` lies on a network file system, as far as `mounts` says."""
    try:
        lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    except OSError:
        return False
    here = path.resolve()
    known = [(_ESCAPE.sub(lambda m: chr(int(m[1], 8)), x[1]), x[2]) for x in lines if len(x) > 2]
    # The last of a place is on top: autofs mounts over itself.
    on = [(len(m), k, kind) for k, (m, kind) in enumerate(known) if here.is_relative_to(m)]
    return bool(on) and max(on)[2].startswith(_REMOTE)
