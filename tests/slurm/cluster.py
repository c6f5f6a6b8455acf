"""A Slurm of two nodes on one machine, in a folder of its own; needs root.

python -m tests.slurm.cluster    installs it by apt if it is not there; status 1 if that cannot be
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged")
_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
KillWait=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=500
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=500
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def install() -> str | None:
    """Have Slurm on this machine; why that cannot be, or None."""
    if not _missing():
        return None
    if os.geteuid():
        return f"not root: {', '.join(_missing())} cannot be installed"
    if shutil.which("apt-get") is None:
        return f"no apt-get here: install {', '.join(_missing())} yourself"
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *_PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=quiet, capture_output=True, text=True, check=False
        )
    if done.returncode or _missing():
        return f"apt-get install {' '.join(_PACKAGES)}: {done.stderr.strip()[-500:]}"
    return None


def _missing() -> list[str]:
    return [name for name in _PROGRAMS if _where(name) is None]


def _where(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Two nodes while the block runs; the environment in which sbatch finds them."""
    for name in ("state", "spool-n1", "spool-n2", "munge"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(host=host, folder=folder, ports=_free_ports(3)))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    munge = folder / "munge"
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    munged = [
        "munged", "--foreground", "--force", f"--key-file={munge}/key",
        f"--socket={munge}/socket", f"--pid-file={munge}/pid", f"--log-file={munge}/log",
        f"--seed-file={munge}/seed",
    ]  # fmt: skip
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in (
            munged,
            ["slurmctld", "-D", "-f", str(conf)],
            ["slurmd", "-D", "-N", "n1", "-f", str(conf)],
            ["slurmd", "-D", "-N", "n2", "-f", str(conf)],
        ):
            program = _where(command[0])
            assert program is not None, f"{command[0]} is not installed"
            with open(folder / f"daemon-{len(daemons)}.log", "wb") as out:
                daemons.append(
                    subprocess.Popen(
                        [program, *command[1:]], env=environment, stdout=out, stderr=out
                    )
                )
            time.sleep(1)
        _await_nodes(environment, folder)
        yield environment
    finally:
        subprocess.run(
            ["scancel", "--full", "--user", "root"], env=environment, check=False, timeout=30
        )
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(timeout=10)
            daemon.kill()


def _await_nodes(environment: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%N %t"], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if sorted(done.stdout.split("\n")) == ["", "n1 idle", "n2 idle"]:
            return
        time.sleep(0.5)
    logs = "\n".join(f"{p.name}:\n{p.read_text()[-1500:]}" for p in folder.glob("*.log"))
    raise AssertionError(f"Slurm's nodes are not up: {done.stdout}{done.stderr}\n{logs}")


if __name__ == "__main__":
    why = install()
    if why is not None:
        print(f"Slurm is not tested here: {why}", file=sys.stderr)
    sys.exit(why is not None)
