"""Faults for a converter in a process of its own: Python imports this at start, by PYTHONPATH.

FAULT says which: `abort-decoder SHA256`: the JPEG 2000 decoder aborts the process at the codestream
of that digest; `sleep SHA256 [held]`: so, but it sleeps instead, and lets no other Python code run
meanwhile (`held`); `kill SHA256 MARKER [seed]`: so, but it kills the process, or that which it was
forked from, unless that file exists, which it makes; `together COUNT`: the first so many calls of
that decoder wait for each other, and fail if they do not meet; `all-workers`: any work is worth a
process; `eat SHA256`: so, but it takes memory until there is none; `sleep-header NAME [here]`:
reading the header of that file sleeps, in worker processes, which are needed at once, or where it
is asked for; `abort-workers [at-once]`: worker processes die at start, and are needed at once;
`abort-isolated`: processes that decode in isolation die at start; `slow-publish`: half a second
goes by after each receipt; `keep NAME`: files of that name cannot be removed; `errno FUNCTION
NUMBER [MARKER]`: the function of `os` fails, with MARKER only until that file exists, which the
first failure makes; `raise MODULE:NAME...`: each of these functions raises X where it works on the
file X.dcm: one of its arguments has that name in it, or is an array that begins with the number
that `BEGINS` has for X; `no-kernel`: the compiled loops over pixels are not there; `old-kernel`:
they are of another revision; `no-fork`: workers are not forked, but joblib's; `no-crc32c`:
google-crc32c has no compiled part. `broken-decoder FUNCTION wrong|abort|sleep`: that function of
imagecodecs makes one wrong value, aborts, or sleeps. `no-links`, `no-direct`, `late` and `clock`
are of `poor`; `bare` is of `bare`. Several faults have a semicolon between them.
"""

import errno
import hashlib
import os
import sys
import time


def _abort_decoder(digest):
    import imagecodecs

    decode = imagecodecs.jpeg2k_decode

    def decode_or_die(data, **options):
        if hashlib.sha256(data).hexdigest() == digest:
            os.abort()
        return decode(data, **options)

    imagecodecs.jpeg2k_decode = decode_or_die


def _broken_decoder(function, how):
    import imagecodecs

    works = getattr(imagecodecs, function)

    def broken(*arguments, **options):
        if how == "abort":
            os.abort()
        if how == "sleep":
            time.sleep(600)
        pixels = works(*arguments, **options)
        pixels.flat[7] ^= 2
        return pixels

    setattr(imagecodecs, function, broken)


def _sleep(digest, held=""):
    import ctypes

    import imagecodecs

    sleep = ctypes.PyDLL(None).sleep if held else time.sleep

    decode = imagecodecs.jpeg2k_decode

    def decode_or_sleep(data, **options):
        if hashlib.sha256(data).hexdigest() == digest:
            sleep(600)
        return decode(data, **options)

    imagecodecs.jpeg2k_decode = decode_or_sleep


def _kill(digest, marker, seed=""):
    import signal

    import imagecodecs

    decode = imagecodecs.jpeg2k_decode

    def decode_or_die(data, **options):
        if hashlib.sha256(data).hexdigest() == digest and not os.path.exists(marker):
            open(marker, "x").close()
            os.kill(os.getppid() if seed else os.getpid(), signal.SIGKILL)
        return decode(data, **options)

    imagecodecs.jpeg2k_decode = decode_or_die


def _together(count):
    import itertools
    import threading

    import imagecodecs

    decode = imagecodecs.jpeg2k_decode
    meeting, calls = threading.Barrier(int(count)), itertools.count()

    def meet_and_decode(data, **options):
        if next(calls) < int(count):
            meeting.wait(60)
        return decode(data, **options)

    imagecodecs.jpeg2k_decode = meet_and_decode


def _all_workers():
    from dicom2cache.planning import crew

    crew._FORKED = crew._STARTED = crew._MUCH = 1


def _eat(digest):
    import imagecodecs

    decode = imagecodecs.jpeg2k_decode

    def decode_or_eat(data, **options):
        eaten = []
        while hashlib.sha256(data).hexdigest() == digest:
            eaten.append(bytes(64 << 20))
        return decode(data, **options)

    imagecodecs.jpeg2k_decode = decode_or_eat


def _sleep_header(name, here=""):
    from dicom2cache.headers import read
    from dicom2cache.running import inventory, pool

    if not here:
        pool.STARTING, inventory._HEADERS_AT_ONCE = 0, 1
    works = read._by_scan

    def scan_or_sleep(path, candidate, *rest):
        if candidate.path == name:
            time.sleep(600)
        return works(path, candidate, *rest)

    read._by_scan = scan_or_sleep


def _abort_workers(at_once=""):
    workers = "popen_loky", "dicom2cache.running.alone"
    if any(worker in argument for argument in sys.orig_argv for worker in workers):
        os.abort()
    os.register_at_fork(after_in_child=os.abort)
    if at_once:
        from dicom2cache.running import pool

        pool.STARTING = 0


def _no_fork():
    from dicom2cache.sources import system

    system.fork = lambda: None


def _abort_isolated():
    if any("dicom2cache.frames.isolate" in argument for argument in sys.orig_argv):
        os.abort()


def _keep(name):
    unlink = os.unlink

    def unlink_or_fail(path, **options):
        if os.path.basename(path) == name:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)
        return unlink(path, **options)

    os.unlink = unlink_or_fail


def _slow_publish():
    link = os.link

    def link_and_wait(*arguments, **options):
        link(*arguments, **options)
        time.sleep(0.5)

    os.link = link_and_wait


def _poor(what):
    def begin(*arguments):
        import poor

        getattr(poor, what)(*arguments)

    return begin


def _bare():
    import bare

    bare.hide()


def _no_kernel():
    sys.modules["dicom2cache.pixels._kernel"] = None  # an ImportError for who wants it


def _old_kernel():
    from dicom2cache.pixels import _kernel

    _kernel.REVISION = 0


def _no_crc32c():
    sys.modules["google_crc32c.cext"] = None


def _errno(function, number, marker=""):
    works = getattr(os, function)

    def fails(*arguments, **options):
        if marker and os.path.exists(marker):
            return works(*arguments, **options)
        if marker:
            open(marker, "x").close()
        raise OSError(int(number), os.strerror(int(number)))

    setattr(os, function, fails)


RAISED = (
    RuntimeError, KeyError, IndexError, OverflowError, RecursionError, MemoryError,
)  # fmt: skip
BEGINS = {kind.__name__: 1001 + k for k, kind in enumerate(RAISED)}


def _raise(*places):
    import importlib

    for place in places:
        module, _, name = place.partition(":")
        owner = importlib.import_module(module)
        *classes, name = name.split(".")
        for part in classes:
            owner = getattr(owner, part)
        setattr(owner, name, _raising(getattr(owner, name)))


def _raising(works):
    def raises(*arguments, **options):
        for kind in RAISED:
            if any(_is_of(kind.__name__, argument) for argument in arguments):
                raise kind("as the test wants")
        return works(*arguments, **options)

    return raises


def _is_of(name, argument):
    if hasattr(argument, "flat"):
        return argument.size > 0 and int(argument.flat[0]) == BEGINS[name]
    if hasattr(argument, "column_names") and "path" in argument.column_names:
        return any(path.endswith(f"{name}.dcm") for path in argument["path"].to_pylist())
    return f"{name}.dcm" in repr(argument)


_FAULTS = {
    "raise": _raise,
    "abort-decoder": _abort_decoder,
    "broken-decoder": _broken_decoder,
    "sleep": _sleep,
    "sleep-header": _sleep_header,
    "kill": _kill,
    "together": _together,
    "all-workers": _all_workers,
    "eat": _eat,
    "abort-workers": _abort_workers,
    "abort-isolated": _abort_isolated,
    "no-fork": _no_fork,
    "keep": _keep,
    "slow-publish": _slow_publish,
    "errno": _errno,
    "no-crc32c": _no_crc32c,
    "no-kernel": _no_kernel,
    "old-kernel": _old_kernel,
    "bare": _bare,
    "no-links": _poor("no_links"),
    "no-direct": _poor("no_direct"),
    "late": _poor("late"),
    "clock": _poor("clock"),
}
if "FAULT" in os.environ:  # else a test imports what is named here
    for _fault in os.environ["FAULT"].split(";"):
        _name, *_arguments = _fault.split()
        _FAULTS[_name](*_arguments)
