"""What the integration tests share: a base image, a registry, stores, a workshop, and accounts to run klock as.

Made once and kept in the tests' cache: the base image. Made once a run, by whichever worker needs it first: a copy of
klock that every account can read, for each account a store that has the base image unpacked, and a base made of Debian
packages. Made for each module: an account with a store of its own, which shares the unpacked base with that store.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

import klock
from klock.bases import resolve_base
from klock.image.steps import DebianBase
from klock.layers import NORMALISATION
from klock.lockfile.model import DebianLock, ImageLock, Lockfile, TargetLock
from klock.lockfile.reading import from_text
from klock.lockfile.writing import to_text
from klock.store import Store
from klock.targets import Target
from klock.workshop import SandboxWorkshop
from tests.integration import resident
from tests.integration.debian_image import debian_layout, debian_platforms_layout, debian_rootfs
from tests.integration.private_names import PrivateNames
from tests.integration.recorder_world import SharedWorld
from tests.integration.registry_server import Registry, registry
from tests.integration.unprivileged import (
    Account,
    end_residents,
    root_account,
    unprivileged_account,
)
from tests.run_folder import made_once, make_readable, readable_folder, run_folder

_BASE_AND_A_STEP: Final = """\
import klock as kt

image = kt.Image().from_docker("{base}").run_bash("echo unpacked > /srv/for-all-modules")
"""
_AS_ALL_IDS: Final = () if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--map-auto", "--")


@pytest.fixture(scope="session")
def debian_rootfs_tar() -> Path:
    return debian_rootfs()


@pytest.fixture(scope="session")
def debian_oci_layout() -> Path:
    return debian_layout()


@pytest.fixture(scope="session")
def debian_two_platforms() -> Path:
    return debian_platforms_layout()


@pytest.fixture(scope="session")
def debian_registry(tmp_path_factory: pytest.TempPathFactory, debian_oci_layout: Path) -> Iterator[Registry]:
    """A registry that has that image as `library/debian:bookworm`."""
    with registry(tmp_path_factory.mktemp("registry")) as server:
        server.push_layout(debian_oci_layout, "library/debian", "bookworm")
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store of the test's own. It can be removed although files in it belong to the workshop's namespaces."""
    root = tmp_path / "store"
    yield Store(root)
    if root.exists() and os.geteuid() != 0:
        _check_call([*_AS_ALL_IDS, "rm", "-rf", "--", str(root)])
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def engine(store: Store) -> SandboxWorkshop:
    sandbox = SandboxWorkshop(store)
    sandbox.check()
    return sandbox


@pytest.fixture(scope="session")
def small_debian() -> Path:
    """A folder with the lockfile of a small base made of Debian packages, and the store in which it was made."""

    def make(folder: Path) -> None:
        store = Store(folder / "store")
        base, here = DebianBase(suite="bookworm", packages=("jq",)), Target.of_this_machine()
        lock = resolve_base(base, target=here, root=Path("/"), store=store, workshop=SandboxWorkshop(store))
        assert isinstance(lock, DebianLock)
        (folder / "kimage.lock").write_text(lockfile_of(lock))

    return made_once(run_folder() / "small-debian", make)


@pytest.fixture(scope="module")
def locked(small_debian: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[DebianLock, Store]:
    """That base, and a store of the module's that has it."""
    (target,) = from_text((small_debian / "kimage.lock").read_text()).targets
    assert isinstance(target.base, DebianLock)
    folder = tmp_path_factory.mktemp("debian") / "store"
    copy_store(small_debian / "store", folder)
    return target.base, Store(folder)


def lockfile_of(base: DebianLock) -> str:
    """The text of a lockfile for this machine with a base and no step."""
    target = TargetLock(target=Target.of_this_machine(), base=base, interpreter=None, steps=(), packages=())
    return to_text(Lockfile(image=ImageLock(name="bookworm"), normalisation=NORMALISATION, targets=(target,)))


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedWorld]:
    """For the recorder's tests; see `tests.integration.recorder_world`."""
    with SharedWorld(tmp_path_factory.mktemp("world")) as world:
        yield world


# -- accounts


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1, as docker's program has one: ca.pem, cert.pem and key.pem."""
    folder = tmp_path_factory.mktemp("certificates")
    names = PrivateNames(folder, {})
    names.server_context("127.0.0.1")
    (folder / "127.0.0.1.pem").rename(folder / "cert.pem")
    (folder / "127.0.0.1.key").rename(folder / "key.pem")
    return folder


@pytest.fixture(scope="session")
def klock_source() -> Iterator[Path]:
    """A folder with a copy of the package that every account can read, wherever the repository is."""

    def make(folder: Path) -> None:
        shutil.copytree(Path(klock.__file__).parent, folder / "klock")
        shutil.copy(resident.__file__, folder / "resident.py")
        # As an installed package has it: the accounts cannot write here, and would compile klock for every command.
        compileall.compile_dir(folder, quiet=1)
        make_readable(folder)

    yield made_once(run_folder() / "klock", make)
    end_residents()


AccountMaker = Callable[[str], Account]
"""Makes the account `root` or `unprivileged`, with an empty folder and the base image in its store."""


@pytest.fixture(scope="module")
def make_account(klock_source: Path, debian_registry: Registry) -> Iterator[AccountMaker]:
    """For modules that need more accounts than the three below; what they leave is removed at the module's end."""
    with ExitStack() as stack:

        def make(kind: str) -> Account:
            account = stack.enter_context(_account(kind, klock_source))
            copy_store(_store_with_the_base(account, debian_registry), account.store)
            return account

        yield make


@pytest.fixture(scope="module")
def root(make_account: AccountMaker) -> Account:
    return make_account("root")


@pytest.fixture(scope="module")
def unprivileged(make_account: AccountMaker) -> Account:
    return make_account("unprivileged")


@pytest.fixture(scope="module", params=["root", "unprivileged"])
def account(request: pytest.FixtureRequest) -> Account:
    """A test that asks for this runs twice: as root and without privileges. The tests of a module share the account's
    store, so that a base is unpacked once."""
    account = request.getfixturevalue(request.param)
    assert isinstance(account, Account)
    return account


@contextmanager
def _account(kind: str, source: Path) -> Iterator[Account]:
    make = {"root": root_account, "unprivileged": unprivileged_account}[kind]
    with readable_folder("a") as folder:
        yield make(source, folder)


def _store_with_the_base(account: Account, registry: Registry) -> Path:
    def prepare(folder: Path) -> None:
        settings = f'[tool.klock.registry-mirrors]\n"docker.io" = "{registry.url}"\n'
        (folder / "pyproject.toml").write_text(settings)

    return store_with(account, "debian:bookworm", prepare, name="debian")


def store_with(account: Account, base: str, prepare: Callable[[Path], object], *, name: str) -> Path:
    """A store of the account's, made once a run by locking an image with a step, for which its base is unpacked.

    To be copied (`copy_store`). `prepare` puts what is needed beside `kimage.py`; `name` is the base's, for a file."""

    def make(store: Path) -> None:
        with readable_folder("base") as folder:
            (folder / "kimage.py").write_text(_BASE_AND_A_STEP.format(base=base))
            prepare(folder)
            store.mkdir(mode=0o700)
            for path in (folder, store):
                account.give(path)
            done = account.klock("lock", cwd=folder, env={"KLOCK_CACHE_DIR": str(store)})
            assert done.returncode == 0, done.stderr

    return made_once(run_folder() / f"store-{name}-{account.name}", make)


_COPY: Final = """\
mkdir "$2" "$2/trees" || exit
for each in "$1"/* "$1"/trees/*; do
    to=$2/${each#"$1/"}
    case $each in
        */trees) ;;
        */trees/diff-*) ln -s "$each" "$to" ;;
        *) cp --archive --link "$each" "$to" ;;
    esac || exit
done
for each in "$2/trees" "$2"; do
    chown --reference="$1" "$each" && chmod 700 "$each" || exit
done
"""


def copy_store(source: Path, target: Path) -> None:
    """Makes a store that has what another has. The files are the same ones: klock writes to none in place.

    The unpacked archives of bases are reached by symlinks. A hard link to one of their files would change its ctime,
    and every klock would read the whole base again to see whether it is as it was."""
    _check_call([*_AS_ALL_IDS, "sh", "-c", _COPY, "sh", str(source), str(target)])


def _check_call(command: list[str], *, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stderr[-4000:]}", pytrace=False)
