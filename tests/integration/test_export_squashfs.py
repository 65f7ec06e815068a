"""`klock export squashfs`: one lock, one file; what is in it is what is locked; charliecloud runs it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account, require_program

pytestmark = pytest.mark.integration

IMAGE = f"""\
import klock as kt

image = (
    kt.Image()
    .from_docker("{SMALL_BASE}")
    .set_env_vars({{"GREETING": "hello"}})
    .rsync("./app", "/srv/app", contents=True)
    .run_bash("rm /bin/rev; ln /srv/app/main.sh /srv/hard; chown 1000:1000 /srv/hard; mkdir -m 1777 /srv/all")
    .run_bash("cd /srv; mkfifo pipe; touch 'two\\nlines' $(printf 'x\\\\377'); chmod 4750 hard; ln -s /nowhere dead")
)
"""
LISTED = """{
    find /srv /bin /etc -exec stat -c '%n %F %a %u %g %s %N' {} +
    find /srv /bin -type f -exec sha256sum {} +
} | cat -v"""
"""Said by the image's own programs, so that both trees are read in one way."""


def succeeded(done: CompletedProcess[str]) -> CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def project(root: Account) -> Path:
    folder = root.make_folder("project")
    (folder / "app").mkdir()
    (folder / "app/main.sh").write_text("echo $GREETING\n")
    (folder / "kimage.py").write_text(IMAGE)
    (folder / "pyproject.toml").touch()
    write_small_base(folder / "layout", [("etc/resolv.conf", "-> ../run/resolve/stub.conf")])
    succeeded(root.klock("lock", cwd=folder))
    return folder


@pytest.fixture(scope="module")
def exported(root: Account, project: Path) -> Path:
    require_program("mksquashfs", package="squashfs-tools")
    file = project / "image.sqfs"
    done = succeeded(root.klock("export", "squashfs", "--mount-point", "/scratch/big", file, cwd=project))
    assert re.search(r"image\.sqfs written by mksquashfs 4\.\S+: linux/amd64/cpu, .* sha256:\w{64}\n$", done.stderr)
    return file


def test_another_account_store_umask_and_one_cpu_make_the_same_bytes(
    unprivileged: Account, project: Path, exported: Path
) -> None:
    other = unprivileged.make_folder("project")
    subprocess.run(["cp", "--recursive", *(project / name for name in PROJECT), other], check=True)
    unprivileged.give(other)
    script = (
        "import os, sys; os.umask(0o077); os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "sys.argv = ['klock', 'export', 'squashfs', '--mount-point', '/scratch/big', 'other.sqfs']; "
        "from klock.entry import main; main()"
    )
    store = {"KLOCK_CACHE_DIR": str(unprivileged.make_folder("store")), "SOURCE_DATE_EPOCH": "5"}
    unprivileged.run_python(script, cwd=other, env=store)
    assert (other / "other.sqfs").read_bytes() == exported.read_bytes()


PROJECT = ("app", "kimage.py", "pyproject.toml", "kimage.lock", "layout")


def test_its_files_are_those_of_the_environment(root: Account, project: Path, exported: Path) -> None:
    tree = root.make_folder("unpacked") / "tree"
    subprocess.run(
        ["unsquashfs", "-quiet", "-no-progress", "-d", tree, exported], check=True, stdout=subprocess.DEVNULL
    )
    succeeded(root.klock("sync", cwd=project))
    run = root.klock("run", "--network", "none", "--", "sh", "-c", LISTED, cwd=project)
    locked = _listed(succeeded(run).stdout)
    chrooted = subprocess.run(["chroot", tree, "/bin/sh", "-c", LISTED], capture_output=True, text=True, check=True)
    assert _listed(chrooted.stdout) == locked
    assert any("/srv/xM-^?" in line for line in locked), "names are bytes"
    assert (tree / "scratch/big").is_dir()
    assert (tree / "run/resolve/stub.conf").read_bytes() == b"", "where the image's /etc/resolv.conf leads"


def _listed(text: str) -> set[str]:
    """Without what the sandbox mounts in /etc, and without the sizes of folders, which are their disk's affair."""
    lines = (re.sub(r"( directory \d+ \d+ \d+) \d+", r"\1", line) for line in text.splitlines())
    return {line for line in lines if not line.startswith(("/etc/hosts", "/etc ", "/etc/resolv.conf"))}


def test_charliecloud_runs_it(project: Path, exported: Path, tmp_path: Path) -> None:
    program = require_program("ch-run", package="charliecloud-runtime")
    command = [program, f"--mount={tmp_path}", "--env-no-expand", "--set-env", "--cd=/srv/app", str(exported), "--"]
    script = (
        "sh main.sh; test -s /etc/resolv.conf && test -e /dev/null && test -e /proc/self && touch /tmp/made-by-ch-run"
    )
    done = subprocess.run(
        [*command, "sh", "-c", script],
        env={"USER": "somebody", "PATH": os.defpath, "TMPDIR": str(tmp_path.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
