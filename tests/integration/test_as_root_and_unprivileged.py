"""The main job over the real command line, as root and without privileges: lock an image of a real registry, make it,
run in it, and see what changed. Both must write the same bytes."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = """\
import klock as kt

image = (
    kt.Image()
    .from_docker("{base}")
    .pip_install(["--index-url {index} greeting>=1"])
    .set_env_vars({{"APP": "/srv/app", "PATH": "$APP/bin:$PATH"}})
    .rsync("./app", "/srv/app", contents=True)
    .run_bash("mkdir $APP/made && id -u > $APP/made/uid && chown 33:33 $APP/made/uid")
)
"""
MAIN = "import os, greeting; print(greeting.__name__, os.environ['APP'], os.getcwd(), os.getuid())\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexServer]:
    folder = tmp_path_factory.mktemp("index")
    make_wheel(folder, "greeting", "1.0")
    with IndexServer(folder) as server:
        yield server


def make_project(account: Account, registry: Registry, index: IndexServer, *, base: str = "debian:bookworm") -> Path:
    project = account.make_folder("project")
    (project / "app/bin").mkdir(parents=True)
    (project / "app/main.py").write_text(MAIN)
    (project / "app/bin/hello ü").write_text("#!/bin/sh\necho hello\n")
    (project / "app/bin/hello ü").chmod(0o700)
    (project / "kimage.py").write_text(IMAGE.format(index=index.url, base=base))
    (project / "pyproject.toml").write_text(f'[tool.klock.registry-mirrors]\n"docker.io" = "{registry.url}"\n')
    account.give(project)
    return project


def succeeded(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_lock_sync_run_and_check(account: Account, debian_registry: Registry, index: IndexServer) -> None:
    project = make_project(account, debian_registry, index)
    succeeded(account.klock("lock", cwd=project))
    locked = (project / "kimage.lock").read_bytes()
    assert b"sha256:" in locked

    succeeded(account.klock("sync", cwd=project))
    run = (
        "run",
        "--",
        "sh",
        "-c",
        "python3 /srv/app/main.py; 'hello ü'; stat -c '%u %a' /srv/app/made/uid '/srv/app/bin/hello ü'",
    )
    assert succeeded(account.klock(*run, cwd=project)) == "greeting /srv/app /work 0\nhello\n33 644\n0 755\n"
    assert account.klock("run", "--", "sh", "-c", "exit 7", cwd=project).returncode == 7
    assert account.klock("check", cwd=project).returncode == 0
    assert account.klock("check", "--env", cwd=project).returncode == 0

    # A source file is edited: stale, and sync refuses.
    (project / "app/main.py").write_text("print('edited')\n")
    check = account.klock("check", "--format", "json", cwd=project)
    assert check.returncode == 1
    (finding,) = json.loads(check.stdout)
    assert "main.py" in json.dumps(finding)
    refused = account.klock("sync", cwd=project)
    assert refused.returncode == 2
    assert "kimage.py:8" in refused.stderr
    (project / "app/main.py").write_text(MAIN)

    # The environment is edited: drift, and sync fixes it.
    succeeded(
        account.klock("run", "--", "sh", "-c", "echo x >> /srv/app/main.py; rm /usr/bin/env; chmod 700 /", cwd=project)
    )
    drifted = account.klock("check", "--env", cwd=project)
    assert drifted.returncode == 1
    assert "/srv/app/main.py" in drifted.stdout
    assert "/usr/bin/env" in drifted.stdout
    assert "drift-modified: / differs: mode or owner\n" in drifted.stdout
    succeeded(account.klock("sync", cwd=project))
    assert account.klock("check", "--env", cwd=project).returncode == 0

    # Locking again changes nothing.
    succeeded(account.klock("lock", cwd=project))
    assert (project / "kimage.lock").read_bytes() == locked


def test_an_image_that_copies_its_own_folder_is_not_stale_at_once(
    account: Account, debian_registry: Registry, index: IndexServer
) -> None:
    project = make_project(account, debian_registry, index)
    (project / "kimage.py").write_text(
        "import klock as kt\n\nimage = kt.Image().from_docker('debian:bookworm').rsync('.', '/srv/all')\n"
        "other = kt.Image().from_docker('debian:bookworm').rsync('./', '/srv/all')\n"
    )
    for _ in range(2):
        succeeded(account.klock("lock", cwd=project))
        succeeded(account.klock("lock", "kimage.py:other", cwd=project))
        for name in ("kimage.py", "kimage.py:other"):
            assert succeeded(account.klock("check", name, cwd=project)) == ""


def test_a_credential_that_is_not_set_is_named_before_anything_is_stale(
    account: Account, debian_registry: Registry, index: IndexServer
) -> None:
    project = make_project(account, debian_registry, index)
    (project / "kimage.py").write_text(
        "import os\n\nimport klock as kt\n\n"
        "image = kt.Image().from_docker('debian:bookworm').set_env_vars({'T': os.environ.get('MY_TOKEN', '')})\n"
    )
    succeeded(account.klock("lock", cwd=project, env={"MY_TOKEN": "t0ps3cret"}))
    hint = "hint: the lockfile takes a credential from MY_TOKEN, not set here: export MY_TOKEN=..."
    for variables in ({}, {"MY_TOKEN": ""}):
        sync = account.klock("sync", cwd=project, env=variables)
        assert sync.returncode == 2 and hint in sync.stderr
        check = account.klock("check", cwd=project, env=variables)
        assert check.returncode == 1 and hint in check.stderr
    assert hint not in account.klock("check", cwd=project, env={"MY_TOKEN": "0th3rone"}).stderr


def test_a_working_directory_that_the_base_lacks_is_no_drift(unprivileged: Account, debian_registry: Registry) -> None:
    """The image names /work, as docker's WORKDIR does, and has no such folder."""
    account = unprivileged
    project = account.make_folder("project")
    (project / "kimage.py").write_text('import klock as kt\nimage = kt.Image().from_docker("debian:bookworm")\n')
    (project / "pyproject.toml").write_text(f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n')
    account.give(project)
    succeeded(account.klock("lock", cwd=project))
    for command, expected in (
        ("pwd; stat -c '%a %u' .", "/work\n755 0\n"),
        ("echo 1 > one; ls", "one\n"),
        ("ls", "one\n"),
    ):
        assert succeeded(account.klock("run", "--", "sh", "-c", command, cwd=project)) == expected
        done = account.klock("check", "--env", cwd=project)
        assert done.stdout == ("" if "pwd" in command else "drift-extra: /work/one is not in the lockfile\n")
    succeeded(account.klock("sync", cwd=project))
    assert succeeded(account.klock("run", "--", "ls", cwd=project)) == ""
    assert account.klock("check", "--env", cwd=project).returncode == 0


def test_both_write_the_same_lockfile(
    root: Account, unprivileged: Account, debian_registry: Registry, index: IndexServer
) -> None:
    locks = []
    for account in (root, unprivileged):
        project = make_project(account, debian_registry, index)
        succeeded(account.klock("lock", cwd=project))
        locks.append((project / "kimage.lock").read_text())
    assert locks[0] == locks[1]


def test_a_lockfile_of_the_other_is_synced_by_digest_whatever_the_tag_says_now(
    *,
    root: Account,
    unprivileged: Account,
    debian_registry: Registry,
    debian_oci_layout: Path,
    index: IndexServer,
    tmp_path: Path,
) -> None:
    debian_registry.push_layout(debian_oci_layout, "library/moving", "v1")
    made = make_project(root, debian_registry, index, base="moving:v1")
    succeeded(root.klock("lock", cwd=made))
    with tarfile.open(tmp_path / "other.tar", "w"):
        debian_registry.push_rootfs(tmp_path / "other.tar", "library/moving", "v1")

    project = make_project(unprivileged, debian_registry, index, base="moving:v1")
    (project / "kimage.lock").write_bytes((made / "kimage.lock").read_bytes())
    debian_registry.forget_requests()
    empty = {"KLOCK_CACHE_DIR": str(unprivileged.make_folder("store"))}
    succeeded(unprivileged.klock("sync", cwd=project, env=empty))
    asked = {path.rpartition("/")[2] for _, path in debian_registry.requests() if path.startswith("/v2/library/")}
    assert asked
    assert all(digest in (project / "kimage.lock").read_text() for digest in asked)
    assert all(digest.startswith("sha256:") for digest in asked)


def test_offline_sync_works_from_the_store_alone(
    account: Account, debian_registry: Registry, index: IndexServer
) -> None:
    project = make_project(account, debian_registry, index)
    succeeded(account.klock("lock", cwd=project))
    debian_registry.forget_requests()
    index.requests.clear()
    succeeded(account.klock("sync", "--offline", cwd=project))
    assert (debian_registry.requests(), index.requests) == ([], [])
