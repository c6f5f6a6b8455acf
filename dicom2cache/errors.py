"""What can go wrong, as a tree.

```
Dicom2cacheError
├── RecipeError (ValueError)        the recipe makes no sense; nothing was done
├── SourceError (FileNotFoundError) there is nothing to convert
├── CacheError (ValueError)         the cache path holds something that it should not
├── Unfinished (RuntimeError)       a stage was called too early, or the run could not end
│   └── SourceAway                  a source folder cannot be seen from this machine
├── EngineError (RuntimeError)      a cluster that was to do the work is not there, or not installed
├── DiskError (OSError)             a disk fails, is full or may not be written to: path and remedy
├── NoPixels                        DICOM without pixel data: an outcome, not a fault
├── NotDicom                        not DICOM, and not named like it: an outcome, not a fault
└── FrameError (ValueError)         a file or frame cannot be stored truly; costs only itself
    └── OutOfTime                   it takes longer than it may, which depends on the machine
```

While a run works, errors of the environment (a full disk, EIO) stay OSError, since no file is to
blame (`is_environment`); what leaves `pipeline` is a DiskError (`at_disk`). A few headers that
cannot be read for EIO cost their files only. MemoryError is the file's if it comes again where
nothing else is done. Whatever else is raised while one file is worked on is our own error: it costs
that file only, by name (`reason_of`), and its traceback goes to the log (`fault_of`).
"""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import NamedTuple, ParamSpec, TypeVar


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


class EngineError(Dicom2cacheError, RuntimeError):
    """A cluster that was to do the work is not there, or not installed."""


class SourceAway(Unfinished):
    """A source folder cannot be seen from this machine: no file of it is to blame."""


class DiskError(Dicom2cacheError, OSError):
    """A disk that fails, is full or may not be written to; `filename` is where."""

    def __str__(self) -> str:
        if self.errno is None:  # all is said already
            return super().__str__()
        return f"{what_failed(self)}, and run the same command again: what is done is kept"


class NoPixels(Dicom2cacheError):
    """A DICOM file without pixel data."""


class NotDicom(Dicom2cacheError):
    """A file that is not DICOM and does not claim to be."""


class FrameError(Dicom2cacheError, ValueError):
    """One file or frame cannot be stored truly."""


class OutOfTime(FrameError):
    """One file or frame takes longer than it may, alone in a process of its own too."""


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


_REMEDIES = {
    "ENOSPC": "free some space there",
    "EDQUOT": "a quota is used up: free some space, or have it raised",
    "EROFS": "mount it so that it can be written to, or give another path",
    "EACCES": "see by `ls -ld` who may use it and the folders above",
    "EPERM": "see by `ls -ld` and `lsattr -d` who may use it and the folders above",
    "EMFILE": "raise `ulimit -n`, or use fewer --jobs",
    "ENFILE": "have fewer files open on this machine",
    "ENOMEM": "free some memory, or use fewer --jobs",
    "ECHILD": "see `dmesg` and the limits on memory and processes",
    "EFBIG": "raise `ulimit -f`, or give a smaller --shard-mib",
    "ENOENT": "something has removed it meanwhile: see what else works there",
    "ENOTDIR": "something else has its name: move that away",
    "EISDIR": "something else has its name: move that away",
    "EEXIST": "something else has its name: move that away",
    "ENOTEMPTY": "something else works there: let it end",
    "ENAMETOOLONG": "give a shorter path",
    "ENOTSUP": "its file system cannot do what a cache needs: give a path on another one",
    "ENOSYS": "its file system cannot do what a cache needs: give a path on another one",
    "EINVAL": "its file system cannot do what a cache needs: give a path on another one",
    "ENOEXEC": "see whether Python can start processes",
}
_BY_NUMBER = {getattr(errno, name): said for name, said in _REMEDIES.items()}
_BROKEN = "see `dmesg` whether its disk, or the way to it, is broken; mend that"


def what_failed(error: OSError) -> str:
    """PATH: what is wrong; what to do first."""
    said = error.strerror or (str(error.args[-1]) if error.args else type(error).__name__)
    if f"[errno {error.errno}]" in said:  # Arrow's, with all that it knows
        said = os.strerror(error.errno or 0)
    where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
    return f"{where}{said}; {_BY_NUMBER.get(error.errno or 0, _BROKEN)}"


def disk_error(error: OSError, where: str | os.PathLike[str] | None = None) -> DiskError:
    """The error with its path, or else the path `where`, and what to do."""
    if isinstance(error, DiskError):
        return error
    path = error.filename if error.filename is not None else where
    said = error.strerror or str(error)
    return DiskError(error.errno or errno.EIO, said, *(() if path is None else (os.fspath(path),)))


@contextmanager
def on_path(path: str | os.PathLike[str]) -> Iterator[None]:
    """A block whose OSErrors name `path` if they name none: a failed write knows no path."""
    try:
        yield
    except OSError as e:
        if e.filename is None:
            e.filename = os.fspath(path)
        raise


_P = ParamSpec("_P")
_T = TypeVar("_T")


def at_disk(run: Callable[_P, _T]) -> Callable[_P, _T]:
    """The function, whose OSErrors are DiskErrors; of its `cache`, if they name no other path."""

    @wraps(run)
    def runs(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return run(*args, **kwargs)
        except Dicom2cacheError:
            raise
        except OSError as e:
            raise disk_error(e, signature(run).bind(*args, **kwargs).arguments["cache"]) from e

    return runs


def reason_of(error: Exception) -> str:
    """Why a file or frame is not stored, as failures/ says it."""
    if isinstance(error, FileNotFoundError):
        return "the file has vanished since plan; build again with --overwrite"
    if isinstance(error, OSError):
        return f"cannot read the file: {error.strerror or error}"
    if isinstance(error, Dicom2cacheError):
        return storable(str(error))
    if isinstance(error, MemoryError):
        return (
            "memory does not suffice, not even for this alone in a process of its own; convert it "
            "on a machine with more, or leave it out by `where`"
        )
    if isinstance(error, FloatingPointError):
        return (
            "values go beyond what float64 holds, or the dtype that they shall have: Rescale Slope "
            "(0028,1053) or Intercept (0028,1052), or the values themselves, are too large"
        )
    return f"internal error: {type(error).__name__}: {_line(str(error))}; please report"


def stage_of(error: Exception, stage: str) -> str:
    """The stage of failures/: `limit` for what depends on the machine."""
    return "limit" if isinstance(error, MemoryError | OutOfTime) else stage


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: of what a file says, some is no text."""
    return text.encode("utf-8", "backslashreplace").decode()


_MOST_TEXT = 300
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


def _line(text: str) -> str:
    """A line that is the same in each run: without line breaks and addresses in memory."""
    return _ADDRESS.sub("0x...", storable(" ".join(text.split())))[:_MOST_TEXT]


class Fault(NamedTuple):
    """An error of our own that cost a file or frame, for the log."""

    kind: str
    """the same for what is raised by the same line"""
    text: str
    """what it was, where, and its traceback"""


def fault_of(error: Exception, where: str) -> Fault | None:
    """The fault behind a failure of the file or frame `where`; None for failures that are foreseen.

    An error that came from a child process has its traceback there as a note.
    """
    if isinstance(error, Dicom2cacheError | OSError | MemoryError | FloatingPointError):
        return None
    last = traceback.extract_tb(error.__traceback__)[-1:]
    notes = "".join(getattr(error, "__notes__", ()))
    kind = f"{type(error).__name__} {notes or last}"
    shown = "".join(traceback.format_exception(error))
    return Fault(kind, f"{where}: {reason_of(error)}\n{shown}")


def meant(said: object, legal: Iterable[str]) -> str:
    """Such as `; did you mean lung?`, for a name that is not among those that are legal."""
    names = {name.lower(): name for name in sorted(legal)}
    close = get_close_matches(str(said).strip().lower(), names, n=3)
    return f"; did you mean {' or '.join(names[name] for name in close)}?" if close else ""


def remedy(extra: str | None = None) -> str:
    """How what is not installed comes here: all of the package, or what an extra of it asks for.

    That itself and not the extra's name, which a clone and an index have under names of their own.
    """
    from importlib.metadata import PackageNotFoundError, requires

    found: list[str] = []
    try:
        for each in requires("dicom2cache") or ():
            name, _, marker = each.partition(";")
            if extra and re.fullmatch(rf"""\s*extra == ["']{re.escape(extra)}["']\s*""", marker):
                found.append(f"'{name.strip()}'")
    except PackageNotFoundError:  # a copy of the files
        pass
    return f"pip install {' '.join(found)}" if found else "install dicom2cache again"


def counting(number: int, one: str, many: str | None = None) -> str:
    """Such as `1 frame` and `2 frames`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
