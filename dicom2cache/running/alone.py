"""One worker process without joblib, whose import takes as long as that of what a worker does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.abc import MetaPathFinder
from typing import Any

from dicom2cache.frames.isolate import reached, sent, started

_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from dicom2cache.running.alone import serve
serve(sys.argv[1])
"""


def serve(where: str) -> None:
    """Make the calls that are asked for until the other end of the socket is closed."""
    without_pandas()
    pipe = reached(where)
    while True:
        try:
            function, arguments, named = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        found, error = None, None
        try:
            found = function(*arguments, **named)
        except Exception as e:
            error = sent(e, "in a worker process")
        try:
            pipe.send((found, error))
        except (
            BrokenPipeError,
            ConnectionResetError,
        ):  # whoever asked was interrupted, and is gone
            return


def without_pandas() -> None:
    """Keep pyarrow from importing pandas, where that is installed, in a process that is all ours.

    With the first array that it makes it looks for it, which takes as long as all that a worker
    imports. Who imports pandas later gets it, and pyarrow converts nothing to it.
    """
    import pyarrow

    if "pandas" in sys.modules:
        return
    nobody = _NoPandas()
    sys.meta_path.insert(0, nobody)
    try:
        pyarrow.array([0])
    finally:
        sys.meta_path.remove(nobody)


class _NoPandas(MetaPathFinder):
    """Finds that pandas is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        """As of any finder; raises ModuleNotFoundError."""
        if name == "pandas":
            raise ModuleNotFoundError("not wanted", name=name)


class Alone:
    """A process that makes calls, one after the other. Whoever asked for one awaits its result."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self.process, self._pipe = started(_CODE)
        self._is_busy = False

    def ask(
        self, function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]
    ) -> None:
        """Have it begin with a call that can be pickled.

        Raises BrokenProcessPool if it is dead, or busy with what nobody waits for any more.
        """
        if self._is_busy:
            raise BrokenProcessPool("whoever asked before was interrupted")
        self._is_busy = True
        try:
            self._pipe.send((function, arguments, named))
        except (BrokenPipeError, ConnectionResetError) as e:
            raise self._broken() from e

    def result(self) -> Any:
        """What the call returns; raises what it raises, BrokenProcessPool if the process died."""
        try:
            found, error = self._pipe.recv()
        except (EOFError, ConnectionResetError) as e:
            raise self._broken() from e
        self._is_busy = False
        if error is not None:
            raise error
        return found

    def _broken(self) -> BrokenProcessPool:
        return BrokenProcessPool(f"a worker process died ({self.process.wait()})")

    def end(self, at_once: bool = False) -> None:
        """End the process; of another's, as after a fork, nothing but what is kept here of it."""
        self._pipe.close()
        if os.getpid() != self._owner:
            return
        if at_once:
            self.process.kill()
        self.process.wait()
