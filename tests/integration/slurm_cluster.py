"""A Slurm cluster of this machine alone: munged, slurmctld and slurmd, with all their files in one folder."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.integration.unprivileged import require_program

__all__ = ["slurm_cluster"]

_PATIENCE: Final = 60.0
_PACKAGES: Final = "slurm-wlm munge"
_CONFIGURATION: Final = """\
ClusterName=klock
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Mapping[str, str]]:
    """The variables with which `srun` finds the cluster, whose one node has four CPUs by its own word."""
    programs = {name: require_program(name, package=_PACKAGES) for name in ("munged", "slurmctld", "slurmd", "sinfo")}
    key = folder / "munge.key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    host = os.uname().nodename
    configuration.write_text(_CONFIGURATION.format(folder=folder, host=host, ports=_free_ports(2)))
    variables = {"SLURM_CONF": str(configuration)}
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    with ExitStack() as running:
        running.enter_context(
            _daemon([programs["munged"], "--foreground", f"--socket={folder}/munge.socket", *munge], folder, variables)
        )
        _wait_until((folder / "munge.socket").exists, folder)
        running.enter_context(_daemon([programs["slurmctld"], "-D"], folder, variables))
        running.enter_context(_daemon([programs["slurmd"], "-D"], folder, variables))
        ask = [programs["sinfo"], "--noheader", "--format", "%t"]
        environment = {**os.environ, **variables}
        _wait_until(
            lambda: "idle" in subprocess.run(ask, env=environment, capture_output=True, text=True, check=False).stdout,
            folder,
        )
        yield variables


@contextmanager
def _daemon(argv: list[str], folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    with open(folder / f"{Path(argv[0]).name}.out", "wb") as output:
        process = subprocess.Popen(argv, env={**os.environ, **variables}, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until(is_so: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        said = "\n".join(f"{file.name}: {file.read_text()[-500:]}" for file in folder.glob("*.out"))
        assert time.monotonic() < deadline, f"Slurm did not start:\n{said}"
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]
