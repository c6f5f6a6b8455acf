"""File systems and clocks that are poorer than here, for a converter in a process of its own."""

import builtins
import contextlib
import errno
import fcntl
import io
import os
import time


def no_links(number):
    """link() fails with this error."""

    def link(own, target, **options):
        raise OSError(int(number), os.strerror(int(number)), own, None, target)

    os.link = link


def no_direct(*when):
    """Direct I/O cannot be turned on; with `writes` it can, and then each write fails."""
    works, pwrite = fcntl.fcntl, os.pwrite

    def refuses(descriptor, command, argument=0):
        if command == fcntl.F_SETFL and argument & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return works(descriptor, command, argument)

    def refuses_writes(descriptor, data, place):
        if works(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return pwrite(descriptor, data, place)

    if when == ("writes",):
        os.pwrite = refuses_writes
    else:
        fcntl.fcntl = refuses


def clock(seconds):
    """The clock is wrong by so many seconds, and so are the times of files that are closed."""
    now, closes = time.time, os.fsync

    def fsync(descriptor):
        closes(descriptor)
        with contextlib.suppress(OSError):  # a folder of another's
            os.utime(descriptor, (now() + float(seconds),) * 2)

    time.time, os.fsync = lambda: now() + float(seconds), fsync


def late(node, log, seconds):
    """Names that processes of other nodes have given in the last seconds are not seen.

    `log` is a file that all nodes of this machine write: what got which name, when, by which node.
    A file that was there under that name is not seen either. What asks the server (link, mkdir,
    rename, O_EXCL) sees all.
    """
    seconds = float(seconds)
    names = {name: getattr(os, name) for name in ("link", "rename", "replace")}
    stat, scandir, listdir, open_ = os.stat, os.scandir, os.listdir, os.open
    file_open = io.open

    def absolute(path):
        return os.path.abspath(os.fsdecode(path))

    def naming(works):
        def name(own, target, **options):
            works(own, target, **options)
            said = f"{time.monotonic()} {node} {absolute(target)}\n".encode()
            descriptor = open_(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, said)
            os.close(descriptor)

        return name

    def hidden():
        try:
            with file_open(log, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return set()
        found = set()
        for line in lines:
            when, who, path = line.split(" ", 2)
            if who != node and time.monotonic() - float(when) < seconds:
                found.add(path)
        return found

    def check(path):
        if isinstance(path, (str, bytes, os.PathLike)) and absolute(path) in hidden():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def seeing(works):
        def see(path=".", *arguments, **options):
            check(path)
            return works(path, *arguments, **options)

        return see

    def lists(path="."):
        check(path)
        away = hidden()
        return [name for name in listdir(path) if os.path.join(absolute(path), name) not in away]

    def opens(path, flags, *arguments, **options):
        if not flags & os.O_EXCL:
            check(path)
        return open_(path, flags, *arguments, **options)

    def opens_file(path, mode="r", *arguments, **options):
        if "x" not in mode:
            check(path)
        return file_open(path, mode, *arguments, **options)

    for name, works in names.items():
        setattr(os, name, naming(works))
    os.stat, os.lstat = seeing(stat), seeing(os.lstat)
    os.scandir, os.listdir, os.open = seeing(scandir), lists, opens
    builtins.open = io.open = opens_file
