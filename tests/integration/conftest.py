"""What the integration tests share: a base image, a registry, a store, an engine, and accounts to run klock as."""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import klock
from klock.store import Store
from tests.integration.registry_server import Registry, registry, write_layout
from tests.integration.unprivileged import (
    Account,
    require_program,
    root_account,
    test_cache,
    unprivileged_account,
)

if TYPE_CHECKING:
    from klock.workshop import SandboxWorkshop

_PACKAGES: Final = "python3,python3-venv,python3-pip,ca-certificates"
_EPOCH: Final = "1700000000"
_RECIPE: Final = (
    "mmdebstrap",
    "--variant=minbase",
    f"--include={_PACKAGES}",
    "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    # mmdebstrap copies these from the host.
    "--customize-hook=: > $1/etc/resolv.conf; : > $1/etc/hostname",
    "bookworm",
)
_CONFIG: Final = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
    "WorkingDir": "/work",
}


@pytest.fixture(scope="session")
def debian_rootfs_tar() -> Path:
    """A root file system as a tar file: Debian bookworm with Python, pip, venv and certificates. Made once, then
    kept."""
    recipe = hashlib.sha256("\0".join((_EPOCH, *_RECIPE)).encode()).hexdigest()[:12]
    final = test_cache() / f"debian-bookworm-{recipe}.tar"
    with _one_at_a_time(final.with_suffix(".lock")):
        if not final.exists():
            require_program("mmdebstrap", package="mmdebstrap")
            partial = final.with_suffix(f".{os.getpid()}.tar")
            try:
                _check_call([*_RECIPE, str(partial)], env=os.environ | {"SOURCE_DATE_EPOCH": _EPOCH})
                partial.chmod(0o644)
                partial.replace(final)
            finally:
                partial.unlink(missing_ok=True)
    return final


@pytest.fixture(scope="session")
def debian_oci_layout(debian_rootfs_tar: Path) -> Path:
    """The same as an image in an OCI layout folder (image-spec, image-layout.md), tagged `bookworm`: one gzip layer."""
    final = debian_rootfs_tar.with_suffix(".oci")
    with _one_at_a_time(final.with_suffix(".lock")):
        if not final.exists():
            partial = Path(tempfile.mkdtemp(prefix=final.name, dir=final.parent))
            try:
                write_layout(partial, {None: [debian_rootfs_tar]}, config=_CONFIG, tag="bookworm")
                _make_readable(partial)
                partial.rename(final)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return final


@pytest.fixture(scope="session")
def debian_registry(tmp_path_factory: pytest.TempPathFactory, debian_oci_layout: Path) -> Iterator[Registry]:
    """A registry that has that image as `library/debian:bookworm`."""
    with registry(tmp_path_factory.mktemp("registry")) as server:
        server.push_layout(debian_oci_layout, "library/debian", "bookworm")
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of the test's own. It can be removed although files in it belong to the engine's namespaces."""
    root = tmp_path / "store"
    yield Store(root)
    if root.exists() and os.geteuid() != 0:
        _check_call(["unshare", "--user", "--map-root-user", "--map-auto", "--", "rm", "-rf", "--", str(root)])
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def engine(store: Store) -> SandboxWorkshop:
    from klock.workshop import SandboxWorkshop

    sandbox = SandboxWorkshop(store)
    sandbox.check()
    return sandbox


@pytest.fixture(scope="session")
def klock_source() -> Iterator[Path]:
    """A folder with a copy of the package that every account can read, wherever the repository is."""
    with readable_folder("klock-source") as folder:
        package = Path(klock.__file__).parent
        shutil.copytree(package, folder / "klock", ignore=shutil.ignore_patterns("__pycache__"))
        # As an installed package has it: the accounts cannot write here, and would compile klock for every command.
        compileall.compile_dir(folder / "klock", quiet=1)
        _make_readable(folder)
        yield folder


@pytest.fixture(scope="module")
def root(klock_source: Path) -> Iterator[Account]:
    yield from _account(root_account, klock_source)


@pytest.fixture(scope="module")
def unprivileged(klock_source: Path) -> Iterator[Account]:
    yield from _account(unprivileged_account, klock_source)


@pytest.fixture(scope="module", params=["root", "unprivileged"])
def account(request: pytest.FixtureRequest) -> Account:
    """A test that asks for this runs twice: as root and without privileges. The tests of a module share the account's
    store, so that a base is unpacked once."""
    account = request.getfixturevalue(request.param)
    assert isinstance(account, Account)
    return account


def _account(make: Callable[[Path, Path], Account], source: Path) -> Iterator[Account]:
    with readable_folder("klock-test") as folder:
        account = make(source, folder)
        try:
            yield account
        finally:
            account.remove_folder()


@contextmanager
def readable_folder(name: str) -> Iterator[Path]:
    """Pytest's own folders are closed to others. Under TMPDIR, which must allow overlayfs."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_readable(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Across the test processes."""
    with lock.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_call(command: list[str], *, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stderr[-4000:]}", pytrace=False)
