"""Two locks of one input are equal byte for byte, and two syncs make the same layers, whatever is around them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.conftest import copy_store
from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account
from tests.shared_folder import share

pytestmark = pytest.mark.integration

IMAGE = """\
import klock as kt

image = (
    kt.Image()
    .from_docker("debian:bookworm")
    .set_env_vars({{"B": "2", "A": "$B:$HOME"}})
    .rsync("./src", "/app")
    .pip_install(["--index-url {index} greeting", "--index-url {index} parting>=1"])
    .sync_package("./lib")
    .run_bash("umask; useradd joe; mkdir -m 700 /private; cp -r /app /copy; python3 -m compileall -q /copy/src")
    .run_bash("python3 -c 'import os; print(sorted({{1, 2, 3}}), os.environ[\\"A\\"])' > /out; ln /out /out2")
)
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexServer]:
    folder = tmp_path_factory.mktemp("index")
    for name in ("greeting", "parting"):
        make_wheel(folder, name, "1.0")
    with IndexServer(folder) as server:
        yield server


@pytest.fixture(scope="module")
def accounts(root: Account, unprivileged: Account) -> dict[str, Account]:
    return {"root": root, "other": unprivileged}


def make_project(account: Account, name: str, registry: Registry, index: IndexServer, *, umask: str) -> Path:
    project = account.make_folder(name)
    for file, text in {
        "src/main.py": "print('hello')\n",
        "src/ä b.txt": "x",
        "lib/lib/__init__.py": "",
        "lib/pyproject.toml": "[project]\nname = 'lib'\n",
    }.items():
        path = project / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o666 & ~int(umask, 8))
        path.parent.chmod(0o777 & ~int(umask, 8))
    (project / "kimage.py").write_text(IMAGE.format(index=index.url))
    (project / "pyproject.toml").write_text(f'[tool.klock.registry-mirrors]\n"docker.io" = "{registry.url}"\n')
    account.give(project)
    return project


class Surrounding(NamedTuple):
    who: str
    variables: Mapping[str, str]
    umask: str = "022"
    has_shared_store: bool = False


SURROUNDINGS: dict[str, Surrounding] = {
    "as root, in another folder": Surrounding("root", {}),
    "with another hash seed, time zone and locale, in a store that many share": Surrounding(
        "root", {"PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo", "LANG": "C", "LC_ALL": "C"}, has_shared_store=True
    ),
    "as another user, with another umask": Surrounding("other", {"PYTHONHASHSEED": "1"}, "077"),
}


def test_every_surrounding_gives_the_same_bytes(
    accounts: dict[str, Account], debian_registry: Registry, index: IndexServer
) -> None:
    locks: dict[str, bytes] = {}
    projects: dict[str, Path] = {}
    for case, (who, variables, umask, has_shared_store) in SURROUNDINGS.items():
        account = accounts[who]
        project = projects[case] = make_project(account, f"p{len(locks)}", debian_registry, index, umask=umask)
        # Everybody has the base, and has made none of the layers.
        env = {**variables, "KLOCK_CACHE_DIR": str(store_with_the_base(account, shared=has_shared_store))}
        done = account.run(
            ["sh", "-c", f'umask {umask}; exec "$0" -m klock lock', account.python], cwd=project, env=env
        )
        assert done.returncode == 0, f"{case}: {done.stderr}"
        locks[case] = (project / "kimage.lock").read_bytes()
    assert len(set(locks.values())) == 1, {case: lock.decode() for case, lock in locks.items()}

    # A store that has made the layers changes nothing.
    project = projects["as another user, with another umask"]
    (project / "kimage.lock").unlink()
    done = accounts["other"].klock("lock", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    assert {(project / "kimage.lock").read_bytes()} == set(locks.values())

    # What root locked, the other user replays from nothing, and the environment is clean.
    account = accounts["other"]
    shutil.copy(projects["as root, in another folder"] / "kimage.lock", project / "kimage.lock")
    env = {"KLOCK_CACHE_DIR": str(account.make_folder("fresh")), "PYTHONHASHSEED": "99"}
    done = account.klock("sync", cwd=project, env=env)
    assert done.returncode == 0, done.stderr
    done = account.klock("check", "--env", cwd=project, env=env)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout

    # Nor does the lockfile name where, by whom and when it was made.
    text = locks["as another user, with another umask"].decode()
    for word in (*map(str, projects.values()), *(str(each.folder) for each in accounts.values()), "klocktest"):
        assert word not in text.replace(index.url, ""), word
    assert not re.search(r"20[2-9]\d-\d\d", text)


def store_with_the_base(account: Account, *, shared: bool) -> Path:
    """A new store that has what the account's own one had when the module began."""
    folder = account.make_folder("cache")
    if shared:
        share(folder)
    store = folder / "store"
    copy_store(account.store, store)
    return store
