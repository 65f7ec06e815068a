"""`apt_install`: resolved against the environment's own sources, installed from hashed files without a network."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from klock.debian import fetch_debs, install_apt, resolve_apt
from klock.errors import FetchError, HashMismatch, ImageError, ResolutionError, StepFailed
from klock.layers.manifest import Kind
from klock.lockfile.model import DebPackage, LayerLock
from klock.progress import Quiet
from klock.store import Store
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import BaseLayer, Command, Layer, Workspace

pytestmark = pytest.mark.integration

TAR = "application/vnd.oci.image.layer.v1.tar"
VARIABLES = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
NO_LAYER = LayerLock(digest="sha256:" + "0" * 64, files=0, size=0)


@pytest.fixture(scope="module")
def prepared(debian_rootfs_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SandboxWorkshop, Store, str]:
    """An engine that has an ordinary Debian base without package lists."""
    store = Store(tmp_path_factory.mktemp("apt") / "store")
    engine = SandboxWorkshop(store)
    with open(debian_rootfs_tar, "rb") as file:
        diff_id = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    engine.add_base(diff_id, [BaseLayer(path=debian_rootfs_tar, media_type=TAR, diff_id=diff_id)])
    return engine, store, diff_id


def resolve(
    prepared: tuple[SandboxWorkshop, Store, str],
    *packages: str,
    previous: tuple[DebPackage, ...] = (),
    offline: bool = False,
    where: str = "",
) -> tuple[DebPackage, ...]:
    engine, store, base = prepared
    with engine.open(base, []) as workspace:
        debs = resolve_apt(
            packages,
            workspace,
            environment=VARIABLES,
            store=store,
            previous=previous,
            offline=offline,
            where=where,
        )
        assert list(workspace.snapshot().manifest) == [], "resolving leaves nothing behind"
    return debs


def install(workspace: Workspace, store: Store, packages: tuple[str, ...], debs: tuple[DebPackage, ...]) -> Layer:
    install_apt(workspace, packages, debs, store=store, environment=VARIABLES, where="step 1 (kimage.py:3)")
    return workspace.snapshot()


@pytest.fixture(scope="module")
def jq(prepared: tuple[SandboxWorkshop, Store, str]) -> tuple[DebPackage, ...]:
    debs = resolve(prepared, "jq")
    fetch_debs(debs, store=prepared[1])
    return debs


def test_only_what_is_missing_is_locked(jq: tuple[DebPackage, ...]) -> None:
    assert [deb.name for deb in jq] == ["jq", "libjq1", "libonig5"]
    assert all(len(deb.sha256) == 64 for deb in jq)


def test_what_is_installed_already_needs_no_package(prepared: tuple[SandboxWorkshop, Store, str]) -> None:
    assert resolve(prepared, "python3") == ()


def test_a_repeated_installation_makes_the_same_layer(
    prepared: tuple[SandboxWorkshop, Store, str], jq: tuple[DebPackage, ...]
) -> None:
    engine, store, base = prepared
    layers = []
    for _ in range(2):
        with engine.open(base, []) as workspace:
            layers.append(install(workspace, store, ("jq",), jq))
    assert layers[0].digest == layers[1].digest

    with engine.open(base, [layers[0].digest]) as workspace:
        done = workspace.run(Command(argv=("jq", "-n", "1+1"), environment=VARIABLES))
    assert (done.status, done.output) == (0, b"2\n")


def test_no_list_cache_or_log_is_left_and_nothing_of_klock(
    prepared: tuple[SandboxWorkshop, Store, str], jq: tuple[DebPackage, ...]
) -> None:
    engine, store, base = prepared
    with engine.open(base, []) as workspace:
        manifest = install(workspace, store, ("jq",), jq).manifest

    changed = [path for path, entry in manifest.items() if entry.kind is not Kind.FOLDER]
    places = ("usr/bin/", "usr/lib/", "usr/share/doc/", "usr/share/man/", "var/lib/dpkg/info/")
    assert [path for path in changed if not path.startswith(places)] == [
        "etc/ld.so.cache",
        "var/lib/apt/extended_states",
        "var/lib/dpkg/status",
    ]


def test_only_what_was_asked_for_is_marked_as_asked_for(
    prepared: tuple[SandboxWorkshop, Store, str], jq: tuple[DebPackage, ...]
) -> None:
    engine, store, base = prepared
    with engine.open(base, []) as workspace:
        install(workspace, store, ("jq",), jq)
        manual = workspace.run(Command(argv=("apt-mark", "showmanual"), environment=VARIABLES)).output.split()
        auto = workspace.run(Command(argv=("apt-mark", "showauto"), environment=VARIABLES)).output.split()

    assert b"jq" in manual
    assert {b"libjq1", b"libonig5"} <= set(auto)


def test_no_service_is_started_and_system_users_repeat(prepared: tuple[SandboxWorkshop, Store, str]) -> None:
    """nginx and dbus make users, folders with owners, and would start daemons; python3-yaml compiles its modules."""
    engine, store, base = prepared
    wanted = ("nginx-light", "dbus", "cron", "python3-yaml")
    debs = resolve(prepared, *wanted)
    fetch_debs(debs, store=store)
    digests = set()
    for _ in range(2):
        with engine.open(base, []) as workspace:
            layer = install(workspace, store, wanted, debs)
        digests.add(layer.digest)
        assert "usr/sbin/policy-rc.d" not in layer.manifest
        assert any(path.endswith(".pyc") for path in layer.manifest)
        assert layer.manifest["usr/lib/dbus-1.0/dbus-daemon-launch-helper"].gid != 0
    assert len(digests) == 1


def test_the_locked_versions_stay_without_asking_the_network(
    prepared: tuple[SandboxWorkshop, Store, str], jq: tuple[DebPackage, ...]
) -> None:
    assert resolve(prepared, "jq", previous=jq, offline=True) == jq


def test_a_package_added_later_leaves_the_others_where_they_are(
    prepared: tuple[SandboxWorkshop, Store, str], jq: tuple[DebPackage, ...]
) -> None:
    assert set(resolve(prepared, "jq", "less", previous=jq)) > set(jq)


def test_a_package_removed_takes_what_only_it_needed_along(
    prepared: tuple[SandboxWorkshop, Store, str], jq: tuple[DebPackage, ...]
) -> None:
    assert [deb.name for deb in resolve(prepared, "libonig5", previous=jq)] == ["libonig5"]


def test_a_locked_package_that_upstream_dropped_moves(
    prepared: tuple[SandboxWorkshop, Store, str], jq: tuple[DebPackage, ...]
) -> None:
    engine, store, base = prepared
    gone = dataclasses.replace(jq[0], version="0.1-1", path="pool/main/j/jq/jq_0.1-1_amd64.deb", sha256="0" * 64)
    warnings: list[str] = []

    class Listener(Quiet):
        def warn(self, message: str) -> None:
            warnings.append(message)

    with engine.open(base, []) as workspace:
        debs = resolve_apt(
            ("jq",),
            workspace,
            environment=VARIABLES,
            store=store,
            previous=(gone, *jq[1:]),
            progress=Listener(),
        )

    assert debs == jq
    assert warnings[0].startswith("the archive no longer has jq 0.1-1 ")


def test_an_unknown_package_is_named_with_its_step(prepared: tuple[SandboxWorkshop, Store, str]) -> None:
    with pytest.raises(ResolutionError) as error:
        resolve(prepared, "jq", "no-such-package", where="step 1 (kimage.py:3)")
    assert error.value.message == "step 1 (kimage.py:3): apt_install: there is no package 'no-such-package'"


def test_an_unknown_version_is_named(prepared: tuple[SandboxWorkshop, Store, str]) -> None:
    with pytest.raises(ResolutionError) as error:
        resolve(prepared, "jq=99")
    assert error.value.message == "apt_install: there is no version '99' of the package 'jq'"


def test_offline_without_a_lock_is_refused(prepared: tuple[SandboxWorkshop, Store, str]) -> None:
    with pytest.raises(FetchError) as error:
        resolve(prepared, "jq", offline=True)
    assert error.value.message == "packages cannot be resolved offline: jq"


def test_an_image_without_apt_is_refused(prepared: tuple[SandboxWorkshop, Store, str], tmp_path: Path) -> None:
    import tarfile

    engine, store, _ = prepared
    tar = tmp_path / "empty.tar"
    with tarfile.open(tar, "w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    diff_id = f"sha256:{hashlib.sha256(tar.read_bytes()).hexdigest()}"
    engine.add_base(diff_id, [BaseLayer(path=tar, media_type=TAR, diff_id=diff_id)])
    with engine.open(diff_id, []) as workspace, pytest.raises(ImageError) as error:
        resolve_apt(("jq",), workspace, environment=VARIABLES, store=store)
    assert error.value.message == "the image has no apt-get"


def test_a_damaged_package_is_not_installed(
    prepared: tuple[SandboxWorkshop, Store, str], jq: tuple[DebPackage, ...], store: Store
) -> None:
    engine, full, base = prepared
    for deb in jq:
        content = full.blob_path(f"sha256:{deb.sha256}").read_bytes()
        path = store.blob_path(f"sha256:{deb.sha256}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if deb.name != "jq" else content[:-1] + b"?")

    with engine.open(base, []) as workspace, pytest.raises((StepFailed, HashMismatch)) as error:
        install(workspace, store, ("jq",), jq)
    assert "step 1 (kimage.py:3): " in error.value.message
