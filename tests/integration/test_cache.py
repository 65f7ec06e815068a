"""`klock cache`: what it removes, and that all of it can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration


def test_prune_keeps_environments_and_clean_removes_all(unprivileged: Account, debian_registry: Registry) -> None:
    project = unprivileged.make_folder("project")
    image = "import klock as kt\nimage = kt.Image().from_docker('debian:bookworm').run_bash('echo {} > /made')\n"
    (project / "pyproject.toml").write_text(f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n')

    def klock(*arguments: str) -> str:
        done = unprivileged.klock(*arguments, cwd=project)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    store = Path(klock("cache", "dir").strip())
    for number in (1, 2):
        (project / "kimage.py").write_text(image.format(number))
        unprivileged.give(project)
        klock("lock")
        klock("sync")
    layers = set((store / "trees").glob("layer-*"))
    assert len(layers) == 2
    assert "freed " in klock("cache", "prune")
    assert len(set((store / "trees").glob("layer-*")) & layers) == 1
    assert klock("run", "--", "cat", "/made").startswith("2\n")
    assert "image, lockfile and environment agree" in klock("check", "--env")

    assert "MB" in klock("cache", "clean")
    assert not list((store / "trees").iterdir())
    assert not (store / "blobs").exists()
    klock("sync")
    assert klock("run", "--", "cat", "/made").startswith("2\n")
