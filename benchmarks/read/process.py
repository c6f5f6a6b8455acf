"""One contender in a process of its own, told what to do by lines of JSON.

Run by contenders.py: python -m benchmarks.read.process PEER FOLDER WORKLOAD OPTIONS.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import private_mib
from benchmarks.read.workloads import Workload, untrue

_LONG = 1.5
"""seconds"""


def epochs(reader: Any, order: Any, least: float) -> dict[str, Any]:
    """Seconds and frames of as many epochs as take `least` seconds; batches are only let go.

    Another one comes first, untimed: while others had their turn the system may have taken back
    memory, and pages of files. It is timed, and alone, if it was so long that this is lost in it.
    """
    seconds, frames = _epoch(reader, order)
    if seconds < _LONG:
        seconds = frames = 0
        while seconds < least:
            one = _epoch(reader, order)
            seconds, frames = seconds + one[0], frames + one[1]
    return {"seconds": seconds, "frames": frames}


def _epoch(reader: Any, order: Any) -> tuple[float, int]:
    start, frames = time.perf_counter(), 0
    for image, index in reader(order):
        frames += len(index)
        del image
    return time.perf_counter() - start, frames


def main() -> None:
    """Open the contender, then an answer for each line: check, or an epoch of a seed."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    peer, folder = import_module(f"benchmarks.read.peers.{sys.argv[1]}"), Path(sys.argv[2])
    work, options = Workload(**json.loads(sys.argv[3])), json.loads(sys.argv[4])
    frames = folder.parent / f"{work.name}.npy"
    reader: Any = None
    for line in sys.stdin:
        told: dict[str, Any] = json.loads(line)
        answer: dict[str, Any]
        try:
            if told["do"] == "build":
                start = time.perf_counter()
                folder.mkdir(parents=True)
                peer.build(frames, folder, work)
                answer = {"seconds": time.perf_counter() - start}
            else:
                if reader is None:
                    reader = peer.opened(folder, work, options)
                order = np.random.default_rng(told["seed"]).permutation(work.frames)
                if told["do"] == "check":
                    true = np.load(frames, mmap_mode="r")[: work.frames]
                    answer = {"wrong": untrue(work, true, reader(order))}
                else:
                    answer = epochs(reader, order, told["least"])
                answer["private_mib"] = private_mib()
        except Exception as error:  # whatever it is, it costs this contender alone
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
