"""The harness itself: what the other integration tests rely on."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration


def test_the_base_has_python_and_nothing_of_this_machine(debian_rootfs_tar: Path) -> None:
    with tarfile.open(debian_rootfs_tar) as tar:
        members = {member.name.removeprefix("./"): member for member in tar}
    assert members["usr/bin/python3.11"].isfile()
    assert members["etc/resolv.conf"].size == members["etc/hostname"].size == 0


def test_an_account_is_who_it_says(account: Account) -> None:
    script = "import os, klock; print(os.getuid(), os.getgid(), os.getgroups(), klock.__file__)"
    expected = f"{account.uid} {account.gid} {[] if account.uid != os.getuid() else os.getgroups()}"
    printed = account.run_python(script, cwd=account.make_folder("work"))
    assert printed == f"{expected} {account.source}/klock/__init__.py\n"


def test_an_unprivileged_account_can_become_root_of_its_own_namespace(unprivileged: Account) -> None:
    work = unprivileged.make_folder("work")
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--map-auto",
        "sh",
        "-c",
        "touch a; chown 1:1 a; id -u; cat /proc/self/uid_map",
    ]
    done = unprivileged.run(command, cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "0"
    assert len(done.stdout.splitlines()) == 3


def test_klock_is_the_real_command_line(account: Account) -> None:
    done = account.klock("--version", cwd=account.make_folder("work"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("klock ")
