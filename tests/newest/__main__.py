"""`make test-newest`: the tests on Python 3.12 or later, with the newest of all dependencies.

The interpreter is one that is found, else Debian's: as root, from its newest stable release in a
folder. Runs on a bare Python, before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.newest.debian import RELEASE, bootstrap

HERE = Path(__file__).parents[2]
VENV, DEBIAN = HERE / ".venv-newest", HERE / ".newest-debian"
PINS = HERE / "constraints-newest.txt"
_PACKAGES = "python3,python3-venv,python3-dev,gcc,g++,libc6-dev,make,git,ca-certificates,e2fsprogs"
_WORKS = "import ctypes, ensurepip, lzma, ssl, sys, venv; sys.exit(sys.version_info < (3, 12))"


def found() -> str | None:
    """A Python of 3.12 or later that works, the newest first: on PATH, or one of pyenv's."""
    names = [f"python3.{minor}" for minor in range(20, 11, -1)]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    kept = sorted(root.glob("3.*/bin/python3"), key=_version, reverse=True)
    for name in (*filter(None, map(shutil.which, names)), *map(str, kept)):
        if subprocess.run([name, "-c", _WORKS], capture_output=True).returncode == 0:
            return name
    return None


def _version(python: Path) -> tuple[int, ...]:
    parts = python.parts[-3].split(".")
    return tuple(int(part) for part in parts) if all(p.isdigit() for p in parts) else ()


def debian() -> list[str]:
    """A command that runs what follows it in a folder with the newest stable Debian, as root."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit(
            "test-newest: no Python 3.12 or later on PATH, and Debian's can be had by root with "
            "debootstrap only: `apt-get install debootstrap`, or install a newer Python"
        )
    bootstrap(DEBIAN, _PACKAGES)
    source = DEBIAN / "src"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    packed = subprocess.run(["git", "-C", HERE, "archive", "HEAD"], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", source], check=True, input=packed.stdout)
    subprocess.run(["git", "init", "--quiet", source], check=True)  # tests list its files
    subprocess.run(["git", "-C", source, "add", "--all"], check=True)
    inside = (
        'mount --bind "$0" "$0" && cd "$0" && '  # so that what is mounted there has a name
        "mount -t proc proc proc && mount --rbind /dev dev && mount --rbind /sys sys && "
        'exec chroot . "$@"'
    )
    return ["unshare", "--mount", "--fork", "sh", "-c", inside, str(DEBIAN)]


def main() -> int:
    """Install, say the versions, run the tests; 0: all passed."""
    parser = argparse.ArgumentParser(prog="tests.newest", description=main.__doc__)
    parser.add_argument("--debian", action="store_true", help="Debian's Python, whatever is found")
    parser.add_argument("--pinned", action="store_true", help=f"the versions of {PINS.name}")
    parser.add_argument("--pin", action="store_true", help=f"write {PINS.name} anew")
    parser.add_argument("pytest", nargs="*", help="instead of all tests")
    asked = parser.parse_args()
    python = None if asked.debian else found()
    inside, place = ([], HERE) if python else (debian(), Path("/src"))
    bin_ = (VENV if python else Path("/venv")) / "bin"
    print(f"Python: {python or RELEASE + ' of Debian, in ' + str(DEBIAN)}", flush=True)

    def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
        where = f'cd {place} && exec "$@"'
        return subprocess.run(
            [*inside, "sh", "-c", where, "sh", *map(str, command)], text=True, **options
        )  # type: ignore[call-overload, no-any-return]

    run(python or "/usr/bin/python3", "-m", "venv", bin_.parent, check=True)
    pins = ["-c", place / PINS.name] if asked.pinned else ["--upgrade"]
    pip = (bin_ / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", *pins, "-e", ".[train,dev]", check=True)
    listed = run(*pip, "freeze", "--exclude-editable", check=True, stdout=subprocess.PIPE).stdout
    versions = [line for line in listed.splitlines() if not line.startswith(_NOT_OURS)]
    print(*versions, sep="\n", flush=True)
    if asked.pin:
        PINS.write_text("\n".join(versions) + "\n")
    tests = asked.pytest or ["tests", "--numprocesses", "3", "--dist", "worksteal"]
    return run(bin_ / "python", "-m", "pytest", *tests).returncode


_NOT_OURS = ("nvidia-", "cuda-", "triton", "torch")
"""what the build of torch brings along, of another kind on each machine"""

if __name__ == "__main__":
    sys.exit(main())
