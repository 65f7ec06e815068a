"""Shell steps, before they run: what they must not call, the proxies that they find, and what is mounted for them."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes
from klock.errors import ImageError, StepFailed
from klock.layers.normalisation import MTIME
from klock.lockfile.model import FileEntry, LayerLock, MountLock, OciBlob, OciLock, ShellLock, TargetLock
from klock.recorder.doors import Doors, where_of, wheres_in
from klock.steps.at import StepAt
from klock.steps.repeating import ways_out
from klock.steps.shell.mounts import mounts_of
from klock.steps.shell.proxies import proxies_in
from klock.steps.shell.rights import refuse_sudo
from klock.targets import Target
from klock.temporary import MEMORY, remove_abandoned_folders
from tests.memory_workshop import memory_context

CALLS_SUDO = (
    "sudo apt-get update",
    "cd /srv && sudo make install",
    "x=1 sudo -E env",
    "if true; then sudo ls; fi",
    "(sudo ls)",
    "echo a\nsudo ls",
    "time sudo ls",
    "a | /usr/bin/sudo tee /etc/x",
    "doas ls",
)
CALLS_NONE = (
    *("apt-get install -y sudo", "echo 'sudo is here'", "command -v sudo", "usermod -aG sudo joe", "sudoedit x"),
    *("cat > run.sh <<'EOF'\nsudo ls\nEOF", "echo 'a; sudo ls' > run.sh"),
)


@pytest.mark.parametrize("command", CALLS_SUDO)
def test_sudo_of_a_user_other_than_root_is_refused(command: str) -> None:
    with pytest.raises(ImageError, match="it runs as jovyan") as raised:
        refuse_sudo(command, user="jovyan:users")
    assert raised.value.hint == 'call .user("root") before it, and .user(...) after it'
    for user in ("", "root", "0", "0:0", "root:root"):
        refuse_sudo(command, user=user)


@pytest.mark.parametrize("command", CALLS_NONE)
def test_a_word_that_is_sudo_is_no_call(command: str) -> None:
    refuse_sudo(command, user="jovyan")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("proxy=http://proxy.example:3128", {("proxy.example", 3128)}),
        ("proxy=proxy.example:3128/", {("proxy.example", 3128)}),
        ("proxy=http://me:word@Proxy.example:3128/", {("proxy.example", 3128)}),
        ("proxy=http://10.1.2.3:3128", {("10.1.2.3", 3128)}),
        ("proxy=http://proxy.example", {("proxy.example", 80)}),
        ('Acquire::http::Proxy "http://proxy.example:3128/";', {("proxy.example", 3128)}),
        ('Acquire::http::Proxy::deb.example "http://proxy.example:3128/";', {("proxy.example", 3128)}),
        ("[global]\nproxy = http://proxy.example:3128\n", {("proxy.example", 3128)}),
        ("https-proxy=http://proxy.example:3128\n", {("proxy.example", 3128)}),
        ("[http]\n\tproxy = proxy.example:3128\n", {("proxy.example", 3128)}),
        ("proxy_servers:\n  http: http://proxy.example:3128\n", {("proxy.example", 3128)}),
        ("curl -x proxy.example:3128 https://a.example/", {("proxy.example", 3128)}),
        ("curl --proxy http://proxy.example:3128 https://a.example/", {("proxy.example", 3128)}),
        ("pip install --proxy=http://proxy.example:3128 x", {("proxy.example", 3128)}),
        ("git config --global http.proxy http://proxy.example:3128", {("proxy.example", 3128)}),
        ("export https_proxy='http://proxy.example:3128'", {("proxy.example", 3128)}),
        ("proxy=socks5://proxy.example:1080", set()),
        ("no_proxy=a.example", set()),
        ("proxy_pass http://backend:8080;", set()),
        ("curl https://proxy.example:3128/x", set()),
        ('Acquire::http::Proxy "DIRECT";', set()),
    ],
)
def test_proxies_are_found_where_programs_are_told_of_them(text: str, found: set[tuple[str, int]]) -> None:
    assert proxies_in([text]) == found


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://H.example/x", ("h.example", 80)),
        ("https://u:p@h.example:8443/x", ("h.example", 8443)),
        ("http://[::1]:80/", ("::1", 80)),
        ("ftp://h.example/", None),
        ("https://h.example:port/", None),
        ("file:///x", None),
    ],
)
def test_where_a_url_leads(url: str, where: tuple[str, int] | None) -> None:
    assert where_of(url) == where
    assert wheres_in([f"deb [a=b] {url} suite main\n"]) == ({where} if where else set())


def test_doors_on_this_machine_are_on_the_commands_own_loopback() -> None:
    doors = Doors(origins=frozenset({("localhost", 8080), ("10.0.0.5", 80)}), proxies=frozenset({("127.0.0.2", 3128)}))
    assert doors.loopback == (("127.0.0.1", 8080), ("127.0.0.2", 3128), ("::1", 8080))
    assert doors.ports == (80, 3128, 8080)
    assert doors.host_at("127.0.0.1", 8080) == "localhost"
    assert doors.host_at("10.0.0.5", 80) == "10.0.0.5"
    assert doors.host_at("10.0.0.5", 81) is None
    assert doors.is_origin("10.0.0.5", 80)
    assert not doors.is_origin("127.0.0.2", 3128)


def step_with(source: Path, *mounts: MountLock) -> StepAt[ShellLock]:
    """A step with mounts, in whose build context there is a folder with one file."""
    folder, file = FileEntry(path="sub", mode=0o755), source / "sub/x"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"data")
    entries = (folder, FileEntry(path="sub/x", mode=0o644, size=4, digest=digest_of_bytes(b"data")))
    layer = LayerLock(digest=digest_of_bytes(b""), files=0, size=0)
    step = ShellLock(command="make", layer=layer, mounts=mounts, mounted=entries)
    blob = OciBlob(digest=digest_of_bytes(b"blob"), size=4, media_type="application/json")
    base = OciLock(reference="x", index_digest=None, manifest=blob, config=blob, layers=())
    lock = TargetLock(target=Target.of_this_machine(), base=base, interpreter=None, steps=(step,), packages=())
    return StepAt(lock=lock, position=0, source=source)


def test_what_is_wrong_with_an_image_is_told_with_the_step(tmp_path: Path) -> None:
    with (
        pytest.raises(StepFailed, match=r"^step 1: there is no user joe$") as caught,
        step_with(tmp_path / "context").named_in_errors(),
    ):
        raise ImageError("there is no user joe", hint="name another")
    assert caught.value.hint == "name another"


@pytest.mark.parametrize(
    ("paths", "shown"),
    [
        (["/opt/x-*.log", "/srv/**"], '"/opt/x-*.log", "/srv/**"'),
        (["/opt/app/*"], "..."),
        (["/*"], "..."),
        (["/a b"], "..."),
        (["/a,b"], "..."),
    ],
)
def test_paths_that_a_hint_names(tmp_path: Path, paths: list[str], shown: str) -> None:
    assert f"run_bash(..., leave_out=[{shown}])" in ways_out(step_with(tmp_path / "context"), paths)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_command_sees_the_same_mounts_whatever_the_umask_and_the_time(tmp_path: Path, umask: int) -> None:
    mounts = (
        MountLock(kind="bind", target="/all"),
        MountLock(kind="bind", target="/none", source="not/there"),
        MountLock(kind="cache", target="/cache", mode=0o755),
        MountLock(kind="tmpfs", target="/scratch"),
    )
    before = os.umask(umask)
    try:
        at = step_with(tmp_path / "context", *mounts)
        with mounts_of(at, memory_context(tmp_path)) as found:
            modes = {
                f"{mount.target}/{path.relative_to(mount.source)}": stat.S_IMODE(path.stat().st_mode)
                for mount in found
                for path in (mount.source, *mount.source.rglob("*"))
            }
            times = {path.stat().st_mtime for mount in found[:2] for path in (mount.source, *mount.source.rglob("*"))}
    finally:
        os.umask(before)
    assert modes == {
        "/all/.": 0o755,
        "/all/sub": 0o755,
        "/all/sub/x": 0o644,
        "/none/.": 0o755,
        "/cache/.": 0o755,
        "/scratch/.": 0o1777,
    }
    assert times == {MTIME}


def test_a_secret_is_in_memory_while_it_is_mounted_and_held_there(tmp_path: Path) -> None:
    at = step_with(tmp_path / "context", MountLock(kind="secret", target="/s", secret="TOKEN", mode=0o400))
    context = dataclasses.replace(memory_context(tmp_path), environ={"TOKEN": "hunter2"})
    with mounts_of(at, context) as (mount,):
        assert mount.source.is_relative_to(MEMORY) and mount.source.read_text() == "hunter2"
        remove_abandoned_folders()
        assert mount.source.exists()
    assert not mount.source.parent.parent.exists()
