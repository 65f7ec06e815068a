"""What was changed in the store, at equal size too, is found by the next command that needs it, and made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from klock.tree_stats import is_as_noted
from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = f"""import klock as kt
image = kt.Image().from_docker({SMALL_BASE!r})
image.run_bash("echo made > /made; mkdir /d; echo more > /d/more; ln -s made /link").rsync("./src", "/srv")
"""


@pytest.fixture(scope="module")
def account(unprivileged: Account) -> Account:
    """The one that may not look into everything."""
    return unprivileged


@pytest.fixture
def project(account: Account) -> Path:
    folder = account.make_folder("project")
    (folder / "src").mkdir()
    (folder / "src/a").write_text("aaaa")
    write_small_base(folder / "layout", [("h/", None), ("h/old", "old1")])
    (folder / "kimage.py").write_text(IMAGE)
    account.give(folder)
    assert account.klock("lock", cwd=folder).returncode == 0
    assert account.klock("sync", cwd=folder).returncode == 0
    return folder


def said(account: Account, project: Path, *arguments: str) -> str:
    done = account.klock(*arguments, cwd=project)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def tree_with(account: Account, path: str) -> Path:
    (found,) = account.store.glob(f"trees/*/root/{path}")
    return found


def _in_place(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"M")


def _as_before_but_ctime(path: Path) -> None:
    status = path.stat()
    _in_place(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _lead_elsewhere(link: Path) -> None:
    link.unlink()
    link.symlink_to("dade")


NOTE = "import sys; from klock.tree_stats import note_stats; note_stats(sys.argv[1])"

CHANGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a byte of a step's file": ("made", _in_place),
    "a byte, and its time put back": ("d/more", _as_before_but_ctime),
    "a byte of a copied file": ("srv/src/a", _in_place),
    "a byte of the base": ("h/old", _in_place),
    "a mode": ("made", lambda path: path.chmod(0o600)),
    "a file is gone": ("d/more", Path.unlink),
    "a file more": ("d", lambda path: (path / "evil").write_text("x")),
    "a symlink leads elsewhere": ("link", _lead_elsewhere),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_tree_is_made_again(case: str, account: Account, project: Path) -> None:
    path, change = CHANGES[case]
    assert said(account, project, "sync").startswith("environment unchanged")
    change(tree_with(account, path))
    assert not said(account, project, "sync").startswith("environment unchanged")
    assert said(account, project, "check", "--env")
    command = "cat /made /d/more /srv/src/a /h/old; ls /d; stat -c %a /made; cat /link"
    assert said(account, project, "run", "--", "sh", "-c", command) == "made\nmore\naaaaold1more\n644\nmade\n"
    assert said(account, project, "sync").startswith("environment unchanged")


def test_a_store_that_was_copied_is_read_once_and_kept(account: Account, project: Path) -> None:
    trees = {tree_with(account, path).relative_to(account.store).parts[1] for path in ("made", "srv/src/a", "h/old")}
    before = {account.store / "trees" / tree / "root": 0 for tree in trees}
    for tree in before:
        (tree.parent / "stats").unlink()
        before[tree] = tree.stat().st_ino
    assert said(account, project, "sync").startswith("environment unchanged")
    assert {tree: tree.stat().st_ino for tree in before} == before
    assert all(is_as_noted(str(tree.parent)) for tree in before)


@pytest.mark.parametrize("gone", ["root/h/old", "root", ""], ids=["a file", "its root", "all but its name"])
def test_what_is_left_of_a_base_is_not_taken_for_all_of_it(gone: str, account: Account, project: Path) -> None:
    """As when its removal was cut short."""
    tree = tree_with(account, "h/old").parents[2]
    for folder in account.store.glob("trees/base-*"):
        shutil.rmtree(folder)
    account.run(["find", tree / gone, "-delete"], cwd=project)
    if not gone:
        account.run(["mkdir", tree], cwd=project)
    said(account, project, "sync")
    assert said(account, project, "run", "--", "cat", "/h/old") == "old1"
    assert said(account, project, "check", "--deep") == "image, lockfile and environment agree, every file was read\n"


def test_a_byte_that_the_disk_changed_is_told_from_drift(account: Account, project: Path) -> None:
    """No stat shows it, as after a write with the clock set back: only who reads every file finds it
    (docs/commands.md), and the environment is as it was made."""
    path = tree_with(account, "d/more")
    _in_place(path)
    account.run([account.python, "-c", NOTE, path.parents[2]], cwd=project)
    assert said(account, project, "sync").startswith("environment unchanged")
    assert said(account, project, "check", "--env") == "image, lockfile and environment agree\n"
    checked = account.klock("check", "--deep", cwd=project)
    assert checked.stdout == "drift-modified: step 1 (kimage.py:3): /d/more differs: content\n"
    hint = "the store was changed, not the environment: run `klock cache clean`, then `klock sync`"
    assert checked.stderr == f"hint: {hint}\n1 finding\n"
    said(account, project, "cache", "clean")
    said(account, project, "sync")
    assert said(account, project, "check", "--deep") == "image, lockfile and environment agree, every file was read\n"


def test_a_check_of_the_environment_is_remembered_while_nothing_changes(account: Account, project: Path) -> None:
    for _ in range(2):
        assert said(account, project, "check", "--env") == "image, lockfile and environment agree\n"
    _as_before_but_ctime(tree_with(account, "h/old"))
    done = account.klock("check", "--env", cwd=project)
    assert (done.returncode, done.stdout) == (1, "drift-not-synced: the base is not in the store: run `klock sync`\n")


def test_who_trusts_the_store_sees_what_was_written_to_the_environment_and_nothing_else(
    account: Account, project: Path
) -> None:
    agree = "image, lockfile and environment agree, if the store is unchanged\n"
    for _ in range(2):
        assert said(account, project, "check", "--trust-store") == agree
    _in_place(tree_with(account, "d/more"))
    (tree_with(account, "srv") / "evil").touch()
    for _ in range(2):
        assert said(account, project, "check", "--trust-store") == agree
    said(account, project, "run", "--no-sync", "--", "sh", "-c", "echo x > /new; chmod 600 /h/old")
    found = "drift-modified: /h/old differs: mode 0755 is now 0600\ndrift-extra: /new is not in the lockfile\n"
    for words in (["--trust-store"], ["--env", "--trust-store"]):
        assert account.klock("check", *words, cwd=project).stdout == found
    assert account.klock("check", "--env", cwd=project).stdout.startswith("drift-not-synced: the layer sha256:")
    refused = account.klock("check", "--trust-store", "--deep", cwd=project)
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        2,
        "error: the store cannot be trusted here: a deep check reads every file",
    )
    layer = next(account.store.glob("trees/layer-*"))
    layer.rename(layer.with_name("lost"))
    gone = account.klock("check", "--trust-store", cwd=project).stdout
    assert gone.startswith("drift-not-synced: the layer sha256:")


def test_a_changed_blob_is_fetched_again(account: Account, project: Path) -> None:
    for blob in account.store.glob("blobs/sha256/*/*"):
        _in_place(blob)
    account.run(["rm", "-rf", *account.store.glob("trees/*")], cwd=project)
    assert not said(account, project, "sync").startswith("environment unchanged")
    assert said(account, project, "run", "--", "cat", "/h/old") == "old1"


def test_a_name_forges_no_finding_and_clears_no_screen(account: Account, project: Path) -> None:
    name = "x\r\x1b[1A\x1b[2K\x9b\nstale-file: forged\u202e"
    (project / "src" / name).write_text("")
    account.give(project / "src")
    done = account.klock("check", cwd=project)
    assert (done.returncode, done.stderr) == (1, "1 finding\n")
    (line,) = done.stdout.splitlines()
    assert line.startswith("stale-file: step 2 (kimage.py:3): ")
    assert r"x\x0d\x1b[1A\x1b[2K\x9b\nstale-file: forged\u202e" in line
    (finding,) = json.loads(account.klock("check", "--format", "json", cwd=project).stdout)
    assert finding["path"].endswith(name)
    done = account.klock("sync", cwd=project)
    assert done.returncode == 2
    assert not set(done.stderr) & set("\r\x1b\x9b\u202e")
    assert not any(line.startswith("stale-file") for line in done.stderr.splitlines())


def test_a_vault_is_no_web_page_and_no_other_machine(account: Account, project: Path) -> None:
    for place in ("https://h/x", "file:///srv/x", "me@host:/x"):
        done = account.klock("vault", "push", place, cwd=project)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {place} is not a folder, and no address of a vault\n\nhint: ")
    assert not [path for path in project.iterdir() if ":" in path.name]
