"""Secret keys, and the hashes that stand for names and UIDs."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

from dicom2cache.sources.system import UNIX

_LEAST = 16  # bytes


class KeyMadeWarning(UserWarning):
    """A key of the patient hashes was made, of which there is no other copy."""


def keyed_hash(key: bytes, plain: str | None, domain: str = "") -> str | None:
    """HMAC-SHA-256 (RFC 2104) of domain and text in UTF-8, first 32 hex digits; None stays None."""
    if not plain:
        return None
    return hmac.digest(key, f"{domain}{plain}".encode(), "sha256").hex()[:32]


@dataclass(frozen=True)
class PatientKey:
    """What patients are hashed with while headers are read."""

    key: bytes
    domains: bool = False
    """as a de-identified cache has it: what it is that is hashed stands before it"""

    def hashed(self, what: str, plain: str | None) -> str | None:
        """The hash of a patient's ID, an accession number, ...; None where there is none."""
        return keyed_hash(self.key, plain, f"{what}:" if self.domains else "")


def fingerprint(key: bytes, kind: str) -> str:
    """What tells a key from others and not what it is: 16 hex digits (FORMAT.md)."""
    return hashlib.sha256(f"dicom2cache {kind} key".encode() + key).hexdigest()[:16]


def read_key(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a key file, all of them.

    Raises OSError if it cannot be read, ValueError if others may, if it has less than 16 bytes, or
    if it is not there.
    """
    if not os.path.lexists(path):
        raise ValueError(
            f"{path}: there is no such key file; give the one that is, or make one by "
            f"`(umask 077; head -c 32 /dev/urandom > {path})`"
        )
    with open(path, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if UNIX and mode & 0o077:  # Windows knows no modes, and says that all may read
            raise ValueError(
                f"{path}: a key that others than its owner have access to (mode {mode:04o}), and "
                f"who has it can find whom a hash stands for; run `chmod 600 {path}`"
            )
        key = file.read(1 << 20)
    if len(key) < _LEAST:
        raise ValueError(
            f"{path}: a key has at least {_LEAST} bytes, this has {len(key)}; make one by "
            f"`(umask 077; head -c 32 /dev/urandom > {path})`"
        )
    return key


def patient_key(path: Path | None) -> bytes:
    """The key of the patient hashes: from `path`, else this user's own, made at first use (0600).

    Raises as `read_key`.
    """
    if path is None:
        path = own_key()
        if not path.exists():
            _make(path)
    return read_key(path)


def own_key() -> Path:
    """Where this user's key of the patient hashes is, or would be."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "dicom2cache" / "patient.key"


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as f:
        f.write(os.urandom(32))
    try:
        os.link(fresh, path)  # no replace: of two processes, one makes the key
        warnings.warn(
            f"{path}: made, the key that patients and accession numbers are hashed with. Keep a "
            "copy (`dicom2cache key export FILE`): if it is lost, no label by PatientID or "
            "AccessionNumber can be joined to caches of before, and none can be updated",
            KeyMadeWarning,
            stacklevel=3,
        )
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
