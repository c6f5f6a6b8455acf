"""`python -m tests.fuzz [TARGET...]`: each target under atheris, in a process of its own.

What it finds is a file in build/fuzz/found, by the name of its target: `python -m tests.fuzz
TARGET --replay FILE` runs that alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parents[2]
_BUILD = HERE / "build" / "fuzz"
_TIMEOUT, _MEMORY = 25, 2048
"""seconds of a run, MiB of a process: beyond, it is a hang, or growth"""


def main() -> int:
    """Run the targets one after the other; 1 if one of them found something."""
    options = _options()
    if options.replay:
        from tests.fuzz.targets import TARGETS

        TARGETS[options.targets[0]].run(options.replay.read_bytes())
        return 0
    if options.child:
        return _fuzz(options)
    from tests.fuzz.headers import in_memory
    from tests.fuzz.targets import TARGETS

    chosen = [TARGETS[name] for name in options.targets] or list(TARGETS.values())
    runs, found = sum(target.runs for target in chosen), []
    shares = sum(target.time for target in chosen)
    for target in chosen:
        started = time.perf_counter()
        corpus = _BUILD / target.name
        corpus.mkdir(parents=True, exist_ok=True)
        for k, seed in enumerate(target.seeds()):
            (corpus / f"seed-{k}").write_bytes(seed)
        (_BUILD / "found").mkdir(exist_ok=True)
        with TemporaryDirectory(prefix="dicom2cache-fuzz-", dir=in_memory()) as room:
            done = subprocess.run(
                [
                    *(sys.executable, "-W", "ignore", "-m", "tests.fuzz", target.name, "--child"),
                    f"--runs={options.runs * target.runs // runs}",
                    f"--seconds={options.seconds * target.time // shares}",
                    f"--seed={options.seed}",
                ],
                cwd=HERE,
                env={**os.environ, "TMPDIR": room},  # a process that libFuzzer ends leaves its own
                check=False,
            )
        took = time.perf_counter() - started
        print(f"{target.name}: status {done.returncode} after {took:.0f} s", flush=True)
        if done.returncode:
            found.append(target.name)
    if found:
        print(f"found something: {', '.join(found)}; inputs are in {_BUILD / 'found'}")
    return 1 if found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="all by default")
    parser.add_argument("--runs", type=int, default=2_000_000, help="of all targets together")
    parser.add_argument("--seconds", type=int, default=1800, help="of all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="an input that was found")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _fuzz(options: argparse.Namespace) -> int:
    import atheris

    with atheris.instrument_imports(include=["dicom2cache", "trainer_adapter"]):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[options.targets[0]]
    corpus = _BUILD / target.name
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-runs={options.runs}",
            f"-max_total_time={max(1, options.seconds)}",
            f"-seed={options.seed}",
            f"-max_len={target.longest}",
            f"-timeout={_TIMEOUT}",
            f"-rss_limit_mb={_MEMORY}",
            f"-artifact_prefix={_BUILD / 'found' / target.name}-",
            "-print_final_stats=1",
            "-verbosity=1",
        ],
        target.run,
    )
    atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
