"""Workspaces of the sandbox engine: what a command sees and may do, and how files are placed and read."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from klock.digests import digest_of_bytes
from klock.errors import EngineError, HashMismatch, ImageError, StoreError
from klock.files.placed import PlacedFile
from klock.layers.manifest import Kind
from klock.workshop import SandboxWorkshop
from klock.workshop.overlay import resolve
from klock.workshop.protocol import Completed, Mount, Network, Workspace
from tests.integration.sandbox_fixtures import (
    BASE,
    Archive,
    base_layer,
    command,
    debian_engine,
    member,
    programs_tar,
    shell,
)

__all__ = ["debian_engine", "programs_tar"]

pytestmark = pytest.mark.integration


SEEN = {
    "root, with an exact umask": ("id; umask", "uid=0(root) gid=0(root) groups=0(root)\n0022\n"),
    "its own processes only": ("cd /proc; echo [0-9]*", "1 2\n"),
    "its own host name": ("cat /proc/sys/kernel/hostname", "klock\n"),
    "nothing of the host's environment": ("unset PWD OLDPWD _; env | sort", re.compile(r"HOME=/root\nPATH=\S+\n")),
    "empty temporary folders, with their modes": (
        "stat -c '%n %a %u:%g' /tmp /run /dev/shm; ls -A /tmp /run",
        "/tmp 1777 0:0\n/run 755 0:0\n/dev/shm 1777 0:0\n/run:\n\n/tmp:\n",
    ),
    "devices that work": ("head -c 2 /dev/zero | wc -c; echo x > /dev/null; ls /dev/pts/ptmx", "2\n/dev/pts/ptmx\n"),
    "only a loopback network, which is up": (
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; cat /etc/resolv.conf; python3 -Bc 'import socket\n"
        's = socket.create_server(("127.0.0.1", 0)); socket.create_connection(s.getsockname()); print("connected")\'',
        "lo\nconnected\n",
    ),
    "names of its own": ("getent hosts klock localhost | sort", re.compile(r"(?s).*127\.0\.0\.1 +localhost klock.*")),
    "an empty stdin": ("cat; echo end", "end\n"),
    "no terminal": ("tty || true; exec 3</dev/tty || true", re.compile(r"(?s)not a tty\n.*cannot open /dev/tty.*")),
}


@pytest.mark.parametrize(("script", "expected"), SEEN.values(), ids=SEEN)
def test_a_command_sees(debian_engine: SandboxWorkshop, script: str, expected: str | re.Pattern[str]) -> None:
    with debian_engine.open(BASE, []) as workspace:
        done = workspace.run(command("sh", "-c", script)).output.decode()
    if isinstance(expected, str):
        assert done == expected
    else:
        assert expected.fullmatch(done), done


FORBIDDEN = {
    "settings of the machine": "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
    "settings of the machine, from a namespace of its own": (
        "unshare -Urmpf --mount-proc sh -c 'cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern'"
    ),
    "uncovering what is mounted over": "umount /proc/sys",
    "mounting": "mount -t tmpfs none /mnt",
    "raw sockets": "python3 -Bc 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)'",
    "a host name": "hostname other",
    "block devices": "mknod /opt/sda b 8 0",
    "the resolver": "echo x > /etc/resolv.conf",
    "the host's files, by way of the process that started it": "ls /proc/1/root/",
    "the variables of klock, by the same way": "cat /proc/1/environ",
    "and its memory": "head -c 1 /proc/1/mem",
}


@pytest.mark.parametrize("script", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_command_may_not_touch(debian_engine: SandboxWorkshop, script: str) -> None:
    with debian_engine.open(BASE, []) as workspace:
        assert workspace.run(command("sh", "-c", script)).status != 0


STATUSES = {
    "0": ("true", 0),
    "the command's": ("exit 7", 7),
    "128 and the signal's number": ("kill -9 $$", 137),
    "that of the shell for a program that is not there": ("nosuch", 127),
}


@pytest.mark.parametrize(("script", "status"), STATUSES.values(), ids=STATUSES)
def test_the_exit_status_is(debian_engine: SandboxWorkshop, script: str, status: int) -> None:
    with debian_engine.open(BASE, []) as workspace:
        assert workspace.run(command("sh", "-c", script)).status == status


def test_a_program_that_is_not_there(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        assert workspace.run(command("nosuch")) == Completed(status=127, output=b"klock: no such program: nosuch\n")
        # It is found as the environment's own symlinks lead: /bin -> usr/bin.
        assert workspace.run(command("/bin/true")).status == 0


def test_output_is_passed_on_as_it_comes_and_its_end_is_kept(debian_engine: SandboxWorkshop) -> None:
    chunks: list[bytes] = []
    with debian_engine.open(BASE, []) as workspace:
        script = "echo start; echo error >&2; head -c 100000 /dev/zero; echo end"
        done = workspace.run(command("sh", "-c", script), on_output=chunks.append)
    everything = b"".join(chunks)
    assert everything == b"start\nerror\n" + bytes(100000) + b"end\n"
    assert done.output == everything[-(64 << 10) :]


def test_processes_left_behind_end_with_the_command(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "setsid sh -c 'while :; do date +%N > /opt/alive; sleep 0.01; done' & sleep 0.2")
        first = workspace.read("/opt/alive")
        shell(workspace, "sleep 0.1")
        assert workspace.read("/opt/alive") == first


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0 0 0"),
        ("root", "0 0 0"),
        ("0:0", "0 0 0"),
        ("nobody", "65534 65534 65534"),
        ("daemon", "1 1 1"),
        ("1000", "1000 0 0"),
        ("1000:1000", "1000 1000 1000"),
        ("daemon:games", "1 60 60"),
    ],
)
def test_the_user(debian_engine: SandboxWorkshop, user: str, expected: str) -> None:
    script = "echo $(id -u) $(id -g) $(id -G); echo x > /tmp/x; stat -c %u:%g /tmp/x / ; grep CapEff /proc/self/status"
    uid, gid, _ = expected.split()
    with debian_engine.open(BASE, []) as workspace:
        done = workspace.run(command("sh", "-euc", script, user=user))
    assert done.status == 0, done.output.decode()
    lines = done.output.decode().splitlines()
    assert lines[:3] == [expected, f"{uid}:{gid}", "0:0"]
    # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT and SETFCAP
    assert lines[3].split()[1] == ("00000000800405fb" if uid == "0" else "0000000000000000")


def test_a_user_that_the_environment_does_not_have(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        with pytest.raises(ImageError, match=r"^the environment has no user 'joe' in its /etc/passwd$"):
            workspace.run(command("true", user="joe"))
        shell(workspace, "useradd -m -G games joe")
        done = workspace.run(command("sh", "-c", "id; cd; pwd", user="joe", environment={"HOME": "/home/joe"}))
    assert done.output.decode() == "uid=1000(joe) gid=1000(joe) groups=1000(joe),60(games)\n/home/joe\n"


def test_the_working_folder_is_made_when_it_is_missing(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        assert workspace.run(command("pwd", working_dir="/work/deep")).output == b"/work/deep\n"
        assert list(workspace.snapshot().manifest) == ["work", "work/deep"]


def test_variables_reach_the_command_and_not_the_list_of_processes(debian_engine: SandboxWorkshop) -> None:
    values = {"EMPTY": "", "LINES": "a\nb", "TOKEN": "secret-token", "LD_LIBRARY_PATH": "/nowhere"}
    with debian_engine.open(BASE, []) as workspace:
        shown = "import os; print(*(repr(os.environ[name]) for name in ('EMPTY', 'LINES', 'TOKEN')))"
        script = f'python3 -Bc "{shown}"; cat /proc/*/cmdline'
        done = workspace.run(command("sh", "-c", script, environment=values)).output.decode(errors="replace")
    assert done.startswith("'' 'a\\nb' 'secret-token'\n")
    assert "secret-token" not in done.split("\n", 1)[1]


def test_the_host_s_network_brings_its_certificates(debian_engine: SandboxWorkshop, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates\n")
    engine = SandboxWorkshop(debian_engine._store, ca_bundle=bundle)
    script = "echo $PIP_CERT $SSL_CERT_FILE; cat $PIP_CERT"
    with engine.open(BASE, []) as workspace:
        online = command("sh", "-c", script, network=Network.HOST, environment={"SSL_CERT_FILE": "/mine"})
        assert workspace.run(online).output == b"/run/klock/ca.pem /mine\ncertificates\n"
        assert workspace.run(command("sh", "-c", "echo $PIP_CERT; ls /run")).output == b"\n"
        same = workspace.run(command("cat", "/etc/resolv.conf", network=Network.HOST)).output
        assert same == Path("/etc/resolv.conf").read_bytes()
        assert list(workspace.snapshot().manifest) == []


def test_mounts_are_seen_and_leave_no_trace(debian_engine: SandboxWorkshop, tmp_path: Path) -> None:
    folder = tmp_path / "folder, with: odd name"
    folder.mkdir()
    (folder / "x").write_text("1")
    (tmp_path / "file").write_text("2")
    mounts = [
        Mount(source=folder, target="/opt/new/folder"),
        Mount(source=folder, target="/bin/rw", read_only=False),
        Mount(source=tmp_path / "file", target="/run/secrets/file"),
        Mount(source=tmp_path / "file", target="/etc/passwd"),
    ]
    script = (
        "cat /opt/new/folder/x /usr/bin/rw/x /run/secrets/file /etc/passwd; echo 3 > /bin/rw/y;"
        "touch /opt/new/folder/z /run/secrets/file || echo refused"
    )
    with debian_engine.open(BASE, []) as workspace:
        done = workspace.run(command("sh", "-c", script, mounts=mounts)).output.decode()
        assert done.startswith("1122")
        assert done.endswith("refused\n")
        assert list(workspace.snapshot().manifest) == []
    assert (folder / "y").read_text() == "3\n"
    assert not (folder / "z").exists()


@pytest.mark.parametrize("target", ["../run/systemd/resolve/stub-resolv.conf", "/mnt/missing/resolv.conf"])
def test_a_base_whose_resolver_is_a_symlink(debian_engine: SandboxWorkshop, target: str) -> None:
    with debian_engine.open(BASE, []) as workspace:
        workspace.place([PlacedFile(path="resolv.conf", mode=0o777, target=target)], "/etc")
        link = workspace.snapshot()
        assert link.manifest["etc/resolv.conf"].target == target
        done = workspace.run(command("cat", "/etc/resolv.conf", network=Network.HOST))
        assert done == Completed(status=0, output=Path("/etc/resolv.conf").read_bytes())
        assert list(workspace.snapshot().manifest) == []


def test_a_base_with_nothing_in_it(engine: SandboxWorkshop, tmp_path: Path) -> None:
    engine.add_base(BASE, [base_layer(tmp_path, Archive([(member("x"), b"1")]).to_bytes())])
    with engine.open(BASE, []) as workspace:
        assert workspace.run(command("sh")).status == 127
        assert workspace.read("/x") == b"1"
        assert list(workspace.snapshot().manifest) == []


# -- services


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("sleep 60", None, id="alive"),
        pytest.param("exit 3", 3, id="failed at once"),
        pytest.param("nosuch-server", 127, id="not there"),
    ],
)
def test_a_service(debian_engine: SandboxWorkshop, script: str, expected: int | None) -> None:
    with debian_engine.open(BASE, []) as workspace:
        ended = workspace.run_service(command("sh", "-c", script), seconds=0.3)
    assert (ended and ended.status) == expected


# -- placing and reading


def placed(path: str, source: Path, content: bytes, mode: int = 0o644) -> PlacedFile:
    source.write_bytes(content)
    return PlacedFile(path=path, mode=mode, source=source, digest=digest_of_bytes(content))


def test_placing_a_tree(debian_engine: SandboxWorkshop, tmp_path: Path) -> None:
    files = [
        placed("run me.sh", tmp_path / "a", b"#!", mode=0o755),
        PlacedFile(path="sub", mode=0o750),
        placed("sub/ünï", tmp_path / "b", b"data", mode=0o600),
        PlacedFile(path="link", mode=0o777, target="sub/missing"),
        placed("implied/x", tmp_path / "c", b""),
    ]
    before = os.umask(0o077)
    try:
        with debian_engine.open(BASE, []) as workspace:
            workspace.place(files, "/app/src")
            manifest = workspace.snapshot().manifest
    finally:
        os.umask(before)
    found = [(e.path, e.kind, e.mode, e.uid, e.gid, e.target) for e in manifest.values()]
    assert found == [
        ("app", Kind.FOLDER, 0o755, 0, 0, None),
        ("app/src", Kind.FOLDER, 0o755, 0, 0, None),
        ("app/src/implied", Kind.FOLDER, 0o755, 0, 0, None),
        ("app/src/implied/x", Kind.FILE, 0o644, 0, 0, None),
        ("app/src/link", Kind.SYMLINK, 0o777, 0, 0, "sub/missing"),
        ("app/src/run me.sh", Kind.FILE, 0o755, 0, 0, None),
        ("app/src/sub", Kind.FOLDER, 0o750, 0, 0, None),
        ("app/src/sub/ünï", Kind.FILE, 0o600, 0, 0, None),
    ]
    assert manifest["app/src/sub/ünï"].digest == digest_of_bytes(b"data")


def test_placing_follows_the_environment_s_symlinks_but_not_out_of_it(
    debian_engine: SandboxWorkshop, tmp_path: Path
) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, f"ln -s /opt /data; ln -s ../../../../../../..{tmp_path} /host; ln -s {tmp_path} /host2")
        workspace.snapshot()
        workspace.place([placed("bin/tool", tmp_path / "a", b"1", mode=0o755)], "/")
        workspace.place([PlacedFile(path="bin", mode=0o700)], "/")
        workspace.place([placed("", tmp_path / "b", b"2")], "/data/config.yaml")
        manifest = workspace.snapshot().manifest
        assert [(e.path, e.kind) for e in manifest.values()] == [
            ("opt/config.yaml", Kind.FILE),
            ("usr/bin/tool", Kind.FILE),
        ]
        for link in ("/host", "/host2"):
            with pytest.raises(ImageError):
                workspace.place([placed("evil", tmp_path / "c", b"3")], link)
    assert not (tmp_path / "evil").exists()


def test_a_placed_file_replaces_a_file_or_symlink(debian_engine: SandboxWorkshop, tmp_path: Path) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo old > /opt/file; ln -s /etc/passwd /opt/link")
        workspace.place([placed("file", tmp_path / "a", b"1"), placed("link", tmp_path / "b", b"2")], "/opt")
        assert (workspace.read("/opt/file"), workspace.read("/opt/link")) == (b"1", b"2")
        assert workspace.read("/etc/passwd") != b"2"


WRONG_PLACES = {
    "a file over a folder": ("etc", "/", "cannot place a file at /etc: the environment has a folder there"),
    "a file below a file": ("x", "/etc/passwd", "cannot make the folder /etc/passwd: the environment has a file there"),
    "a temporary folder": (
        "x",
        "/tmp/y",
        "cannot place a file at /tmp/y/x: klock leaves this folder out of every environment",
    ),
    "a path that leads up": ("../x", "/opt", "cannot place '../x' below '/opt'"),
    "a relative destination": ("x", "opt", "cannot place 'x' below 'opt'"),
}


@pytest.mark.parametrize(("path", "destination", "message"), WRONG_PLACES.values(), ids=WRONG_PLACES)
def test_refuses_to_place(
    debian_engine: SandboxWorkshop, tmp_path: Path, path: str, destination: str, message: str
) -> None:
    with debian_engine.open(BASE, []) as workspace, pytest.raises(ImageError) as caught:
        workspace.place([placed(path, tmp_path / "a", b"1")], destination)
    assert caught.value.message == message


def test_a_source_that_changed_is_not_placed(debian_engine: SandboxWorkshop, tmp_path: Path) -> None:
    file = placed("x", tmp_path / "a", b"locked")
    (tmp_path / "a").write_bytes(b"edited")
    with debian_engine.open(BASE, []) as workspace, pytest.raises(HashMismatch) as caught:
        workspace.place([file], "/opt")
    assert caught.value.message == (
        f"{tmp_path / 'a'}: hash mismatch: locked {digest_of_bytes(b'locked')}, on disk {digest_of_bytes(b'edited')}"
    )


def test_reading(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(
            workspace,
            "ln -s /opt/x /opt/link; ln -s loop /opt/loop; printf 1 > /opt/x; mkfifo /opt/fifo",
        )
        content = [workspace.read(f"/opt/{name}") for name in ("x", "link", "missing", "x/y", "loop", "fifo")]
        assert content == [b"1", b"1", None, None, None, None]
        assert workspace.read("/opt") is None


def test_a_workspace_leaves_nothing(debian_engine: SandboxWorkshop) -> None:
    temporary = debian_engine._store.root / "tmp"

    def fail(workspace: Workspace) -> None:
        shell(workspace, "mkdir -m 000 /opt/closed; chown -R 1000:1000 /opt")
        assert list(temporary.iterdir()) != []
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), debian_engine.open(BASE, []) as workspace:
        fail(workspace)
    assert list(temporary.iterdir()) == []


def test_a_base_or_layer_that_is_not_here(debian_engine: SandboxWorkshop) -> None:
    other = digest_of_bytes(b"other")
    with pytest.raises(StoreError, match=f"^the base {other} is not in the store$"), debian_engine.open(other, []):
        pass
    with pytest.raises(StoreError, match=r"^layer-\w+ is not in the store$"), debian_engine.open(BASE, [other]):
        pass
    assert not debian_engine.has_layer(other)
    assert debian_engine.layer_manifest(other) is None


# -- what a machine can lack


def test_a_machine_without_bubblewrap(engine: SandboxWorkshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EngineError) as caught:
        engine.check()
    assert caught.value.message == "bubblewrap (bwrap) is not installed"
    assert caught.value.hint is not None and "apt-get install bubblewrap" in caught.value.hint


def test_what_bubblewrap_says_is_told(
    debian_engine: SandboxWorkshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as in a sandbox of another program, which lets nobody mount /proc."""
    script = tmp_path / "bwrap"
    script.write_text(
        '#!/bin/sh\nprintf "some\\nbwrap: Can\'t mount proc on /newroot/proc: \\033[1mno\\n" >&2; exit 1\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with debian_engine.open(BASE, []) as workspace, pytest.raises(EngineError) as caught:
        workspace.run(command("true"))
    assert caught.value.message == (
        "bubblewrap could not start the command (status 1): bwrap: Can't mount proc on /newroot/proc: \\x1b[1mno"
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a/b", "a/b"),
        ("/link/x", "there/x"),
        ("up/../../x", "x"),
        ("absolute/x", "there/x"),
        ("escape/x", "etc/x"),
        ("missing/../x", "x"),
    ],
)
def test_where_a_path_leads_in_a_tree(tmp_path: Path, target: str, expected: str) -> None:
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "absolute").symlink_to("/link")
    (tmp_path / "escape").symlink_to("../../../../etc")
    assert resolve(str(tmp_path), target) == f"{tmp_path}/{expected}"
