"""Machines that lack something: every lack is one clear error with the way out, and leaves nothing half made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.sandbox_fixtures import Archive, member
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

CHECK = """
from klock.workshop import SandboxWorkshop
from klock.errors import KlockError
from klock.store import Store
try:
    SandboxWorkshop(Store()).check()
    print("fine")
except KlockError as error:
    print(type(error).__name__, error.message, error.hint, sep="\\n")
"""

ADD = """
import os, sys
from pathlib import Path
from klock.workshop.protocol import BaseLayer
from klock.workshop import SandboxWorkshop
from klock.errors import KlockError
from klock.store import Store

store = Store()
engine = SandboxWorkshop(store)
layer = BaseLayer(path=Path(sys.argv[1]), media_type="application/vnd.oci.image.layer.v1.tar", diff_id="")
try:
    print(list(engine.add_base("sha256:" + "0" * 64, [layer])))
except KlockError as error:
    print(type(error).__name__, error.message, error.hint, sep="\\n")
left = [os.listdir(store.root / name) for name in ("trees", "tmp") if (store.root / name).exists()]
print(sum(left, []))
"""


def test_a_machine_that_has_everything(account: Account) -> None:
    assert account.run_python(CHECK, cwd=account.folder) == "fine\n"


def test_without_newuidmap(unprivileged: Account) -> None:
    programs = unprivileged.make_folder("programs")
    (programs / "bwrap").symlink_to(shutil.which("bwrap") or "/usr/bin/bwrap")
    done = unprivileged.run_python(CHECK, cwd=unprivileged.folder, env={"PATH": str(programs)})
    assert done.splitlines() == [
        "EngineError",
        "newuidmap is not installed; without root klock needs it to give files their owners",
        "run `apt-get install uidmap`",
    ]


def test_without_subordinate_ids(root: Account, unprivileged: Account) -> None:
    """`nobody` has none anywhere."""
    folder = root.make_folder("nobodys")
    folder.chmod(0o777)
    argv: list[str | Path] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", unprivileged.python]
    argv += ["-c", CHECK]
    done = root.run(argv, cwd=folder, env={"KLOCK_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(root.source)})
    assert done.stdout.splitlines() == [
        "EngineError",
        "the user nobody has no range of ids in /etc/subuid",
        "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 nobody",
    ], done.stderr


def in_container(account: Account, script: str, *arguments: str | Path) -> list[str]:
    """Runs a shell script in a user and mount namespace of its own, in which only the account's own id is mapped."""
    wrapped = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", script]
    folder = account.make_folder("container")
    argv: list[str | Path] = [*wrapped, account.python, *arguments]
    done = account.run(argv, cwd=folder, env={"KLOCK_CACHE_DIR": str(folder / "cache")})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_user_namespaces(unprivileged: Account) -> None:
    found = in_container(unprivileged, 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$0" "$@"', "-c", CHECK)
    assert found[:2] == [
        "EngineError",
        "this machine does not let klock make a user namespace: No space left on device",
    ]
    assert "sysctl user.max_user_namespaces=10000" in found[2]


def archive(folder: Path, *, files: int = 1, gid: int = 0) -> Path:
    path = folder / "layer.tar"
    path.write_bytes(Archive([(member(f"x{number}", gid=gid), b"x") for number in range(files)]).to_bytes())
    return path


def test_as_root_of_a_container_with_few_ids(account: Account) -> None:
    script = 'exec "$0" "$@"'
    assert in_container(account, script, "-c", ADD, archive(account.make_folder("archive")))[0] == "['x0']"


def test_an_owner_that_is_not_mapped(account: Account) -> None:
    script = 'exec "$0" "$@"'
    found = in_container(account, script, "-c", ADD, archive(account.make_folder("archive"), gid=42))
    assert found == [
        "FetchError",
        "layer.tar: /x0 belongs to 0:42, which klock may not use here",
        "give your user a larger range of ids in /etc/subuid and /etc/subgid",
        "[]",
    ]


def test_a_full_disk(account: Account) -> None:
    script = 'mkdir "$KLOCK_CACHE_DIR"; mount -t tmpfs -o nr_inodes=100 none "$KLOCK_CACHE_DIR"; exec "$0" "$@"'
    found = in_container(account, script, "-c", ADD, archive(account.make_folder("archive"), files=200))
    assert found[0] == "StoreError"
    assert found[1].startswith("the disk of the store is full: No space left on device")
    assert found[2] == ("free some space (klock cache prune), or set KLOCK_CACHE_DIR to a folder on another disk")
    assert found[3] == "[]"
