"""The newest stable Debian in a folder, by debootstrap, as root; runs on a bare Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

RELEASE = "trixie"
"""the newest stable Debian; its Python is 3.13"""
_SETTINGS = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip",
    "/etc/ssl/certs/ca-certificates.crt",
)  # fmt: skip


def bootstrap(folder: Path, packages: str) -> None:
    """Debian with these packages (with commas between them), unless it is there already."""
    if not (folder / "usr/bin/python3").exists():
        uris = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)"],
            check=True, capture_output=True, text=True,
        ).stdout.split()  # fmt: skip
        mirror = next(uri for uri in uris if "security" not in uri)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, folder, mirror],
            check=True,
        )
    for name in _SETTINGS:  # how this machine reaches names and packages
        if Path(name).exists():
            into = (folder / name[1:]).parent
            into.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "--recursive", "--dereference", name, into], check=True)
