"""CRC-32C, of whatever google-crc32c was installed with."""

from __future__ import annotations

import warnings
from typing import Any

with warnings.catch_warnings():  # of its pure Python fallback: `dicom2cache build` says so once
    warnings.simplefilter("ignore", RuntimeWarning)
    import google_crc32c


def crc32c(data: Any) -> int:
    """CRC-32C (RFC 3720) of contiguous bytes or an array."""
    if google_crc32c.implementation != "c":
        data = bytes(data)  # the fallback takes no arrays
    return int(google_crc32c.value(data))
