"""What of a patient may be kept: keyed hashes, and the age in years."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path


def keyed_hash(key: bytes, plain: str | None) -> str | None:
    """HMAC-SHA-256 (RFC 2104) of a name, first 32 hex digits; None stays None."""
    if not plain:
        return None
    return hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()[:32]


def age_in_years(said: str | None) -> float | None:
    """Years from an Age String such as 034Y, 018M, 006W, 003D (PS3.5 6.2)."""
    per_year = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}
    if not said or len(said) < 2 or not said[:-1].isdecimal():
        return None
    unit = per_year.get(said[-1].upper())
    return None if unit is None else int(said[:-1]) / unit


def patient_key(path: Path | None) -> bytes:
    """The key of the patient hashes: from `path`, else this user's own, made at first use (0600).

    Raises OSError if it cannot be read or made, ValueError if it is shorter than 16 bytes.
    """
    if path is None:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        path = home / "dicom2cache" / "patient.key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"{path.name}.{os.getpid()}")
            with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as f:
                f.write(os.urandom(32))
            try:
                os.link(fresh, path)  # no replace: of two processes, one makes the key
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
    key = path.read_bytes()
    if len(key) < 16:
        raise ValueError(f"{path}: a patient key has at least 16 bytes, this has {len(key)}")
    return key
