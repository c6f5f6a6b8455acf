"""Crash tests: `python -m tests.crash [KIND...] [--count N] [--seed S]`.

KIND is kills, order, faults, power, interrupts or removals; all without arguments: 200, 1, 300, 50,
48 and 120.
Prints a line for each that went wrong, and one for each kind; exit status 1 if there are any.
Linux; power cuts need root, to mount.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.disk import preloaded


def main() -> int:
    """Run what is asked for; 1 if anything was wrong."""
    asked = argparse.ArgumentParser(prog="tests.crash", description=__doc__)
    asked.add_argument("kinds", nargs="*", metavar="KIND")
    asked.add_argument("--count", type=int)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--file-system", default="ext4", help="of power cuts: ext4, xfs, btrfs")
    said = asked.parse_args()
    with preloaded(), tempfile.TemporaryDirectory(prefix="dicom2cache-crash-") as folder:
        return _all(said, Path(folder))


def _all(said: argparse.Namespace, folder: Path) -> int:
    from tests.crash.faults import faults
    from tests.crash.interrupts import interrupts
    from tests.crash.kills import kills
    from tests.crash.order import order
    from tests.crash.power import power
    from tests.crash.removals import removals
    from tests.crash.world import World

    story = {
        "kills": (200, lambda world, count: kills(world, count, said.seed)),
        "order": (1, lambda world, count: order(world)),
        "faults": (300, lambda world, count: faults(world, count, said.seed)),
        "power": (50, lambda world, count: power(world, count, said.seed, said.file_system)),
        "interrupts": (48, lambda world, count: interrupts(world, count, said.seed)),
        "removals": (120, removals),
    }
    world = World(folder)
    bad = 0
    for kind in said.kinds or story:
        count, run = story[kind]
        count, start, wrong, done = said.count or count, time.monotonic(), 0, 0
        for found in run(world, count):
            done += 1
            if found:
                wrong += 1
                print(f"{kind} {done}: {found}", flush=True)
        seconds = time.monotonic() - start
        print(f"{kind}: {done} done, {wrong} wrong, {seconds:.0f} s", flush=True)
        bad += wrong
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
