"""The same packages make the same tree on any Debian: with another Python, tar, dpkg and apt, or with none."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from klock.bases import resolve_base
from klock.debian.fetch import digest_of
from klock.image.steps import DebianBase
from klock.lockfile.model import DebianLock
from klock.store import Store
from klock.targets import Target
from klock.workshop import SandboxWorkshop
from tests.integration.conftest import lockfile_of
from tests.integration.unprivileged import Account, require_program
from tests.run_folder import made_once, test_cache

pytestmark = [pytest.mark.integration, pytest.mark.soak]

HERE = Target.of_this_machine()
SUITES = {"bookworm": "Debian GNU/Linux 12", "trixie": "Debian GNU/Linux 13"}
SCRIPT = """\
import platform
from pathlib import Path
from klock.bases import fetch_base
from klock.lockfile.reading import from_text
from klock.store import Store
from klock.workshop import SandboxWorkshop

(locked,) = from_text(Path("/srv/kimage.lock").read_text()).targets
store = Store(Path("/srv/store"))
workshop = SandboxWorkshop(store)
fetch_base(locked.base, workshop=workshop, store=store, root=Path("/srv"), offline=True)
print(platform.freedesktop_os_release()["PRETTY_NAME"])
print(workshop.base_manifest(locked.base.id).digest)
"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> tuple[DebianLock, Store]:
    """A base with a language in it, made on this machine."""
    store = Store(tmp_path_factory.mktemp("debian") / "store")
    lock = resolve_base(
        DebianBase(suite="bookworm", packages=("python3", "git")),
        target=HERE,
        root=Path("/"),
        store=store,
        workshop=SandboxWorkshop(store),
    )
    assert isinstance(lock, DebianLock)
    return lock, store


def host_of(suite: str, folder: Path) -> Path:
    """The root of a machine with this suite, Python and bubblewrap."""
    require_program("mmdebstrap", package="mmdebstrap")

    def make(archive: Path) -> None:
        packages = "python3,bubblewrap"
        subprocess.run(["mmdebstrap", "--quiet", f"--include={packages}", suite, archive], check=True)

    archive = made_once(test_cache() / f"host-{suite}.tar", make)
    folder.mkdir()
    subprocess.run(["tar", "-xpf", archive, "-C", folder, "--exclude=./dev/*"], check=True)
    return folder


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("programs", ["all its programs", "bubblewrap alone"])
def test_another_host_makes_the_same_tree(
    suite: str, programs: str, locked: tuple[DebianLock, Store], root: Account, tmp_path: Path
) -> None:
    lock, full = locked
    (tmp_path / "kimage.lock").write_text(lockfile_of(lock))
    store = Store(tmp_path / "store")
    for found in lock.debs:
        store.add_bytes(full.blob_path(digest_of(found)).read_bytes())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/bwrap").symlink_to("/usr/bin/bwrap")
    path = "/srv/bin" if programs == "bubblewrap alone" else "/usr/sbin:/usr/bin:/sbin:/bin"
    there = host_of(suite, tmp_path / "host")
    done = subprocess.run(
        [
            *(
                "bwrap",
                "--bind",
                there,
                "/",
                "--dev-bind",
                "/dev",
                "/dev",
                "--bind",
                "/proc",
                "/proc",
                "--tmpfs",
                "/tmp",
            ),
            *("--tmpfs", "/tmp", "--bind", tmp_path, "/srv", "--ro-bind", root.source, "/opt/klock"),
            *("--ro-bind", sysconfig.get_path("purelib"), "/opt/site", "--unshare-net", "--cap-add", "ALL"),
            *("--clearenv", "--setenv", "PATH", path, "--setenv", "PYTHONPATH", "/opt/klock:/opt/site"),
            *("--setenv", "PYTHONDONTWRITEBYTECODE", "1", "--setenv", "TZ", "Asia/Kathmandu"),
            *("--", "/usr/bin/python3", "-c", SCRIPT),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, tree = done.stdout.splitlines()
    assert name.startswith(SUITES[suite])
    assert tree == lock.tree
