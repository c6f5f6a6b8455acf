"""What can go wrong, as a tree.

```
Dicom2cacheError
├── RecipeError (ValueError)        the recipe makes no sense; nothing was done
├── SourceError (FileNotFoundError) there is nothing to convert
├── CacheError (ValueError)         the cache path holds something that it should not
├── Unfinished (RuntimeError)       a stage was called too early, or the run could not end
├── NoPixels                        DICOM without pixel data: an outcome, not a fault
├── NotDicom                        not DICOM, and not named like it: an outcome, not a fault
└── FrameError (ValueError)         a file or frame cannot be stored truly; costs only itself
```

Errors of the environment (memory, a full disk, EIO) are not in the tree: they stay OSError and
MemoryError, since no file is to blame (`is_environment`). They name the file all the same; and a
few headers that cannot be read for EIO cost their files only.
"""

from __future__ import annotations

import errno


class Dicom2cacheError(Exception):
    """Base of all errors that dicom2cache raises on purpose."""


class RecipeError(Dicom2cacheError, ValueError):
    """A recipe that makes no sense."""


class SourceError(Dicom2cacheError, FileNotFoundError):
    """There is nothing to convert."""


class CacheError(Dicom2cacheError, ValueError):
    """The cache path holds something that it should not."""


class Unfinished(Dicom2cacheError, RuntimeError):
    """A stage was called before the one that it needs, or the run could not end."""


class NoPixels(Dicom2cacheError):
    """A DICOM file without pixel data."""


class NotDicom(Dicom2cacheError):
    """A file that is not DICOM and does not claim to be."""


class FrameError(Dicom2cacheError, ValueError):
    """One file or frame cannot be stored truly."""


# A file's own fault (missing, unreadable) is not here: it costs that file only.
_ENVIRONMENT = frozenset(
    {
        errno.EIO,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENFILE,
        errno.ESTALE,
        errno.EROFS,
        errno.EAGAIN,
        errno.ETIMEDOUT,
        errno.ENOLCK,
        errno.ECHILD,  # a process to decode in
    }
)


def is_environment(error: BaseException) -> bool:
    """True if the machine and not the file is to blame, so that a retry may succeed."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, OSError) and error.errno in _ENVIRONMENT
