"""A command that is one of many: it knows which one, and the name of the machine that it is on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

SAY = "cat /proc/sys/kernel/hostname; echo $SLURM_PROCID $OMP_NUM_THREADS $OTHER $SLURM_JWT; cat /etc/hosts"


@pytest.fixture(scope="module")
def project(root: Account) -> Path:
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
