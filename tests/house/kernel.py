"""Says whether the compiled loops are there; fails where a compiler could make them.

Run: python -m tests.house.kernel. A failed compilation does not fail an installation.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig

from dicom2cache.pixels import kernel


def compiler() -> str | None:
    """The C compiler that setuptools would call, if it is there."""
    named = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(named)


def verdict() -> tuple[int, str]:
    """(exit status, what to say)."""
    if kernel.compiled is not None:
        return 0, f"compiled loops: {kernel.compiled.__file__}"
    found = compiler()
    if found is None:
        return 0, "no C compiler here: NumPy and Python do what the compiled loops would"
    return 1, (
        f"{found} is there, but dicom2cache/pixels/_kernel.c is not compiled, or an older one is; "
        "see why by: .venv/bin/pip install --verbose --editable . ; or make clean"
    )


if __name__ == "__main__":
    status, said = verdict()
    print(said)
    sys.exit(status)
