"""The source folders on this machine: a node that lacks one must not blame the files in it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable

from dicom2cache.errors import SourceAway, is_environment
from dicom2cache.sources.place import file_of


def check(roots: Iterable[str], otherwise: str = "") -> None:
    """Raises SourceAway for the first folder of the plan that cannot be seen here.

    `otherwise` says what to do if it is gone for good.
    """
    for root in roots:
        why = _away(root)
        if why is not None:
            raise SourceAway(
                f"{root}: {why} on {platform.node()}; the plan has files there. Mount it on that "
                f"machine and run the same command again{otherwise}"
            )


def raise_environment(error: Exception, root: str, path: str) -> None:
    """Raises what says that the machine is to blame for `error`; returns if the file at `path` is.

    `path` lies below the folder `root`. Raises `error` itself, also where another file is meant,
    or SourceAway where the folder cannot be seen, or where the file is there again.
    """
    whole = os.path.join(root, path)
    file = file_of(whole)
    if is_environment(error):
        if isinstance(error, OSError) and error.filename is None:  # a failed read knows no path
            error.filename = whole
        raise error
    if not isinstance(error, OSError):
        return
    if error.filename is not None and os.fspath(error.filename) not in (whole, file):
        raise error  # of the cache's own files
    check([root])
    if isinstance(error, FileNotFoundError) and os.path.exists(file):
        raise SourceAway(
            f"{whole}: was gone for a moment on {platform.node()}; see whether its folder stays "
            "mounted, and run the same command again"
        ) from error


def _away(root: str) -> str | None:
    """Why no file below `root` can be read; None if it may be. An empty folder is a mount point."""
    try:
        with os.scandir(root) as entries:
            if next(entries, None) is None:
                return "the source folder is empty"
    except PermissionError as e:
        # A folder that cannot be listed may still be passed through to a file that was named.
        if not os.access(root, os.X_OK):
            return f"the source folder cannot be read ({e.strerror})"
    except OSError as e:
        return f"the source folder cannot be read ({e.strerror})"
    return None
