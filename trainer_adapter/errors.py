"""What can go wrong when a cache is read, as a tree.

```
CacheError
├── NotACacheError (FileNotFoundError)  no cache here, or one that was not finished
├── FormatError (ValueError)            a version or a layout that this reader does not know
├── DamagedError (OSError)              a file is not what the metadata says: names file and remedy
├── MixedShapesError (ValueError)       frames of several shapes where one is needed
├── VolumeError (ValueError)            a stack that is no volume: unknown, gaps, irregular
├── MissingCodecError (ImportError)      a compressed cache, and what decompresses it is not there
├── MissingLibraryError (ImportError)    a library that a part of this needs is not there
├── ExportError (OSError)               a folder that volumes cannot be exported to
├── LabelError (ValueError)             labels that do not match the frames
├── SplitError (ValueError)             frames that cannot be divided as asked
├── StageError (OSError)                shards cannot be copied to the node's own storage
├── NotServedError (LookupError)        a path that LightlyTrain opens stands for no frame here
├── ConvertError (RuntimeError)         a single new file could not be converted
└── UnknownLightlyError (RuntimeError)  a LightlyTrain that this version does not know
```
"""

from __future__ import annotations

import re
from contextlib import suppress


class ErrataWarning(UserWarning):
    """A cache was made by a version of dicom2cache some of whose faults are mended since."""


class CacheError(Exception):
    """Base of all errors that trainer_adapter raises on purpose."""


class NotACacheError(CacheError, FileNotFoundError):
    """No cache here, or one that was not finished."""


class NewerWarning(UserWarning):
    """Frames were added to a cache since it was opened; who has it open goes on without them."""


class WorkersWarning(UserWarning):
    """Worker processes of a DataLoader that cost more than they bring."""


class FormatError(CacheError, ValueError):
    """A version or a layout that this reader does not know."""


class DamagedError(CacheError, OSError):
    """A file is not what the metadata says."""


class MixedShapesError(CacheError, ValueError):
    """Frames of several shapes where one is needed."""


class VolumeError(CacheError, ValueError):
    """A stack that is no volume."""


class MissingCodecError(CacheError, ImportError):
    """A compressed cache, and what decompresses it is not installed."""


class MissingLibraryError(CacheError, ImportError):
    """A library that a part of this package needs is not installed."""

    def __init__(self, library: str, what: str, extra: str | None = "volumes") -> None:
        names = (extra and extra_requires(extra)) or [library]
        remedy = " ".join(f"'{name}'" if set(name) & set("<>=[") else name for name in names)
        super().__init__(f"{what} need {library}, which is not there: pip install {remedy}")


def extra_requires(extra: str) -> list[str]:
    """What an extra of this package asks for, as its metadata say; nothing where there are none.

    Itself and not the extra's name, which a clone and an index have under names of their own.
    """
    from importlib.metadata import PackageNotFoundError, requires

    for name in ("trainer-adapter", "dicom2cache"):  # a clone is one distribution
        with suppress(PackageNotFoundError):
            parts = [each.partition(";") for each in requires(name) or ()]
            marked = re.compile(rf"""\s*extra == ["']{re.escape(extra)}["']\s*""")
            return [part[0].strip() for part in parts if marked.fullmatch(part[2])]
    return []


class ExportError(CacheError, OSError):
    """A folder that volumes cannot be exported to."""


class LabelError(CacheError, ValueError):
    """Labels that do not match the frames."""


class SplitError(CacheError, ValueError):
    """Frames that cannot be divided as asked."""


class StageError(CacheError, OSError):
    """Shards cannot be copied to storage of the node."""


class NotServedError(CacheError, LookupError):
    """A path that LightlyTrain opens stands for no frame of the cache, or for several."""


class ConvertError(CacheError, RuntimeError):
    """A single new file could not be converted as the cache was."""


class UnknownLightlyError(CacheError, RuntimeError):
    """What would be replaced in LightlyTrain is not what this version knows."""


def counting(number: int, one: str, many: str | None = None) -> str:
    """Such as `1 frame` and `2 frames`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
