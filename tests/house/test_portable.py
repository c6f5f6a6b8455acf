"""What not every system has is named in one module of each package, which has another way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
GUARDS = {"dicom2cache": "sources/system.py", "trainer_adapter": "format/system.py"}
ASKED = {
    # whom reading/choose.py and reserve() ask for only where system.py says that it is there
    "trainer_adapter/reading/advised.py": {"mmap", "ctypes"},
    "trainer_adapter/reading/ranges.py": {"mmap", "ctypes"},
    # where system.OPENS_FOLDERS, system.UNIX
    "trainer_adapter/format/files.py": {"dir_fd"},
    "dicom2cache/frames/isolate.py": {"pass_fds"},
    # below system.py's floor: asks by itself whether there are forks
    "trainer_adapter/batch/shared.py": {"os"},
}
"""kinds of what is rare, in modules that ask first"""
MODULES = {
    "fcntl",
    "resource",
    "termios",
    "pwd",
    "grp",
    "msvcrt",
    "winreg",
    "pty",
    "posix",
    "syslog",
}
OS = {
    "pread", "preadv", "pwrite", "pwritev", "readv", "writev", "lockf", "sendfile", "fdatasync",
    "copy_file_range", "posix_fadvise", "posix_fallocate", "splice", "memfd_create", "mkfifo",
    "mknod", "sync", "chown", "lchown", "fchown", "fchmod", "fchdir", "chroot", "statvfs",
    "fstatvfs", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getpgid", "getsid",
    "setsid", "setpgid", "kill", "killpg", "fork", "forkpty", "wait", "wait3", "waitid", "nice",
    "pidfd_open", "uname", "getloadavg", "sysconf", "sched_getaffinity", "sched_setaffinity",
    "sched_yield", "ttyname", "openpty", "getxattr", "setxattr", "listxattr", "register_at_fork",
    "major", "minor", "O_CLOEXEC", "O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK",
    "O_PATH", "O_SYNC", "O_DSYNC", "O_TMPFILE", "O_NOATIME", "O_BINARY", "SEEK_DATA", "SEEK_HOLE",
}  # fmt: skip
SIGNAL = {
    "SIGKILL", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGSTOP",
    "SIGCONT", "SIGTSTP", "SIGWINCH", "SIGQUIT", "SIGXCPU", "SIGBUS", "ITIMER_REAL", "alarm",
    "pause", "setitimer", "getitimer", "pthread_sigmask", "pthread_kill", "sigwait",
    "sigtimedwait", "sigpending", "siginterrupt", "SIG_BLOCK", "SIG_SETMASK",
}  # fmt: skip
KEYWORDS = {"dir_fd", "src_dir_fd", "dst_dir_fd", "pass_fds", "preexec_fn", "start_new_session"}


def rare(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """(line, kind, name) of what not every system has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
            yield from ((node.lineno, "module", name) for name in names if name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if node.module in MODULES:
                yield node.lineno, "module", str(node.module)
            taken = {"os": OS, "signal": SIGNAL}.get(str(node.module), set())
            yield from ((node.lineno, "os", a.name) for a in node.names if a.name in taken)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner, name = node.value.id, node.attr
            if name in {"os": OS, "signal": SIGNAL}.get(owner, set()):
                yield node.lineno, owner, name
            if owner == "mmap" and name.startswith(("MADV_", "MAP_", "PROT_")):
                yield node.lineno, "mmap", name
        elif isinstance(node, ast.Call):
            given = [k for k in node.keywords if k.arg in KEYWORDS]
            yield from ((node.lineno, str(k.arg), str(k.arg)) for k in given)
            function = ast.unparse(node.func)
            if function == "ctypes.CDLL" and [ast.unparse(a) for a in node.args] == ["None"]:
                yield node.lineno, "ctypes", "CDLL(None)"
            if function == "os.link" and any(k.arg == "follow_symlinks" for k in node.keywords):
                yield node.lineno, "os", "link(follow_symlinks)"
            if function == "mmap.mmap" and any(k.arg in ("flags", "prot") for k in node.keywords):
                yield node.lineno, "mmap", "mmap(flags)"


@pytest.mark.parametrize("package", sorted(GUARDS))
def test_only_one_module_names_what_is_rare(package: str) -> None:
    found = []
    for path in sorted((HERE / package).rglob("*.py")):
        name = path.relative_to(HERE).as_posix()
        if name == f"{package}/{GUARDS[package]}":
            assert list(rare(ast.parse(path.read_text())))
            continue
        asked = ASKED.get(name, set())
        seen = [one for one in rare(ast.parse(path.read_text())) if one[1] not in asked]
        found += [f"{name}:{line}: {what}" for line, _, what in seen]
    assert not found, f"by way of {GUARDS[package]}: {found}"


def test_what_is_rare_is_seen() -> None:
    """The list above sees each way to name such a thing."""
    for code in (
        "import fcntl", "from resource import getrlimit", "from os import pread", "os.preadv(f, b)",
        "flags = os.O_RDONLY | os.O_NOFOLLOW", "signal.setitimer(1, 2)", "os.open(a, 1, dir_fd=2)",
        "subprocess.Popen([], pass_fds=[1])", "ctypes.CDLL(None)", "mmap.mmap(-1, 1, flags=2)",
        "os.link(a, b, follow_symlinks=False)",
    ):  # fmt: skip
        assert list(rare(ast.parse(code))), code
    assert not list(rare(ast.parse("os.open(a, os.O_RDONLY); signal.SIGINT; mmap.PAGESIZE")))
