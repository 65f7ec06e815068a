"""What goes into a container and comes back, and which command lines go there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.elsewhere import asked_for, launcher_script
from klock.elsewhere.command import _files, variables_to_send
from klock.elsewhere.own_files import distributions, files_of, klock_files, versions
from klock.elsewhere.own_image import FOLDER, archive_of
from klock.elsewhere.project_files import pack_folder, put_back
from klock.errors import EngineError, KlockError
from klock.places.containers import owners
from klock.workshop import namespace


@pytest.mark.parametrize(
    ("value", "arguments", "engine"),
    [
        ("docker", ["lock"], "docker"),
        ("podman", ["-q", "run", "--", "true"], "podman"),
        ("podman", ["shell"], "podman"),
        ("sandbox", ["lock"], None),
        ("docker", ["init"], None),
        ("docker", ["lock", "--help"], None),
        ("docker", [], None),
        ("nonsense", ["init"], None),
    ],
)
def test_which_command_lines_go_there(
    monkeypatch: pytest.MonkeyPatch, value: str, arguments: list[str], engine: str | None
) -> None:
    monkeypatch.setenv("KLOCK_WORKSHOP", value)
    assert asked_for(arguments) == engine


SOCKET = {"DOCKER_HOST": "unix:///x"}
AT_HAND: dict[str, tuple[dict[str, str], list[str], str | None]] = {
    "docker": (SOCKET, ["lock"], "docker"),
    "podman first": ({"CONTAINER_HOST": "unix:///x", **SOCKET}, ["-q", "sync"], "podman"),
    "an option of the command": (SOCKET, ["run", "--", "klock", "--here"], "docker"),
    "no engine": ({}, ["lock"], None),
    "in place": (SOCKET, ["sync", "--here"], None),
    "an engine": (SOCKET, ["sync", "--engine=docker"], None),
    "a place by variable": ({**SOCKET, "KLOCK_ENGINE": "here"}, ["sync"], None),
    "the sandbox by variable": ({**SOCKET, "KLOCK_WORKSHOP": "sandbox"}, ["sync"], None),
    "what needs none": (SOCKET, ["init"], None),
}


@pytest.mark.parametrize("case", AT_HAND)
@pytest.mark.parametrize("is_allowed", [False, True], ids=["no namespaces", "namespaces"])
def test_where_no_namespace_can_be_made_an_engine_that_is_named_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str, is_allowed: bool
) -> None:
    variables, arguments, engine = AT_HAND[case]
    for name in ("KLOCK_WORKSHOP", "KLOCK_ENGINE", "DOCKER_HOST", "CONTAINER_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(namespace, "are_namespaces_allowed", lambda: is_allowed)
    expected = None if is_allowed else engine
    assert asked_for(arguments) == expected
    said = capsys.readouterr().err
    assert (f"to hide this note, set KLOCK_WORKSHOP={expected}" in said) if expected else not said


def test_another_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLOCK_WORKSHOP", "lxc")
    with pytest.raises(KlockError, match="KLOCK_WORKSHOP is 'lxc'"):
        asked_for(["lock"])


def test_the_machines_own_variables_stay_here() -> None:
    sent = variables_to_send(
        {
            "HF_TOKEN": "x",
            "HOME": "/h",
            "PATH": "/p",
            "LD_PRELOAD": "e",
            "DOCKER_HOST": "tcp://h",
            "KLOCK_WORKSHOP": "docker",
        }
    )
    assert sent == {"HF_TOKEN": "x"}


# -- klock's own files


def test_klock_and_what_it_needs_are_found_whole() -> None:
    assert {"klock/__init__.py", "klock/py.typed", "klock/elsewhere/launcher_script.py"} <= dict(klock_files()).keys()
    found = distributions()
    assert {"click", "uv", "packaging", "urllib3"} <= found.keys()
    assert not {"docker", "kubernetes", "klock-env", "pytest"} & found.keys()
    assert "bin/uv" in dict(files_of(found["uv"])), "programs too"
    assert f"click=={found['click'].version}" in versions()


# -- there and back


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "app").mkdir(parents=True)
    (project / "app/main.sh").write_text("echo\n")
    (project / "app/main.sh").chmod(0o751)
    (project / "app/link").symlink_to("main.sh")
    os.link(project / "app/main.sh", project / "second")
    os.mkfifo(project / "pipe")
    (project / os.fsdecode(b"\xff")).touch()
    return project


def test_a_project_arrives_as_it_is_here(project: Path, tmp_path: Path) -> None:
    packed = io.BytesIO()
    assert pack_folder(project, packed) == 10
    there = tmp_path / "there"
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        assert {(member.uid, member.gid, member.uname) for member in archive} == {(0, 0, "")}
        archive.extraction_filter = lambda member, path: member
        archive.extractall(there)
    copy = there / str(project).lstrip("/")
    assert {path.name for path in copy.iterdir()} == {path.name for path in project.iterdir()} - {"pipe"}
    assert (copy / "app/main.sh").stat().st_mode & 0o7777 == 0o751
    assert (copy / "app/link").readlink() == Path("main.sh")
    assert (copy / "second").read_text() == "echo\n"


def archive(file: Path, *members: tuple[str, str | None]) -> Path:
    """Of files; None for a symlink to /etc."""
    with tarfile.open(file, mode="w") as made:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc"
            member.size = len(content or "")
            made.addfile(member, io.BytesIO((content or "").encode()))
    return file


def test_what_changed_is_written_and_keeps_its_mode(project: Path, tmp_path: Path) -> None:
    changed = archive(tmp_path / "a.tar", ("app/main.sh", "new"), ("deep/er/x", "y"))
    assert put_back(changed, project) == ["app/main.sh", "deep/er/x"]
    assert (project / "app/main.sh").read_text() == "new"
    assert (project / "app/main.sh").stat().st_mode & 0o7777 == 0o751
    assert (project / "second").read_text() == "echo\n", "the other name is another file now"
    assert (project / "deep/er/x").read_text() == "y"


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "app/../../x", "a//b", "./x", ".git/hooks/post-checkout", "out/x", "second/x", ""]
)
def test_nothing_is_written_elsewhere(project: Path, tmp_path: Path, name: str) -> None:
    (project / "out").symlink_to(tmp_path)
    with pytest.raises(EngineError, match="which is not a file of the project"):
        put_back(archive(tmp_path / "a.tar", (name, "evil")), project)
    assert not (tmp_path / "x").exists()


def test_only_files_come_back(project: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="which is not a file of the project"):
        put_back(archive(tmp_path / "a.tar", ("link", None)), project)


@given(st.binary(min_size=1, max_size=2000))
def test_a_broken_archive_is_an_error(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file, pytest.raises(EngineError):
        Path(file.name).write_bytes(content)
        put_back(Path(file.name), Path("/nonexistent"))


# -- in the container


def test_the_launcher_packs_what_changed_and_passes_the_status_on(project: Path, tmp_path: Path) -> None:
    """As in a container, but for where it lies, and with a klock that changes files."""
    folder = tmp_path / "klock"
    (folder / "packages/klock").mkdir(parents=True)
    (folder / "packages/klock/__init__.py").touch()
    (folder / "packages/klock/__main__.py").write_text(
        "import os, pathlib, sys\n"
        "pathlib.Path('kimage.lock').write_text(os.environ['SECRET'])\n"
        "pathlib.Path('app/other').touch()\n"
        "os.makedirs('.git/hooks'); pathlib.Path('.git/hooks/planted.lock').touch()\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    asked = {
        "arguments": ["7"],
        "folder": str(project),
        "project": str(project),
        "variables": {"SECRET": "s3cret"},
        "wanted": ["*.lock"],
    }
    (folder / "run.json").write_text(json.dumps(asked))
    script = Path(launcher_script.__file__).read_text().replace('FOLDER = "/klock"', f"FOLDER = {str(folder)!r}")
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(folder / "packages")},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 7
    assert not (folder / "run.json").exists()
    with tarfile.open(folder / "changed.tar") as changed:
        assert changed.getnames() == ["kimage.lock"]


def test_archives_end_where_they_end() -> None:
    """podman takes what follows, which tarfile fills up a record with, for an error, if its reader is quick."""
    assert len(archive_of([("/a/b", b"x")])) == 3 * 512 + 1024


def test_a_klock_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("klock.elsewhere.own_files._KLOCK", "klock-that-nobody-has")
    with pytest.raises(EngineError, match="klock is not installed as a package here"):
        distributions()


# -- where there is no Linux


ELSEWHERE = """
import os, sys, urllib.request  # which needs a module of that system's
for name in ("pipe2", "sched_getaffinity", "memfd_create", "O_PATH", "setns", "unshare", "getxattr", "listxattr",
             "setxattr", "copy_file_range", "splice", "eventfd", "getrandom", "pidfd_open", "posix_fadvise"):
    if hasattr(os, name):
        delattr(os, name)
sys.platform = "darwin"
"""
"""As far as a Linux can be another system."""


def run_elsewhere(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "KLOCK_WORKSHOP"}
    return subprocess.run(
        [sys.executable, "-c", ELSEWHERE + script],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_linux_the_way_out_is_said() -> None:
    script = "sys.argv = ['klock', 'lock']\nfrom klock.entry import main\nmain()"
    done = run_elsewhere(script)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == "error: klock lock needs Linux, and this machine is darwin"
    assert "KLOCK_WORKSHOP=docker" in done.stderr


def test_what_talks_to_an_engine_needs_no_linux() -> None:
    script = (
        "import klock.elsewhere.command\nfrom klock.places.containers.attached import signals_noted\n"
        "with signals_noted() as signals: print(type(signals).__name__)"
    )
    done = run_elsewhere(script)
    assert (done.returncode, done.stdout) == (0, "int\n"), done.stderr


def test_an_engine_that_does_not_answer_is_said_there(tmp_path: Path) -> None:
    script = "sys.argv = ['klock', 'lock']\nfrom klock.entry import main\nmain()"
    url = f"unix://{tmp_path}/none.sock"
    done = run_elsewhere(script, KLOCK_WORKSHOP="docker", DOCKER_HOST=url)
    assert (done.returncode, f"docker does not answer at {url}" in done.stderr) == (2, True), done.stderr


def test_an_owner_is_known_without_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    owner = owners.this_process()
    assert owners.may_be_alive(owner, container_runs=False)
    ended = subprocess.Popen(["true"])
    ended.wait()
    machine = owner.partition(" ")[0]
    assert not owners.may_be_alive(f"{machine} {ended.pid} ?", container_runs=True)
    assert owners.may_be_alive(f"machine:another {ended.pid} ?", container_runs=True)


def test_logins_go_along_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of docker and of podman, each where klock looks for it there."""
    (tmp_path / "containers").mkdir()
    for name, content in {"config.json": b"docker's", "containers/auth.json": b"podman's", "netrc": b"pip's"}.items():
        (tmp_path / name).write_bytes(content)
    for name, value in {"DOCKER_CONFIG": "", "XDG_RUNTIME_DIR": "", "NETRC": "netrc"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    files = dict(_files(["lock"], tmp_path, tmp_path, None))
    sent = json.loads(cast("bytes", files[f"{FOLDER}/run.json"]))["variables"]
    assert files[sent["DOCKER_CONFIG"] + "/config.json"] == b"docker's"
    assert files[sent["REGISTRY_AUTH_FILE"]] == b"podman's"
    assert files[sent["NETRC"]] == b"pip's"
