"""git merges two branches that upgraded different packages: klock locks both again, together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = 'import klock as kt\n\nimage = kt.Image().from_docker("debian:bookworm").pip_install(["one", "two"])\n'


def test_both_upgrades_are_in_the_merged_lockfile(
    unprivileged: Account, debian_registry: Registry, tmp_path: Path
) -> None:
    account, folder, files = unprivileged, unprivileged.make_folder("merging"), tmp_path / "index"
    files.mkdir()
    for name in ("one", "two"):
        make_wheel(files, name, "1.0")
    with IndexServer(files) as index:
        settings = (
            f'[tool.klock]\nindex-url = "{index.url}"\nregistry-mirrors = {{"docker.io" = "{debian_registry.url}"}}\n'
        )
        (folder / "pyproject.toml").write_text(settings)
        (folder / "kimage.py").write_text(IMAGE)
        account.give(folder)

        def git(*words: str) -> str:
            who = ("-c", "user.name=A", "-c", "user.email=a@b.test", "-c", "init.defaultBranch=main")
            done = account.run(["git", *who, *words], cwd=folder, env={"PYTHONPATH": str(account.source)})
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        def klock(*words: str) -> str:
            done = account.klock(*words, cwd=folder)
            assert done.returncode == 0, done.stderr
            return done.stdout + done.stderr

        klock("lock")
        git("init")
        git("config", "merge.klock.driver", f"{account.python} -m klock merge-driver %O %A %B %P")
        account.run(["sh", "-c", "echo 'kimage*.lock merge=klock' > .gitattributes"], cwd=folder)
        git("add", "-A")
        git("commit", "-m", "before")
        for name in ("one", "two"):
            make_wheel(files, name, "2.0")
        git("checkout", "-b", "theirs")
        klock("lock", "--upgrade-package", "two")
        git("commit", "-am", "theirs")
        git("checkout", "main")
        klock("lock", "--upgrade-package", "one")
        git("commit", "-am", "ours")
        said = git("merge", "--no-edit", "theirs")
        assert "kimage.lock: both sides changed step 1 (pip_install one, two): locked again" in said
        merged = (folder / "kimage.lock").read_text()
        assert 'name = "one"\nversion = "2.0"' in merged and 'name = "two"\nversion = "2.0"' in merged
        assert "unchanged" in klock("lock"), "it is what `klock lock` gives"
        assert (folder / "kimage.lock").read_text() == merged
