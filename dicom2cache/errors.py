"""What can go wrong, as a tree.

```
Dicom2cacheError
├── RecipeError (ValueError)        the recipe makes no sense; nothing was done
├── SourceError (FileNotFoundError) there is nothing to convert
├── CacheError (ValueError)         the cache path holds something that it should not
├── Unfinished (RuntimeError)       a stage was called too early, or the run could not end
│   └── SourceAway                  a source folder cannot be seen from this machine
├── NoPixels                        DICOM without pixel data: an outcome, not a fault
├── NotDicom                        not DICOM, and not named like it: an outcome, not a fault
└── FrameError (ValueError)         a file or frame cannot be stored truly; costs only itself
```

Other errors of the environment (memory, a full disk, EIO) are not in the tree: they stay OSError
and MemoryError, since no file is to blame (`is_environment`). They name the file all the same; and
a few headers that cannot be read for EIO cost their files only.
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


class SourceAway(Unfinished):
    """A source folder cannot be seen from this machine: no file of it is to blame."""


class NoPixels(Dicom2cacheError):
    """A DICOM file without pixel data."""


class NotDicom(Dicom2cacheError):
    """A file that is not DICOM and does not claim to be."""


class FrameError(Dicom2cacheError, ValueError):
    """One file or frame cannot be stored truly."""


# A file's own fault (missing, unreadable) is not here: it costs that file only. What `errno` lacks
# on one system is not met there.
_NETWORK = (
    "ENOTCONN", "ESHUTDOWN", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET",
    "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EREMOTEIO", "EKEYEXPIRED",
)  # fmt: skip
_ENVIRONMENT = frozenset(
    {
        *(getattr(errno, name) for name in _NETWORK if hasattr(errno, name)),
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
    if isinstance(error, (MemoryError, SourceAway)):
        return True
    return isinstance(error, OSError) and error.errno in _ENVIRONMENT


def reason_of(error: Exception) -> str:
    """Why a file or frame is not stored, as failures/ says it."""
    if isinstance(error, FileNotFoundError):
        return "the file has vanished since plan; build again with --overwrite"
    if isinstance(error, OSError):
        return f"cannot read the file: {error.strerror or error}"
    if isinstance(error, Dicom2cacheError):
        return str(error)
    return f"cannot be decoded: {unforeseen(error)}"


def unforeseen(error: BaseException) -> str:
    """What is said of an exception that is none of ours: where it came up, not its own text.

    The words of Python or of a C library would name neither the cause nor a remedy.
    """
    place, frame = "", error.__traceback__
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename.replace("\\", "/")
        if "/dicom2cache/" in file:
            place = f"{file.rpartition('/dicom2cache/')[2]}, line {frame.tb_lineno}"
        frame = frame.tb_next
    return (
        "it holds a value that contradicts the others, or is damaged; copy the file again, and if "
        f"that does not help, report it with the place, {place or 'not known'}"
    )
