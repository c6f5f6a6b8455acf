"""Worker processes end with the process that started them, however that ends.

A worker whose parent was killed would go on with the calls that are queued, and then wait for more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

_at_work = threading.Lock()
_LOOKS = 1.0  # seconds between looks at the parent


def while_parent_lives(
    parent: int, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """What the function returns; ends this process instead if its parent is no longer `parent`."""
    if os.getpid() == parent:  # joblib found no reason, or no way, to start workers
        return function(*args, **kwargs)
    _watch(parent)
    with _at_work:
        _end_without(parent)
        return function(*args, **kwargs)


@cache
def _watch(parent: int) -> None:
    """Look after the parent while this process waits for work; a call under way is ended first."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOKS)
        with _at_work:
            _end_without(parent)

    threading.Thread(target=look, name="parent-watch", daemon=True).start()


def _end_without(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)  # nobody is left to tell
