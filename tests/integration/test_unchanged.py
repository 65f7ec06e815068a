"""A sync with nothing to do is told by a note of the last one, over the command line, with real environments."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.container_engines import ContainerHost, docker_host, podman_host, podman_service
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = """
import klock as kt
image = kt.Image().from_docker("debian:bookworm")
image.set_env_vars({{"PLACE": "here"}})
image.run_bash("echo made > /made", force={force}).rsync("one.txt", "/one.txt")
"""
YOUNG = 2.2
"""How many seconds a file counts as too young to be told by its stat, and a little more."""


@pytest.fixture(scope="module", params=["unprivileged", pytest.param("root", marks=pytest.mark.soak)])
def account(request: pytest.FixtureRequest) -> Account:
    """The note is the same for both: `make soak` asks root too."""
    account = request.getfixturevalue(request.param)
    assert isinstance(account, Account)
    return account


class Project:
    def __init__(
        self, account: Account, registry: Registry, *, force: bool = False, variables: Mapping[str, str] | None = None
    ) -> None:
        self.account = account
        self.variables = dict(variables or {})
        self.folder = account.make_folder("project")
        settings = f'[tool.klock.registry-mirrors]\n"docker.io" = "{registry.url}"\n'
        (self.folder / "pyproject.toml").write_text(settings)
        (self.folder / "kimage.py").write_text(IMAGE.format(force=force))
        (self.folder / "one.txt").write_text("1")
        account.give(self.folder)

    def klock(self, *arguments: str, status: int = 0) -> str:
        done = self.account.klock(*arguments, cwd=self.folder, env=self.variables)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def sync(self) -> tuple[str, bool]:
        """What `klock sync` says last, and whether it did without reading the image."""
        status, _, said, at_once = self.started("sync")
        assert status == 0, said
        return said.splitlines()[-1].split(":")[0], at_once

    def started(self, *arguments: str) -> tuple[int, str, str, bool]:
        """The status of a process, what it prints to stdout and to stderr, and whether it did not read the image."""
        argv: list[str | Path] = [self.account.python, "-X", "importtime", "-m", "klock", *arguments]
        variables = {**self.variables, "PYTHONPATH": str(self.account.source)}
        done = self.account.run(argv, cwd=self.folder, env=variables)
        said = "".join(line for line in done.stderr.splitlines(True) if not line.startswith("import time:"))
        return done.returncode, done.stdout, said, "klock.session" not in done.stderr


@pytest.fixture
def project(account: Account, debian_registry: Registry) -> Project:
    project = Project(account, debian_registry)
    project.klock("lock")
    project.klock("sync")
    time.sleep(YOUNG)
    assert project.sync()[0] == "environment unchanged"
    assert project.sync() == ("environment unchanged", True)
    return project


def test_what_happened_to_the_environment_is_noticed(project: Project) -> None:
    store = Path(project.klock("cache", "dir").strip())
    project.klock("run", "--", "sh", "-c", "echo other > /made")
    status, _, said, at_once = project.started("sync")
    assert (status, at_once) == (0, False)
    assert said.startswith("undoes what was changed in the environment: /made\nenvironment synced: ")
    assert project.klock("run", "--", "cat", "/made") == "made\n"
    (layer,) = [tree for tree in (store / "trees").glob("layer-*") if (tree / "root/made").exists()]
    shutil.rmtree(layer)
    assert project.sync()[0] == "environment synced"
    assert project.klock("run", "--", "cat", "/made") == "made\n"
    project.klock("cache", "clean")
    assert project.sync()[0] == "environment synced"


def test_what_happened_to_the_files_is_noticed(project: Project) -> None:
    (project.folder / "one.txt").write_text("2")
    assert "stale-file: step 3" in project.klock("check", status=1)
    assert "is stale" in project.klock("sync", status=2)
    project.klock("lock")
    assert project.sync() == ("environment synced", False)
    assert project.klock("run", "--", "cat", "/one.txt") == "2"


def test_check_and_lock_have_notes_of_their_own(project: Project) -> None:
    said = [project.klock("check") for _ in range(3)]
    assert said == ["image and lockfile agree\n"] * 3
    # What looks at the environment forks, and its answer is remembered all the same.
    for at_once in (False, True):
        assert project.started("check", "--env") == (0, "", "image, lockfile and environment agree\n", at_once)
    said = [project.klock("lock") for _ in range(3)]
    assert said[0].startswith("kimage.lock unchanged: ") and said == said[:1] * 3
    (project.folder / "one.txt").write_text("3")
    assert "kimage.lock written" in project.klock("lock")
    (project.folder / "kimage.lock").unlink()
    assert "there is no kimage.lock" in project.klock("check", status=2)


def test_the_second_command_starts_at_once(project: Project) -> None:
    words = ("--", "sh", "-c", 'echo $PLACE $1; cat /one.txt; exit "$1"', "-")
    first = project.started("run", *words, "3")
    assert first == (3, "here 3\n1", "", False)
    assert project.started("run", *words, "4") == (4, "here 4\n1", "", True)
    assert project.started("run", "--mount", "./one.txt:/mounted", "cat", "/mounted")[3] is False
    assert project.started("run", "--mount", "./one.txt:/mounted", "cat", "/mounted") == (0, "1", "", True)
    assert project.started("run", "nobody-has-this") == (127, "", "klock: no such program: nobody-has-this\n", False)
    assert project.started("run", "nobody-has-this") == (127, "", "klock: no such program: nobody-has-this\n", True)
    # Of a variable of the command line nothing is noted.
    for _ in range(2):
        assert project.started("run", "-e", "PLACE=there", *words, "0") == (0, "there 0\n1", "", False)

    (project.folder / "one.txt").write_text("2")
    status, _, said, at_once = project.started("run", *words, "0")
    assert (status, at_once) == (2, False) and "is stale" in said
    project.klock("lock")
    status, out, said, at_once = project.started("run", *words, "0")
    assert (status, out, at_once) == (0, "here 0\n2", False) and "environment synced" in said
    time.sleep(YOUNG)
    assert [project.started("run", *words, "0")[3] for _ in range(2)] == [False, True]
    project.klock("cache", "clean")
    status, out, said, at_once = project.started("run", *words, "0")
    assert (status, out, at_once) == (0, "here 0\n2", False) and "environment synced" in said


def test_nothing_is_noted_of_a_command_with_a_secret(account: Account, debian_registry: Registry) -> None:
    project = Project(account, debian_registry, variables={"MY_TOKEN": "s3cr3t-value"})
    text = (
        (project.folder / "kimage.py")
        .read_text()
        .replace("image.run_bash", "import os\nimage.set_env_vars({'T': os.environ['MY_TOKEN']})\nimage.run_bash")
    )
    (project.folder / "kimage.py").write_text(text)
    project.klock("lock")
    project.klock("sync")
    time.sleep(YOUNG)
    for _ in range(2):
        assert project.started("run", "--", "sh", "-c", "echo ${#T}") == (0, "12\n", "", False)
    store = Path(project.klock("cache", "dir").strip())
    assert not [note for note in (store / "records").rglob("*") if note.is_file() and b"s3cr3t" in note.read_bytes()]


def test_a_forced_step_runs_each_time(account: Account, debian_registry: Registry) -> None:
    project = Project(account, debian_registry, force=True)
    project.klock("lock")
    time.sleep(YOUNG)
    for _ in range(3):
        assert "run_bash echo made" in project.klock("sync")


@pytest.fixture(params=["docker", "podman"])
def host(request: pytest.FixtureRequest, root: Account) -> Iterator[ContainerHost]:
    """An engine whose service runs before klock and after it."""
    if request.param == "docker":
        with docker_host(root) as made:
            yield made
    else:
        with podman_host(root) as made, podman_service(made) as url:
            yield replace(made, variables={**made.variables, "CONTAINER_HOST": url})


@pytest.mark.soak
def test_an_image_is_asked_for_by_its_name(host: ContainerHost, debian_registry: Registry) -> None:
    project = Project(host.account, debian_registry, variables={**host.variables, "KLOCK_ENGINE": host.engine})
    project.klock("lock")
    project.klock("sync")
    time.sleep(YOUNG)
    unchanged, synced = (f"environment {state} on {host.engine}" for state in ("unchanged", "synced"))
    assert project.sync()[0] == unchanged
    assert project.sync() == (unchanged, True)
    tag = host.native("images", "--format", "{{.Repository}}:{{.Tag}}").strip()
    with_another = host.native("create", "--network=none", tag, "true").strip()
    host.native("commit", with_another, tag)
    host.native("rm", with_another)
    assert project.sync() == (synced, False)
    project.sync()
    assert project.sync() == (unchanged, True)
    host.native("rmi", "--force", tag)
    assert project.sync() == (synced, False)
