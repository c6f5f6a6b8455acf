"""Where the command line begins: Ctrl-C is looked after before anything large is imported.

An import that is interrupted prints a traceback, or fails as something else.
"""

from __future__ import annotations

import os
import signal


def _leave(*_: object) -> None:
    os.write(2, b"interrupted; run the same command again to go on\n")
    os._exit(130)  # nothing is begun yet


for _number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(_number) != signal.SIG_IGN:  # as in the background of a shell
        signal.signal(_number, _leave)


def main() -> None:
    """Run the command line, and leave by its exit status."""
    from dicom2cache.cli import interrupts
    from dicom2cache.cli.app import main as run
    from dicom2cache.running.alone import without_pandas

    without_pandas()
    try:
        run()
    finally:
        interrupts.ignore()
        exec("")  # or Python, if the interrupt came through an exec(), ends itself by SIGINT
