"""`make test-container`: buildah builds the Containerfile, and what it made converts, as root.

What apptainer.def runs on its base is run there too; Apptainer itself is not. Where no registry is
reached Debian's newest stable with its Python 3.13 stands for the image that both begin from.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pydicom.data import get_testdata_file

import dicom2cache
from tests.newest.debian import RELEASE, bootstrap

HERE = Path(__file__).parents[2]
PACKAGING = HERE / "packaging"
_LIKE_IT = "python3,python3-venv,libpython3-dev,ca-certificates"
"""what the image of Python has, of Debian"""
_COMPILED = "from dicom2cache.pixels import kernel; assert kernel.compiled"


class Buildah:
    """buildah with images of its own in a folder."""

    def __init__(self, folder: Path) -> None:
        self._start = [
            "buildah", "--root", folder / "images", "--runroot", folder / "run",
            "--storage-driver", "vfs",
        ]  # fmt: skip

    def __call__(self, *command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(
            [*map(str, self._start), *map(str, command)], env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if check and done.returncode:
            sys.exit(f"{done.stdout}\ntest-container: buildah {command[0]}: {done.returncode}")
        return done


def main() -> None:
    lacking = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if os.geteuid() != 0 or lacking:
        sys.exit("test-container: takes root, and `apt-get install buildah crun debootstrap`")
    begins = re.findall(r"^FROM (\S+)", (PACKAGING / "Containerfile").read_text(), re.M)
    begins += re.findall(r"^From: (\S+)", (PACKAGING / "apptainer.def").read_text(), re.M)
    (base,) = {begin.removeprefix("docker.io/library/") for begin in begins}
    base = f"docker.io/library/{base}"
    with tempfile.TemporaryDirectory(prefix="container-") as temporary:
        folder = Path(temporary)
        buildah = Buildah(folder)
        if buildah("pull", base, check=False).returncode:
            print(f"{base} is not reached: Debian {RELEASE} stands for it", flush=True)
            stand_in(buildah, folder / "debian", base)
        file = PACKAGING / "Containerfile"
        buildah("bud", "--pull-never", "--file", file, "--tag", "made", HERE)
        converts(buildah, "made", "/opt/dicom2cache/bin", folder / "data")
        print("Containerfile: built; converts, as a user without rights", flush=True)
        runs_apptainers(buildah, base)
        converts(buildah, "apptainer", "/opt/dicom2cache/bin", folder / "data2")
        print("apptainer.def: what it runs ends well, and converts; Apptainer was not there")


def stand_in(buildah: Buildah, root: Path, name: str) -> None:
    """Debian's Python as an image of that name, where that image has it."""
    bootstrap(root, _LIKE_IT)
    for python in ("python", "python3"):
        (root / "usr/local/bin" / python).symlink_to("/usr/bin/python3")
    empty = buildah("from", "scratch").stdout.strip()
    buildah("copy", empty, root, "/")
    buildah("config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", empty)
    buildah("commit", "--rm", empty, name)


def section(name: str) -> str:
    """The lines of a section of apptainer.def."""
    text = (PACKAGING / "apptainer.def").read_text()
    return text.split(f"\n%{name}\n")[1].split("\n%")[0]


def runs_apptainers(buildah: Buildah, base: str) -> None:
    """%files, %post and %test of apptainer.def on its base, as an image of the name apptainer."""
    container = buildah("from", "--pull-never", base).stdout.strip()
    for line in section("files").split("\n"):
        if line.strip():
            source, target = line.split()
            buildah("copy", container, HERE / source, target)
    for each in ("post", "test"):
        buildah("run", container, "--", "sh", "-e", "-c", section(each))
    buildah("commit", "--rm", container, "apptainer")


def converts(buildah: Buildah, image: str, bin_: str, data: Path) -> None:
    """A cache from two files by the image's user or another without rights, its key on a volume."""
    (data / "scans").mkdir(parents=True)
    (data / "key").mkdir()
    for name in ("CT_small.dcm", "MR_small_jp2klossless.dcm"):
        shutil.copy(str(get_testdata_file(name, download=False)), data / "scans")
    for path in (data, *data.iterdir()):
        os.chown(path, 1000, 1000)
    container = buildah("from", "--pull-never", image).stdout.strip()
    volumes = ("--volume", f"{data}:/data", "--volume", f"{data / 'key'}:/config/dicom2cache")
    run = ("run", "--user", "1000:1000", "--env", "XDG_CONFIG_HOME=/config", *volumes, container)
    tool = f"{bin_}/dicom2cache"
    assert dicom2cache.__version__ in buildah(*run, "--", tool, "--version").stdout
    buildah(*run, "--", f"{bin_}/python", "-c", _COMPILED)
    buildah(*run, "--", tool, "build", "/data/scans", "/data/cache")
    assert "2 frames" in buildah(*run, "--", tool, "verify", "/data/cache").stdout
    assert len((data / "key" / "patient.key").read_bytes()) == 32
    buildah("rm", container)


if __name__ == "__main__":
    main()
