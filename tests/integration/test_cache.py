"""`klock cache`: what it removes, that all of it can be made again, and what it keeps as that may not be so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration


def test_prune_keeps_environments_and_clean_removes_all(unprivileged: Account) -> None:
    project = unprivileged.make_folder("project")
    image = f"import klock as kt\nimage = kt.Image().from_docker({SMALL_BASE!r}).run_bash('echo {{}} > /made')\n"
    write_small_base(project / "layout")

    def klock(*arguments: str) -> str:
        done = unprivileged.klock(*arguments, cwd=project)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    store = Path(klock("cache", "dir").strip())
    before = set((store / "trees").glob("layer-*"))
    for number in (1, 2):
        (project / "kimage.py").write_text(image.format(number))
        unprivileged.give(project)
        klock("lock")
        klock("sync")
    layers = set((store / "trees").glob("layer-*")) - before
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


@pytest.mark.soak
def test_prune_is_in_nobodys_way(unprivileged: Account) -> None:
    """Several projects on one store, each going back and forth between two images, while somebody prunes."""
    store = unprivileged.make_folder("store")
    env = {"KLOCK_CACHE_DIR": str(store)}

    def klock(folder: Path, *arguments: str) -> None:
        done = unprivileged.klock(*arguments, cwd=folder, env=env)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"

    def work(number: int) -> None:
        folder = unprivileged.make_folder(f"project-{number}")
        write_small_base(folder / "layout")
        for turn in range(200):
            step = f".run_bash('echo {turn % 2} > /made').run_bash('echo {number} >> /made')"
            (folder / "kimage.py").write_text(
                f"import klock as kt\nimage = kt.Image().from_docker({SMALL_BASE!r}){step}\n"
            )
            unprivileged.give(folder)
            for verb in ("lock", "sync", "check"):
                klock(folder, verb, *(["--env"] if verb == "check" else []))

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, number) for number in range(3)]
        while not all(each.done() for each in working):
            klock(store, "cache", "prune")
        for each in working:
            each.result()


def test_clean_keeps_what_may_not_be_had_again_and_says_how_to_remove_it(unprivileged: Account) -> None:
    folder = unprivileged.make_folder("machine")
    env = {"KLOCK_CACHE_DIR": str(folder / "store")}

    def klock(*arguments: str) -> str:
        done = unprivileged.klock(*arguments, cwd=folder, env=env)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def blobs() -> str:
        script = "print(*(store.find_blob(d) is not None for d in digests), store.kept_bytes())"
        return unprivileged.run_python(f"{prepare}\n{script}", cwd=folder, env=env).strip()

    prepare = (
        "from klock.digests import digest_of_bytes\nfrom klock.store import Store\nstore = Store()\n"
        "digests = [digest_of_bytes(b'kept' * 500), digest_of_bytes(b'of upstream')]"
    )
    fill = "store.add_bytes(b'kept' * 500)\nstore.add_bytes(b'of upstream')\nstore.keep_blob(digests[0])"
    unprivileged.run_python(f"{prepare}\n{fill}", cwd=folder, env=env)
    assert blobs() == "True True 2000"
    kept = "kept 2.0 kB that upstream may no longer have; `klock cache clean --all` removes it too\n"
    assert klock("cache", "clean") == "freed 11 B\n" + kept
    assert blobs() == "True False 2000"
    assert klock("cache", "clean") == "freed 0 B\n" + kept
    assert klock("cache", "clean", "--all") == "freed 2.0 kB\n"
    assert blobs() == "False False 0"


def test_clean_keeps_the_notes_of_an_engine_that_does_not_answer(unprivileged: Account) -> None:
    """They lead to the images that it still has."""
    folder = unprivileged.make_folder("machine")
    env = {"KLOCK_CACHE_DIR": str(folder / "store"), "DOCKER_HOST": "unix:///nowhere"}
    environments = folder / "store/environments"
    for name in ("docker.mine-0123456789ab", "mine-0123456789ab.docker"):
        (environments / name).mkdir(parents=True)
    unprivileged.give(folder / "store")
    done = unprivileged.klock("cache", "clean", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert "run this again later to remove the rest" in done.stderr
    assert [path.name for path in environments.iterdir()] == ["mine-0123456789ab.docker"]
