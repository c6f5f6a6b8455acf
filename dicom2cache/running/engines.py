"""A cluster of Dask that is there already, which joblib hands tasks to.

Its workers do what local processes do: a task is idempotent and publishes one whole file. They
need the sources and the cache at the same paths, and the same versions of this package. Ray is left
out: joblib's backend for it gives no result before all are there, and ends with a worker that dies.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicom2cache.errors import EngineError, remedy

_log = logging.getLogger("dicom2cache")

ELSEWHERE = ("dask",)
"""backends whose workers may be on other machines"""


@contextmanager
def engine(backend: str, scheduler: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Be a client of the cluster while the block runs; nothing for backends of this machine.

    `scheduler` is the address of Dask's scheduler, or the file that it writes; None: the client
    that this process has already. Raises EngineError if there is none, or it cannot be reached.
    """
    if backend == "dask":
        with _dask(scheduler):
            yield
    elif scheduler is not None:
        raise EngineError(f"a scheduler is for dask, not for {backend}; give --backend dask")
    else:
        yield


def never_here(backend: Any) -> None:
    """Have joblib's backend leave all calls to the cluster's workers, whoever comes.

    joblib counts the workers once: it makes the calls in this process where there is one of one
    thread, and gives up after 10 s where there is none yet.
    """
    if not backend.client.ncores():
        _log.warning("no worker of Dask is there yet; waiting for one")
    backend.effective_n_jobs = lambda n_jobs: max(2, sum(backend.client.ncores().values()))


@contextmanager
def _dask(scheduler: str | os.PathLike[str] | None) -> Iterator[None]:
    try:
        from distributed import Client, default_client
    except ImportError as e:
        raise EngineError(
            f"--backend dask: {e.name} is not installed here; {remedy('dask')}"
        ) from e
    if scheduler is None:
        try:
            default_client()
        except ValueError:
            raise EngineError(
                "no client of Dask here; give --scheduler ADDRESS or its file, or make a "
                "distributed.Client before"
            ) from None
        yield
        return
    where = os.fspath(scheduler)
    known: dict[str, Any] = (
        {"scheduler_file": where} if Path(where).is_file() else {"address": where}
    )
    try:
        client = Client(**known, timeout="30s", set_as_default=True)
    except (OSError, ValueError, TypeError) as e:
        raise EngineError(
            f"{where}: no scheduler of Dask there ({str(e).splitlines()[0] if str(e) else e!r}); "
            "legal: an address such as tcp://host:8786, or a file that the scheduler wrote"
        ) from e
    with client:
        yield
