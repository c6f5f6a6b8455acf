"""An exFAT, which has no hard links, mounted for a while; needs root, a loop device and FUSE.

python -m tests.running.exfat    installs what mounts it by apt, and builds on it; status 1 if not
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.caches import command, run_here, tree
from tests.support.dicom_files import pattern, write_dicom

_PACKAGES = ("exfat-fuse", "exfatprogs")
_PROGRAMS = ("mkfs.exfat", "mount.exfat-fuse", "losetup", "umount")


def _run(*words: object) -> str:
    return subprocess.run(map(str, words), check=True, capture_output=True, text=True).stdout


def install() -> str | None:
    """Have what mounts an exFAT; why that cannot be, or None."""
    if os.geteuid():
        return "not root: nothing can be mounted"
    if not Path("/dev/fuse").exists():
        return "no /dev/fuse here"
    if all(map(shutil.which, _PROGRAMS)):
        return None
    if shutil.which("apt-get") is None:
        return f"no apt-get here: install {', '.join(_PACKAGES)} yourself"
    try:
        _run("apt-get", "-q", "update")
        _run("apt-get", "-q", "install", "-y", "--no-install-recommends", *_PACKAGES)
    except subprocess.CalledProcessError as e:
        return f"{e}: {e.stderr[-300:]}"
    return None


@contextmanager
def mounted(folder: Path, mib: int = 64) -> Iterator[Path]:
    """A new exFAT, mounted below `folder`."""
    image, place = folder / "image", folder / "exfat"
    place.mkdir()
    with image.open("xb") as file:
        file.truncate(mib << 20)
    _run("mkfs.exfat", image)
    loop = _run("losetup", "-f", "--show", image).strip()
    try:
        _run("mount.exfat-fuse", loop, place)
        try:
            yield place
        finally:
            _run("umount", place)
    finally:
        _run("losetup", "-d", loop)


def main() -> str | None:
    """Two processes build one cache there; what is wrong, or None."""
    why = install()
    if why is not None:
        return why
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k in range(12):
            write_dicom(folder / "source" / f"{k}.dcm", pattern(f"{k}", (512, 512)))
        build = ("build", folder / "source", "--shard-mib", "1", "--jobs", "1", "--codec", "auto")
        if run_here(*build, folder / "here").returncode:
            return "no build here"
        with mounted(folder) as place:
            (place / "file").touch()
            with suppress(OSError):
                os.link(place / "file", place / "link")
                return "this exFAT has hard links"
            runs = [subprocess.Popen(command(*build, place / "cache")) for _ in range(2)]
            if any([run.wait(timeout=120) for run in runs]):
                return "a build failed"
            # A file that is open stays, and its folder: the next command removes that.
            if run_here("info", place / "cache").returncode:
                return "no cache"
            return None if tree(place / "cache") == tree(folder / "here") else "another cache"


if __name__ == "__main__":
    sys.exit(main())
