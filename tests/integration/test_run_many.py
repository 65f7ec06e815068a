"""A command that is one of many: it knows which one, the name of its machine, and what it shares with the others."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from klock.ray.plugin import Plugin
from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

SAY = "cat /proc/sys/kernel/hostname; echo $SLURM_PROCID $OMP_NUM_THREADS $OTHER $SLURM_JWT; cat /etc/hosts"
PATIENCE = 30.0


@pytest.fixture(scope="module")
def project(root: Account) -> Path:
    return locked(root)


def locked(root: Account) -> Path:
    folder = root.make_folder("project")
    image = f'kt.Image().from_docker("{SMALL_BASE}").set_env_vars({{"OMP_NUM_THREADS": "2"}})'
    (folder / "kimage.py").write_text(f"import klock as kt\nimage = {image}\n")
    write_small_base(folder / "layout")
    assert root.klock("lock", cwd=folder).returncode == 0
    return folder


def test_a_command_knows_its_rank_and_its_machine(root: Account, project: Path) -> None:
    """What the image sets counts; a credential stays out; another variable comes if it is asked for."""
    env = {"SLURM_PROCID": "3", "OMP_NUM_THREADS": "8", "OTHER": "x", "SLURM_JWT": "eyJhbGciOiJIUzI1NiJ9.abc.defghi"}
    done = root.klock("run", "--env", "OTHE*", "--", "sh", "-c", SAY, cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    name, said, *hosts = done.stdout.splitlines()
    assert name == os.uname().nodename
    assert said == "3 2 x"
    assert "127.0.0.1 localhost" in hosts[0]
    own = [line for line in Path("/etc/hosts").read_text().splitlines() if name in line.split()[1:]]
    assert [line for line in hosts if name in line.split()[1:]] == own or not own
    assert not any("klock" in line.split() for line in hosts if "klock" not in name)


def test_without_a_network_the_machine_has_no_name(root: Account, project: Path) -> None:
    done = root.klock("run", "--network", "none", "--", "sh", "-c", SAY, cwd=project)
    assert done.stdout.splitlines()[0] == "klock"
    assert "127.0.0.1 localhost klock" in done.stdout


def started(account: Account, project: Path, *words: str) -> subprocess.Popen[str]:
    """A klock of its own, which has printed a line when this returns."""
    process = subprocess.Popen(
        [account.python, "-m", "klock", "run", *words],
        cwd=project,
        env=account.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **account.identity,
    )
    assert process.stdout is not None and process.stdout.readline() != ""
    return process


def is_running(name: str) -> bool:
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if line.read_text().split("\0")[:-1] == ["sleep", name]:
                return True
    return False


def test_with_the_machines_process_ids_nothing_stays(unprivileged: Account) -> None:
    """Neither of a command that ended, nor of one whose klock was killed; and no process outside can be looked into."""
    project = locked(unprivileged)
    say = "readlink /proc/self/ns/pid; cat /proc/$PPID/environ /proc/1/environ; setsid sleep 6180 & sleep 6180 &"
    done = unprivileged.klock("run", "--host-pid", "--", "sh", "-c", say, cwd=project)
    assert done.returncode == 0 and done.stdout == f"{Path('/proc/self/ns/pid').readlink()}\n"
    assert done.stderr.count("Permission denied") == 2
    assert not is_running("6180")
    process = started(unprivileged, project, "--host-pid", "--", "sh", "-c", f"setsid {say} echo; sleep 6181 & wait")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + PATIENCE
    while is_running("6180") or is_running("6181"):
        assert time.monotonic() < deadline, "processes stay"
        time.sleep(0.05)


def test_commands_of_one_environment_share_memory_unless_one_has_its_own(root: Account, project: Path) -> None:
    ends = ("sh", "-c", "echo first > /dev/shm/note; echo; read line")
    alone = ("sh", "-c", "ls /dev/shm; df -k /dev/shm | tail -n 1; echo own > /dev/shm/note")
    first = started(root, project, "--", *ends)
    own = root.klock("run", "--shm-size", "2m", "--", *alone, cwd=project)
    assert own.stdout.split()[:2] == ["tmpfs", "2048"], own.stderr
    assert root.klock("run", "--", "cat", "/dev/shm/note", cwd=project).stdout == "first\n"
    first.communicate("\n")
    assert root.klock("run", "--", "ls", "/dev/shm", cwd=project).stdout == ""


def test_memory_of_the_machine(root: Account, project: Path) -> None:
    shown = Path(f"/dev/shm/klock-test-{os.getpid()}")
    shown.write_text("shared ")
    try:
        say = f"cat {shown}; readlink /proc/self/ns/ipc; echo back > {shown}"
        done = root.klock("run", "--host-ipc", "--", "sh", "-c", say, cwd=project)
        assert shown.read_text() == "back\n"
    finally:
        shown.unlink()
    assert done.stdout == f"shared {Path('/proc/self/ns/ipc').readlink()}\n"


def test_devices_by_path_are_there_for_every_user(root: Account, project: Path) -> None:
    say = "head -c 2 /dev/klock/zero | od -An -tx1; stat -c %a /dev/klock"
    done = root.klock("run", "--device", "/dev/zero:/dev/klock/zero", "--", "sh", "-c", say, cwd=project)
    assert done.stdout.split() == ["00", "00", "755"]


def test_devices_by_the_name_of_a_specification(root: Account, project: Path) -> None:
    folder = root.make_folder("cdi")
    # As those of an InfiniBand card are described (cdi/SPEC.md): several nodes in a folder, with their numbers.
    nodes = [
        {"path": "/dev/infiniband/uverbs0", "hostPath": "/dev/zero", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/infiniband/rdma_cm", "hostPath": "/dev/null", "type": "c", "permissions": "rw"},
    ]
    edits = {"deviceNodes": nodes, "env": ["NIC=one"]}
    devices = [{"name": "one", "containerEdits": edits}]
    (folder / "nic.json").write_text(json.dumps({"cdiVersion": "0.6.0", "kind": "klock.test/nic", "devices": devices}))
    env = {"KLOCK_CDI_SPEC_DIRS": str(folder)}
    say = "head -c 2 /dev/infiniband/uverbs0 | od -An -tx1; echo x > /dev/infiniband/rdma_cm && echo $NIC; ulimit -l"
    asked = ("--device", "klock.test/nic=one", "--device", "/dev/zero:/dev/klock/other")
    say += "; ls /dev/infiniband /dev/klock"
    done = root.klock("run", *asked, "--", "sh", "-c", say, cwd=project, env=env)
    *said, locked, infiniband, cm, verbs, other, own = done.stdout.split()
    assert said == ["00", "00", "one"], done.stderr
    assert [infiniband, cm, verbs, other, own] == ["/dev/infiniband:", "rdma_cm", "uverbs0", "/dev/klock:", "other"]
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    assert locked == ("unlimited" if limit == resource.RLIM_INFINITY else str(limit // 1024))


def test_the_environment_of_rays_worker_is_removed_unless_one_is_in_it(
    root: Account, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in root.environment.items():
        monkeypatch.setenv(name, value)
    plugin = Plugin()
    made = {"lockfile": str(project / "kimage.lock"), "bytes": 5}
    process = started(root, project, "--", "sh", "-c", "echo; read line")
    plugin._made["klock://a"] = dict(made)
    assert plugin.delete_uri("klock://a", logging.getLogger("test")) == 0
    process.communicate("\n")
    assert process.returncode == 0
    plugin._made["klock://a"] = dict(made)
    assert plugin.delete_uri("klock://a", logging.getLogger("test")) == 5
    done = root.klock("run", "--no-sync", "--", "true", cwd=project)
    assert (done.returncode, "there is no environment yet" in done.stderr) == (2, True)
    assert root.klock("run", "--", "true", cwd=project).returncode == 0
