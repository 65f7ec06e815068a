"""A sync with nothing to do is told by a note of the last one, over the command line, with real environments."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = """
import klock as kt
image = kt.Image().from_docker("debian:bookworm")
image.run_bash("echo made > /made", force={force}).rsync("one.txt", "/one.txt")
"""
YOUNG = 2.2
"""How many seconds a file counts as too young to be told by its stat, and a little more."""


class Project:
    def __init__(self, account: Account, registry: Registry, *, force: bool = False) -> None:
        self.account = account
        self.folder = account.make_folder("project")
        settings = f'[tool.klock.registry-mirrors]\n"docker.io" = "{registry.url}"\n'
        (self.folder / "pyproject.toml").write_text(settings)
        (self.folder / "kimage.py").write_text(IMAGE.format(force=force))
        (self.folder / "one.txt").write_text("1")
        account.give(self.folder)

    def klock(self, *arguments: str, status: int = 0) -> str:
        done = self.account.klock(*arguments, cwd=self.folder)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def sync(self) -> tuple[str, bool]:
        """What `klock sync` says last, and whether it did without reading the image."""
        argv: list[str | Path] = [self.account.python, "-X", "importtime", "-m", "klock", "sync"]
        done = self.account.run(argv, cwd=self.folder, env={"PYTHONPATH": str(self.account.source)})
        assert done.returncode == 0, done.stderr
        said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        return said[-1].split(":")[0], "klock.commands" not in done.stderr


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
    assert project.sync() == ("environment synced", False)
    assert project.klock("run", "--", "cat", "/made") == "made\n"
    (layer,) = [tree for tree in (store / "trees").glob("layer-*") if (tree / "root/made").exists()]
    shutil.rmtree(layer)
    assert project.sync()[0] == "environment synced"
    assert project.klock("run", "--", "cat", "/made") == "made\n"
    project.klock("cache", "clean")
    assert project.sync()[0] == "environment synced"


def test_what_happened_to_the_files_is_noticed(project: Project) -> None:
    (project.folder / "one.txt").write_text("2")
    assert "stale-file: step 2" in project.klock("check", status=1)
    assert "is stale" in project.klock("sync", status=2)
    project.klock("lock")
    assert project.sync() == ("environment synced", False)
    assert project.klock("run", "--", "cat", "/one.txt") == "2"


def test_check_has_a_note_of_its_own(project: Project) -> None:
    said = [project.klock("check") for _ in range(3)]
    assert said == ["image and lockfile agree\n"] * 3
    (project.folder / "kimage.lock").unlink()
    assert "there is no kimage.lock" in project.klock("check", status=2)


def test_a_forced_step_runs_each_time(account: Account, debian_registry: Registry) -> None:
    project = Project(account, debian_registry, force=True)
    project.klock("lock")
    time.sleep(YOUNG)
    for _ in range(3):
        assert "run_bash echo made" in project.klock("sync")
