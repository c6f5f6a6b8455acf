"""Where the command line begins: Ctrl-C is looked after before anything large is imported.

An import that is interrupted prints a traceback, or fails as something else.
"""

from __future__ import annotations

import gc
import os
import signal
import sys


def _leave(*_: object) -> None:
    os.write(2, b"interrupted; run the same command again to go on\n")
    os._exit(130)  # nothing is begun yet


for _number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(_number) != signal.SIG_IGN:  # as in the background of a shell
        signal.signal(_number, _leave)


def _take_the_first_three() -> None:
    """Have descriptors 0 to 2 be open: what libraries print shall not end in a pipe or a shard."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free


_CONVERT, _HEADERS = "dicom2cache.running.convert", "dicom2cache.running.inventory"
_FORKING = {
    "build": (_CONVERT, _HEADERS),
    "convert": (_CONVERT,),
    "plan": (_HEADERS,),
    "repair": ("dicom2cache.running.repair.shards",),
    "update": ("dicom2cache.pipeline",),  # which mostly finds nothing new
}
"""commands that have worker processes, and what those have from their parent"""

_WITHOUT_THREADS = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of an allocator that is not used
}
"""settings by which imports of NumPy and Arrow begin no threads, which a fork would lose"""


def main() -> None:
    """Run the command line, and leave by its exit status."""
    gc.disable()  # what is imported stays: nothing to look for
    _take_the_first_three()
    from dicom2cache.cli import interrupts

    modules = _FORKING.get("".join(sys.argv[1:2]))
    if modules is not None:
        for name, said in _WITHOUT_THREADS.items():
            os.environ.setdefault(name, said)
        from dicom2cache.running.seed import fork_early

        fork_early(*modules)
    from dicom2cache.cli.app import main as run
    from dicom2cache.running.alone import without_pandas

    without_pandas()
    gc.freeze()
    gc.enable()
    try:
        run()
    finally:
        interrupts.ignore()
        exec("")  # or Python, if the interrupt came through an exec(), ends itself by SIGINT
