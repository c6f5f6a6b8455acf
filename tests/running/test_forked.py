"""Workers that are forked: as many as pay, replaced when they die, gone when their command is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from multiprocessing import Pipe
from pathlib import Path

import pytest

from dicom2cache.running.alone import Alone
from tests.support.caches import built, run_cli, tree
from tests.support.faults import WITHOUT_THREADS, wavelets, with_fault
from tests.support.processes import session, under_way

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")

_FORKED = """
import os, signal, sys, time
from dicom2cache.running import pool, seed
seed.fork_early("os")

def done(jobs, *calls, ordered=True):
    return list(pool.parallel(jobs, "loky", iter(calls), ordered))

def workers():
    return [worker.process.pid for worker in pool._crew(os.getpid()).workers]

{}
assert "joblib" not in sys.modules
print("right")
"""


def _right(code: str) -> None:
    """Run it in a process that has forked a seed."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FORKED.format(code)],
        check=False, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2],
        env={**os.environ, **WITHOUT_THREADS},
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "right\n", ""), ran.stderr


def test_results_in_order_and_as_they_come() -> None:
    _right("""
nap = lambda seconds: pool.call(time.sleep, seconds)
assert done(2, *(pool.call(divmod, k, 3) for k in range(9))) == [divmod(k, 3) for k in range(9)]
mixed = [pool.call(eval, f"[__import__('time').sleep({s}), {s}][1]") for s in (0.5, 0, 0.1)]
assert done(3, *mixed) == [0.5, 0, 0.1]
assert done(3, *mixed, ordered=False) == [0, 0.1, 0.5]
assert len(workers()) == 3
assert done(64, nap(0), nap(0)) == [None, None]
assert len(workers()) == 3, "one is forked only where there is a call for it"
assert set(done(64, *[pool.call(os.getppid)] * 5)) == {seed._seed.child.pid}
""")


def test_calls_and_results_larger_than_a_pipe() -> None:
    """Neither waits for the other to read."""
    _right("""
big = bytes(8 << 20)
assert done(2, *[pool.call(bytes.lower, big)] * 8, ordered=False) == [big] * 8
""")


def test_a_worker_that_dies_costs_its_call_only() -> None:
    _right("""
from concurrent.futures import BrokenExecutor
late = "[__import__('time').sleep(0.5), __import__('os').getpid()][1]"
calls = [pool.call(eval, late), pool.call(os.abort), pool.call(os.getpid)]
before, came = set(done(2, *calls[:1] * 2)), []
try:
    for found in pool.parallel(2, "loky", iter(calls), False):
        came.append(found)
except BrokenExecutor as e:
    assert f"died ({-signal.SIGABRT})" in str(e), e
else:
    raise AssertionError
assert len(came) == 1 and came[0] in before, "the other was ended, or the third call made"
after = done(2, *calls[:1] * 2)
assert len({*after} - before) == 1 and len({*after}) == 2
for pid in workers():
    os.kill(pid, signal.SIGKILL)  # while they are idle
time.sleep(0.2)
assert not {*done(2, *calls[:1] * 2)} & {*after}
""")


def test_a_result_that_a_worker_died_amid() -> None:
    """It was an OSError that no caller knew."""
    ours, theirs = Pipe()
    os.write(theirs.fileno(), (100).to_bytes(4, "big") + b"part of it")
    theirs.close()
    worker = Alone(subprocess.Popen(["false"]), ours)
    with ours, pytest.raises(BrokenExecutor, match=r"died \(1\)"):
        worker.result()


def test_what_a_call_raises_ends_the_others() -> None:
    _right("""
start = time.monotonic()
try:
    done(2, pool.call(time.sleep, 60), pool.call(int, "x"))
except ValueError as e:
    assert "in a worker process" in e.__notes__[0]
assert time.monotonic() - start < 30
assert len(workers()) == 1
some = pool.parallel(2, "loky", iter([pool.call(os.getpid), pool.call(time.sleep, 60)]), True)
next(some)
some.close()  # nobody wants the rest
assert time.monotonic() - start < 30
""")


def test_workers_are_none_any_more_when_what_they_were_forked_from_has_died() -> None:
    _right("""
once = [pool.call(time.sleep, 0.1)] * 4
done(4, *once)
before = workers()
os.kill(seed._seed.child.pid, signal.SIGKILL)
time.sleep(0.1)
assert not seed.is_there()
assert done(1, pool.call(os.getppid)) == [os.getpid()]
assert len(workers()) == 1 and not {*workers()} & {*before}
""")


def test_where_no_more_processes_may_be() -> None:
    _right("""
works, left = seed.worker, [1]
def worker():
    if left:
        return left.pop() and works()
    raise BlockingIOError(11, "no more")
pool.seed.worker = worker
assert len(set(done(4, *[pool.call(os.getpid)] * 5))) == 1
""")


def test_headers_are_read_by_as_many_as_there_are_chunks_for() -> None:
    """By the command itself where that is one; where it is more they begin at once."""
    _right("""
from dicom2cache.running import inventory
late = pool.call(eval, "[__import__('time').sleep(0.1), __import__('os').getpid()][1]")
readers = lambda jobs, chunks: {*inventory._headers(jobs, "loky", [late] * chunks)}
assert readers(2, 3) == readers(1, 4) == {os.getpid()} and workers() == []
assert readers(2, 4) == {*workers()} and len(workers()) == 2
assert readers(64, 7) == {*workers()} and len(workers()) == 3
""")


_BUILD = ("--shard-mib", "1", "--limits", "frame_seconds=100")


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, str]]:
    """(six files of JPEG 2000, three shards; digest of the fourth; the cache by one job)."""
    folder = tmp_path_factory.mktemp("waves")
    _, digest = wavelets(folder / "in")
    return folder / "in", digest, tree(built(folder / "in", folder / "one", *_BUILD, "--jobs", "1"))


def test_what_workers_are_forked_from_is_killed(
    tmp_path: Path, waves: tuple[Path, str, dict[str, str]]
) -> None:
    source, digest, expected = waves
    fault = with_fault("all-workers;", "kill", digest, tmp_path / "killed", "seed")
    ran = run_cli("build", source, tmp_path / "cache", *_BUILD, "--jobs", "2", env=fault)
    assert (ran.returncode, (tmp_path / "killed").exists()) == (0, True), ran.stderr
    assert tree(tmp_path / "cache") == expected


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_none_is_left_of_a_command_that_is_ended(
    tmp_path: Path, waves: tuple[Path, str, dict[str, str]], number: signal.Signals
) -> None:
    """SIGTERM comes to the command alone, as from `kill`."""
    source, _, expected = waves
    cache = tmp_path / "cache"
    again = ("build", source, cache, *_BUILD, "--jobs", "2")
    with under_way(cache, again, with_fault("all-workers;", "slow-publish")) as process:
        assert len(session(process.pid)) == 4  # the command, the seed, two workers
        process.send_signal(number)
        assert process.wait(30) == (130 if number == signal.SIGTERM else -number)
        ends = time.monotonic() + 15
        while session(process.pid) and time.monotonic() < ends:
            time.sleep(0.05)
        assert session(process.pid) == []
    ran = run_cli(*again)
    assert ran.returncode == 0, ran.stderr
    assert tree(cache) == expected
