"""Bases made of hashed Debian packages: the same tree for everyone, without the archive, or an error that says why."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from klock.bases import fetch_base, resolve_base
from klock.errors import FetchError, HashMismatch, LockfileError, ResolutionError
from klock.fetching.mirrors import Mirrors
from klock.image.steps import DebianBase
from klock.lockfile.model import DebianLock
from klock.store import Store
from klock.targets import Target
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import Command, Network
from tests.integration.conftest import lockfile_of
from tests.integration.unprivileged import Account
from tests.integration.upstream.debian_archive import file_server

pytestmark = pytest.mark.integration

HERE = Target.of_this_machine()
NOWHERE = Mirrors.from_settings(debian="http://127.0.0.1:9/debian")


def resolve(suite: str, *packages: str, store: Store, mirrors: Mirrors | None = None) -> DebianLock:
    lock = resolve_base(
        DebianBase(suite=suite, packages=packages),
        target=HERE,
        root=Path("/"),
        store=store,
        workshop=SandboxWorkshop(store),
        mirrors=mirrors,
    )
    assert isinstance(lock, DebianLock)
    return lock


def fetch(lock: DebianLock, *, store: Store, mirrors: Mirrors | None = None, offline: bool = False) -> None:
    fetch_base(lock, workshop=SandboxWorkshop(store), store=store, root=Path("/"), mirrors=mirrors, offline=offline)


def store_with_the_packages_of(lock: DebianLock, full: Store, store: Store) -> Store:
    """What a machine has that got the .debs, from a vault or before, and nothing else."""
    for deb in lock.debs:
        store.add_bytes(full.blob_path(f"sha256:{deb.sha256}").read_bytes())
    return store


def test_the_lock_names_every_package_with_its_hash(locked: tuple[DebianLock, Store]) -> None:
    lock, _ = locked
    names = {deb.name for deb in lock.debs}

    assert {"base-files", "dpkg", "libc6", "apt", "debian-archive-keyring", "jq", "libjq1"} <= names
    assert "usrmerge" not in names, "a new tree needs no conversion"
    assert [deb.name for deb in lock.debs] == sorted(names)
    assert all(len(deb.sha256) == 64 and deb.path.startswith("pool/") and deb.size for deb in lock.debs)
    assert {deb.archive for deb in lock.debs} <= {"debian", "debian-security"}


def test_the_tree_has_nothing_of_the_host(locked: tuple[DebianLock, Store]) -> None:
    lock, store = locked
    manifest = SandboxWorkshop(store).base_manifest(lock.id)

    assert manifest.digest == lock.tree
    for path in ("etc/hostname", "etc/resolv.conf"):
        assert (manifest[path].size, manifest[path].mode) == (0, 0o644)
    assert [path for path in manifest if path.startswith("var/lib/apt/lists/") and manifest[path].size] == []
    assert [path for path in manifest if path.endswith(".deb")] == []


def test_programs_run_in_it(locked: tuple[DebianLock, Store]) -> None:
    lock, store = locked
    with SandboxWorkshop(store).open(lock.id, []) as workspace:
        done = workspace.run(Command(argv=("jq", "-n", "1+1"), environment=dict(lock.environment)))
    assert (done.status, done.output) == (0, b"2\n")


def test_its_own_apt_works(locked: tuple[DebianLock, Store]) -> None:
    lock, store = locked
    with SandboxWorkshop(store).open(lock.id, []) as workspace:
        update = Command(argv=("apt-get", "update"), environment=dict(lock.environment), network=Network.HOST)
        done = workspace.run(update)
    assert done.status == 0, done.output.decode()
    assert b"bookworm-security" in done.output


def test_somebody_without_privileges_makes_the_same_tree_offline(
    locked: tuple[DebianLock, Store], unprivileged: Account
) -> None:
    """With another umask, locale and time zone too, from a store that has the packages and nothing else."""
    account = unprivileged
    lock, full = locked
    cache = account.make_folder("store")
    store_with_the_packages_of(lock, full, Store(cache))
    account.give(cache)
    script = (
        "import json, os, sys\n"
        "os.umask(0o077)\n"
        "from pathlib import Path\n"
        "from klock.bases import fetch_base\n"
        "from klock.workshop import SandboxWorkshop\n"
        "from klock.lockfile.model import DebianLock, DebPackage\n"
        "from klock.store import Store\n"
        "value = json.load(sys.stdin)\n"
        "debs = tuple(DebPackage(**deb) for deb in value.pop('debs'))\n"
        "lock = DebianLock(suite=value['suite'], packages=(), debs=debs, tree=value['tree'], recipe=value['recipe'])\n"
        "store = Store()\n"
        "engine = SandboxWorkshop(store)\n"
        "fetch_base(lock, workshop=engine, store=store, root=Path('/'), offline=True)\n"
        "print(engine.base_manifest(lock.id).digest)\n"
    )
    done = account.run(
        [account.python, "-c", script],
        cwd=account.folder,
        env={"KLOCK_CACHE_DIR": os.fspath(cache), "LC_ALL": "tr_TR.UTF-8", "TZ": "Asia/Kathmandu"},
        text_input=json.dumps(dataclasses.asdict(lock)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == lock.tree


OLDER = "the base Debian bookworm was locked by version 1 of the rules for Debian bases; this klock has version 2"


def test_a_base_of_other_rules_is_not_made_by_these(locked: tuple[DebianLock, Store], store: Store) -> None:
    lock, full = locked
    for recipe, hint in {1: "run `klock lock`: it keeps the packages", 3: "upgrade klock"}.items():
        with pytest.raises(LockfileError) as error:
            fetch(dataclasses.replace(lock, recipe=recipe), store=store, offline=True)
        assert error.value.message == OLDER.replace("version 1", f"version {recipe}")
        assert error.value.hint == hint
        fetch(dataclasses.replace(lock, recipe=recipe), store=full, offline=True)


def test_an_older_lockfile_is_moved_over_with_its_packages(locked: tuple[DebianLock, Store], tmp_path: Path) -> None:
    lock, store = locked
    older = dataclasses.replace(lock, recipe=1, tree="sha256:" + "1" * 64)

    def klock(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KLOCK_CACHE_DIR": str(store.root)}
        argv = [sys.executable, "-m", "klock", *arguments]
        return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    image = 'import klock as kt\n\nimage = kt.images.from_debian("bookworm", ["jq"])\n'
    (tmp_path / "kimage.py").write_text(image)
    (tmp_path / "kimage.lock").write_text(lockfile_of(older))
    checked, synced = klock("check"), klock("sync", "--frozen", "--offline")
    assert checked.returncode == 1
    assert checked.stdout == (
        "stale-base: kimage.py:3: the base has version 1 of the rules for Debian bases, klock now has 2\n"
    )
    assert (synced.returncode, OLDER in synced.stderr) == (2, True), synced.stderr

    done = klock("lock", "--offline")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kimage.lock").read_text() == lockfile_of(lock)
    assert klock("check").returncode == 0


def test_an_unknown_package_is_named(locked: tuple[DebianLock, Store]) -> None:
    with pytest.raises(ResolutionError) as error:
        resolve("bookworm", "no-such-package", store=locked[1])
    assert error.value.message == "Debian bookworm: there is no package 'no-such-package'"


def test_an_unknown_suite_is_named(store: Store) -> None:
    with pytest.raises(ResolutionError) as error:
        resolve("bookwurm", store=store)
    assert error.value.message == "the Debian archive has no suite 'bookwurm'"


def test_an_archive_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(FetchError) as error:
        resolve("bookworm", store=store, mirrors=NOWHERE)
    assert error.value.message.startswith("cannot read the Debian archive for bookworm:\n")
    assert "127.0.0.1:9" in error.value.message
    assert error.value.hint == "check the network, or set debian-mirror"


def with_one_package(lock: DebianLock) -> DebianLock:
    return dataclasses.replace(lock, debs=tuple(deb for deb in lock.debs if deb.name == "dash"))


def test_a_package_that_the_archive_dropped_says_so(
    locked: tuple[DebianLock, Store], store: Store, tmp_path: Path
) -> None:
    lock, _ = locked
    one = with_one_package(lock)
    with file_server(tmp_path) as url, pytest.raises(FetchError) as error:
        fetch(one, store=store, mirrors=Mirrors.from_settings(debian=url))

    (dash,) = one.debs
    assert error.value.message == (
        f"the archive no longer has dash {dash.version} ({url}/{dash.path}), and the store does not have it either"
    )
    assert error.value.hint is not None
    assert "--upgrade-base" in error.value.hint
    assert "snapshot.debian.org" in error.value.hint


def test_a_package_with_other_bytes_is_refused(locked: tuple[DebianLock, Store], store: Store, tmp_path: Path) -> None:
    lock, full = locked
    one = with_one_package(lock)
    (dash,) = one.debs
    served = tmp_path / dash.path
    served.parent.mkdir(parents=True)
    served.write_bytes(full.blob_path(f"sha256:{dash.sha256}").read_bytes()[:-1] + b"?")

    with (
        file_server(tmp_path) as url,
        pytest.raises(HashMismatch, match=f"dash {dash.version}: hash mismatch: locked sha256:"),
    ):
        fetch(one, store=store, mirrors=Mirrors.from_settings(debian=url))
