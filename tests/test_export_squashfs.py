"""What a squashfs has beside the locked files: mount points, and what an image's config would say."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from klock.errors import EngineError, KlockError
from klock.export.mount_points import USUAL, Additions, folder_named
from klock.export.runtime_files import runtime_files, unsaid_variables
from klock.export.squashfs import refuse_output, write_squashfs
from klock.layers.manifest import Entry, Kind, Manifest
from klock.lockfile.model import EnvLock, LockedVariable, ServiceLock, SettingsLock, TargetLock
from tests.memory_workshop import file_entry, memory_context
from tests.test_lockfile import SMALL

LOCK = SMALL.targets[0]


def folder(path: str) -> Entry:
    return Entry(path=path, kind=Kind.FOLDER, mode=0o755)


def link(path: str, target: str) -> Entry:
    return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=target)


@pytest.mark.parametrize(
    ("tree", "path", "added"),
    [
        pytest.param([], "/dev", ["dev"], id="nothing is there"),
        pytest.param([folder("dev")], "/dev", [], id="it is there"),
        pytest.param([], "/var/tmp", ["var", "var/tmp"], id="folders above it are added first"),
        pytest.param([link("tmp", "var/tmp")], "/tmp", ["var", "var/tmp"], id="a symlink is followed"),
        pytest.param([link("a", "/b"), link("b", "a")], "/a/c", None, id="symlinks in a circle lead nowhere"),
        pytest.param([link("mnt", "../../../x")], "/mnt", ["x"], id="no symlink leads out"),
        pytest.param([file_entry("mnt")], "/mnt", [], id="a file is there, and stays"),
        pytest.param([file_entry("mnt")], "/mnt/0", None, id="a file is in the way"),
    ],
)
def test_mount_points_are_added_where_they_lead(tree: list[Entry], path: str, added: list[str] | None) -> None:
    additions = Additions(Manifest(tree))
    is_there = additions.add(path, Kind.FOLDER)
    assert ([entry.path for entry in additions] if is_there else None) == added


def test_the_usual_ones_are_what_charliecloud_needs_and_binds() -> None:
    additions = Additions(Manifest())
    assert all(additions.add(path, kind) for path, kind in USUAL)
    found = {entry.path: entry for entry in additions}
    assert {"dev", "proc", "sys", "tmp", "home", "mnt/9", "etc/resolv.conf", "etc/hosts"} <= found.keys()
    assert (found["tmp"].mode, found["etc/hosts"].kind) == (0o1777, Kind.FILE)
    with pytest.raises(KlockError, match="is not a mount point"):
        folder_named("/a/../etc")


@pytest.mark.parametrize("written", ["", "/", "scratch", "/..", "/./a", "/a\nb"])
def test_what_is_no_mount_point_is_refused(written: str) -> None:
    with pytest.raises(KlockError, match="is not a mount point"):
        folder_named(written)


def with_variables(values: Mapping[str, str], *secrets: str) -> TargetLock:
    variables = tuple(LockedVariable(name=n, value=v, written=v, secrets=secrets) for n, v in values.items())
    return replace(LOCK, steps=(*LOCK.steps, EnvLock(variables=variables)))


def content(lock: TargetLock, path: str) -> str:
    return next(file.content.decode() for file in runtime_files(lock) if file.path == path)


def test_variables_reach_both_runtimes_as_they_are(tmp_path: Path) -> None:
    values = {"PLAIN": "x", "QUOTES": 'it\'s "so" $HOME `id`', "LINES": "a\nb"}
    lock = with_variables(values)
    script = tmp_path / "env.sh"
    script.write_text(content(lock, "/.singularity.d/env/10-klock.sh") + 'printf "%s|" "$PLAIN" "$QUOTES" "$LINES"')
    assert subprocess.check_output(["/bin/sh", script], text=True) == "".join(f"{v}|" for v in values.values())
    of_charliecloud = content(lock, "/ch/environment").splitlines()
    assert "QUOTES='it's \"so\" $HOME `id`'" in of_charliecloud, "it takes away the outer quotes, and no others"
    assert unsaid_variables(lock) == ["LINES"]
    assert not any(line.startswith(("LINES", "b")) for line in of_charliecloud)


def test_a_secret_is_in_no_file() -> None:
    lock = with_variables({"TOKEN": "${HF_TOKEN}"}, "HF_TOKEN")
    assert not any(b"TOKEN" in file.content for file in runtime_files(lock))


def test_the_runscript_starts_what_a_container_would(tmp_path: Path) -> None:
    settings = SettingsLock(entrypoint=("printf", "<%s>"), command=("a b", "c"))
    lock = replace(LOCK, steps=(*LOCK.steps, settings))
    script = tmp_path / "runscript"
    script.write_text(content(lock, "/.singularity.d/runscript"))
    assert subprocess.check_output(["/bin/sh", script], text=True) == "<a b><c>"
    assert subprocess.check_output(["/bin/sh", script, "x"], text=True) == "<x>"
    served = replace(lock, steps=(*lock.steps, ServiceLock(command="serve &")))
    start = "/usr/local/lib/klock/start"
    assert shlex.join([start, "printf", "<%s>"]) in content(served, "/.singularity.d/runscript")
    assert "serve" in content(served, start)


def test_without_the_program_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="mksquashfs is not installed") as caught:
        write_squashfs(LOCK, memory_context(tmp_path), tmp_path / "out", compression="gzip")
    assert "apt-get install squashfs-tools" in str(caught.value.hint)


def test_a_program_that_reads_no_archives_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "mksquashfs"
    program.write_text("#!/bin/sh\necho 'mksquashfs version 4.4 (2019/08/29)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"is too old: klock needs squashfs-tools 4\.5"):
        write_squashfs(LOCK, memory_context(tmp_path), tmp_path / "out", compression="gzip")


def test_no_file_can_be_written_there(tmp_path: Path) -> None:
    with pytest.raises(KlockError, match="is a folder"):
        refuse_output(tmp_path)
    with pytest.raises(KlockError, match="there is no folder"):
        refuse_output(tmp_path / "none/image.sqfs")
