"""The engines podman and docker, the real ones: what they hold is what was locked, and their own programs start it.

Most tests are about a small base. Those that name no engine in `on` are the contract that each of them keeps.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import IO

import pytest

from tests.integration.container_engines import ContainerHost, docker_host, on, podman_host
from tests.integration.registry_server import Registry
from tests.integration.small_base import SMALL_BASE, Member, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

PASSWORD = "correct horse"
DEBIAN = """\
import os

import klock as kt

image = (
    kt.Image()
    .from_docker("debian:bookworm")
    .set_env_vars({"APP": "/srv/app", "PASSWORD": os.environ["APP_PASSWORD"]})
    .rsync("./app", "/srv/app", contents=True)
    .run_bash('''
        cd /srv && ln app/main.py hard && ln -s nowhere soft && mkfifo pipe && chmod u+s /usr/bin/env
        rm /etc/issue && rm -r /etc/skel && mkdir /etc/skel && echo new > /etc/skel/new
        useradd --create-home bob && chown bob:bob app/main.py && chmod 1777 /opt
        touch 'odd ünïcode  name' && python3 -c 'import os; os.setxattr("/srv/hard", "security.capability",
            bytes.fromhex("0100000200040000000000000000000000000000"))'
    ''')
)
"""
IMAGE = f"""\
import os

import klock as kt

image = (
    kt.Image()
    .from_docker("{SMALL_BASE}")
    .set_env_vars({{"APP": "/srv/app", "PASSWORD": os.environ["APP_PASSWORD"]}})
    .rsync("./app", "/srv/app", contents=True)
    .run_bash('''
        cd /srv && ln -s srv/app /link && ln app/main.sh hard && ln -s nowhere soft && mkfifo pipe
        chmod u+s /usr/bin/tool
        rm /etc/issue && rm -r /etc/skel && mkdir /etc/skel && echo new > /etc/skel/new
        echo bob:x:1001:1001::/home/bob:/bin/sh >> /etc/passwd && chown 1001:1001 app/main.sh && chmod 1777 /opt
        touch 'odd ünïcode  name'
    ''')
)
"""
BASE: Sequence[Member] = [
    ("0644:0:etc/issue", "welcome\n"),
    ("etc/skel/", None),
    ("0644:0:etc/skel/old", "old\n"),
    ("opt/", None),
    ("usr/bin/tool", "#!/bin/sh\n"),
]


@pytest.fixture(
    scope="module", params=[pytest.param("podman", marks=pytest.mark.soak), "podman, unprivileged", "docker"]
)
def host(request: pytest.FixtureRequest) -> Iterator[ContainerHost]:
    account = request.getfixturevalue("unprivileged" if "unprivileged" in request.param else "root")
    with docker_host(account) if request.param == "docker" else podman_host(account) as made:
        yield replace(made, variables={**made.variables, "APP_PASSWORD": PASSWORD})


@pytest.fixture(scope="module")
def project(host: ContainerHost) -> Path:
    """A project, locked, and synced to the engine."""
    folder = host.account.make_folder("project")
    (folder / "app").mkdir()
    (folder / "app/main.sh").write_text("echo $APP $PWD $(id -u)\n")
    (folder / "kimage.py").write_text(IMAGE)
    write_small_base(folder / "layout", BASE, WorkingDir="/work")
    (folder / "pyproject.toml").touch()
    return synced(host, folder)


def synced(host: ContainerHost, folder: Path) -> Path:
    succeeded(host.account.klock("lock", cwd=folder, env=host.variables))
    done = host.klock("sync", cwd=folder)
    assert f"environment synced on {host.engine}: linux/amd64/cpu, sha256:" in succeeded(done).stderr
    return folder


def succeeded(done: CompletedProcess[str]) -> CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def tag(host: ContainerHost, project: str = "project") -> str:
    """The name of the only image in the engine's storage that was made of a project in such a folder."""
    images = host.native("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    (found,) = (image for image in images if f"/klock/{project}-" in image)
    return found


def processes(*command: str) -> list[int]:
    """The machine's processes with exactly this command line."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if line.read_text().split("\0")[:-1] == [*command]:
                found.append(int(line.parent.name))
    return found


def run(host: ContainerHost, project: Path, *command: str) -> CompletedProcess[str]:
    return host.klock("run", "--", *command, cwd=project)


def test_it_holds_what_was_locked(host: ContainerHost, project: Path) -> None:
    done = succeeded(host.klock("check", "--env", cwd=project))
    assert done.stderr == "image, lockfile and environment agree\n"


@pytest.mark.soak
@on("podman, unprivileged")
def test_a_whole_debian_with_all_that_a_layer_can_hold(host: ContainerHost, debian_registry: Registry) -> None:
    folder = host.account.make_folder("debian")
    (folder / "app").mkdir()
    (folder / "app/main.py").write_text("import os; print(os.environ['APP'], os.getcwd(), os.getuid())\n")
    (folder / "kimage.py").write_text(DEBIAN)
    (folder / "pyproject.toml").write_text(f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n')
    synced(host, folder)
    done = succeeded(host.klock("check", "--env", cwd=folder))
    assert done.stderr == "image, lockfile and environment agree\n"
    assert succeeded(run(host, folder, "python3", "/srv/app/main.py")).stdout == "/srv/app /work 0\n"
    host.native("rmi", tag(host, "debian"))


def test_a_second_sync_changes_nothing(host: ContainerHost, project: Path) -> None:
    before = host.native("images", "--quiet", "--no-trunc")
    done = succeeded(host.klock("sync", cwd=project))
    assert done.stderr.startswith(f"environment unchanged on {host.engine}: ")
    assert host.native("images", "--quiet", "--no-trunc") == before


@on("docker")
def test_the_engine_that_has_it_need_not_be_named(host: ContainerHost, project: Path) -> None:
    done = succeeded(host.account.klock("sync", cwd=project, env=host.variables))
    found = f"engine {host.engine}: it has this environment\n"
    assert done.stderr.startswith(f"{found}environment unchanged on {host.engine}: ")
    done = succeeded(host.account.klock("check", "--env", cwd=project, env=host.variables))
    assert done.stderr == f"{found}image, lockfile and environment agree\n"

    named = host.account.klock("check", "--env", cwd=project, env={**host.variables, "KLOCK_ENGINE": "sandbox"})
    assert named.returncode == 1
    assert "there is no environment yet" in named.stdout
    unknown = host.account.klock("check", "--env", cwd=project, env={**host.variables, "KLOCK_ENGINE": "vm"})
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: KLOCK_ENGINE is 'vm'\n\nhint: the engines are sandbox, podman,")


def test_commands_run_in_it(host: ContainerHost, project: Path) -> None:
    assert succeeded(run(host, project, "sh", "/srv/app/main.sh")).stdout == "/srv/app /work 0\n"
    assert run(host, project, "sh", "-c", "echo out; echo err >&2; exit 7").returncode == 7
    secret = succeeded(run(host, project, "sh", "-c", 'echo "$PASSWORD" | rev'))
    assert secret.stdout == "esroh tcerroc\n"
    assert host.containers() == []


def test_a_command_begins_when_its_services_are_ready(host: ContainerHost) -> None:
    folder = host.account.make_folder("ready")
    service = "(sleep 0.3; echo up > /ready; exec sleep 1000) &"
    failing = "echo one; sleep 1; echo boom >&2; exit 3 &"
    image = f'image = kt.Image().from_docker("{SMALL_BASE}").run_bash("{service}", wait_for="test -s /ready")\n'
    image += f'image.run_bash("{failing}")\n'
    (folder / "kimage.py").write_text(f"import klock as kt\n\n{image}")
    write_small_base(folder / "layout")
    (folder / "pyproject.toml").touch()
    host.account.give(folder)
    before = set(host.native("images", "--quiet", "--no-trunc").split())
    synced(host, folder)
    try:
        done = succeeded(host.klock("run", "--", "sh", "-c", "cat /ready; sleep 2", cwd=folder))
        assert done.stdout == "up\n"
        # That one failed is said while the command runs, and what it printed is kept.
        assert "klock: the service 'echo one; sleep 1; echo boom >&2; exit 3' ended with status 3; " in done.stderr
        printed = succeeded(host.account.klock("logs", "--services", cwd=folder)).stdout
        assert printed == f"==> services of linux/amd64/cpu on {host.engine} <==\none\nboom\n"
    finally:
        host.native("rmi", "--force", *(set(host.native("images", "--quiet", "--no-trunc").split()) - before))


@on("docker")
def test_without_a_network(host: ContainerHost, project: Path) -> None:
    def interfaces(*options: str) -> set[str]:
        done = succeeded(host.klock("run", *options, "--", "cat", "/proc/net/dev", cwd=project))
        return {line.partition(":")[0].strip() for line in done.stdout.splitlines() if ":" in line}

    assert interfaces("--network", "none") == {"lo"}
    assert interfaces() == {name for _, name in socket.if_nameindex()}


def test_memory_is_as_large_as_in_the_sandbox_or_as_asked(host: ContainerHost, project: Path) -> None:
    """Engines alone would give 64 MB, with which PyTorch's loaders die."""
    say = ("busybox", "df", "-k", "/dev/shm")
    usual = int(succeeded(run(host, project, *say)).stdout.split()[-5])
    assert abs(usual * 1024 - os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2) < 1 << 20
    asked = succeeded(host.klock("run", "--shm-size", "3m", "--", *say, cwd=project))
    assert asked.stdout.split()[-5] == "3072"


@on("docker")
def test_a_command_shares_processes_and_memory_with_the_machine(host: ContainerHost, project: Path) -> None:
    # podman mounts the machine's message queues, and does not start where there is no place for them.
    names = ["pid"] if host.engine == "podman" and not Path("/dev/mqueue").is_dir() else ["pid", "ipc"]
    say = "; ".join(f"readlink /proc/self/ns/{name}" for name in names)
    # Without a cgroup of its own podman does not find what a command leaves running.
    leave = "sleep 6177 &" if host.account.uid == 0 else ""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as shown:
        Path(shown.name).chmod(0o666)
        say += f"; [ -w {shown.name} ] && echo shared; {leave} true"
        options = [f"--host-{name}" for name in names]
        done = succeeded(host.klock("run", *options, "--", "sh", "-c", say, cwd=project))
    own = [str(Path(f"/proc/self/ns/{name}").readlink()) for name in names]
    assert done.stdout.split() == [*own, *(["shared"] if "ipc" in names else [])]
    assert processes("sleep", "6177") == []


@on("docker")
def test_a_device_by_its_path(host: ContainerHost, project: Path) -> None:
    say = "head -c 2 /dev/klock/zero | od -An -tx1"
    done = succeeded(host.klock("run", "--device", "/dev/zero:/dev/klock/zero", "--", "sh", "-c", say, cwd=project))
    assert done.stdout.split() == ["00", "00"]


@on("docker")
def test_a_working_directory(host: ContainerHost, project: Path) -> None:
    def working_in(path: str) -> CompletedProcess[str]:
        mount = f"{project}:/mnt/project:ro"
        return host.klock("run", "--mount", mount, "--workdir", path, "--", "pwd", cwd=project)

    for path in ("/srv/app", "/link", "/mnt/project/app", "/proc/1", "/"):
        assert succeeded(working_in(path)).stdout.rstrip("\n") in (path, "/srv/app")
    for path in ("/nosuch", "/etc/passwd", "/mnt/project/nosuch"):
        done = working_in(path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: the environment has no working directory {path}\n\nhint: make it")
    assert working_in("nosuch").stderr.startswith("error: the environment has no working directory /work/nosuch")
    assert host.containers() == []


@on("docker")
def test_a_working_directory_that_the_base_lacks_is_no_drift(host: ContainerHost, project: Path) -> None:
    bare = host.account.make_folder("bare")
    (bare / "kimage.py").write_text(f'import klock as kt\nimage = kt.Image().from_docker("{SMALL_BASE}")\n')
    (bare / "layout").symlink_to(project / "layout")
    (bare / "pyproject.toml").touch()
    host.account.give(bare)
    succeeded(host.account.klock("lock", cwd=bare, env=host.variables))
    assert succeeded(host.klock("run", "--", "pwd", cwd=bare)).stdout == "/work\n"
    assert succeeded(host.klock("check", "--env", cwd=bare)).stdout == ""
    container = host.native("create", "--network=none", tag(host, "bare"), "sh", "-c", "echo 1 > one").strip()
    for command, found in ((None, ""), ("start", "drift-extra: /work/one is not in the lockfile\n")):
        if command:
            host.native(command, container)
            host.native("wait", container)
        assert host.klock("check", "--container", container, cwd=bare).stdout == found
    host.native("rm", container)
    host.native("rmi", tag(host, "bare"))


PROGRAMS = {
    "nosuch": (127, "klock: no such program: nosuch\n"),
    "/srv/nosuch": (127, "klock: no such program: /srv/nosuch\n"),
    "/srv/app/main.sh": (126, "klock: not an executable file: /srv/app/main.sh\n"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_not_there(host: ContainerHost, project: Path, program: str) -> None:
    done = run(host, project, program)
    assert (done.returncode, done.stderr) == PROGRAMS[program]
    assert host.containers() == []


@on("docker")
def test_a_container_that_cannot_be_started_is_not_the_programs_fault(host: ContainerHost, project: Path) -> None:
    mount = f"{project / 'app'}:/etc/passwd"  # a folder over a file
    done = host.klock("run", "--mount", mount, "--", "true", cwd=project)
    assert done.returncode == 2
    if host.engine == "podman":
        assert done.stderr.startswith("error: podman could not start a container: ")
        assert "\nhint: see whether podman itself can: podman run --rm localhost/klock/" in done.stderr
    else:
        # It mounts before it starts.
        assert done.stderr.startswith("error: docker refused: mount ")
    assert host.containers() == []


def test_the_engines_own_program_starts_it(host: ContainerHost, project: Path) -> None:
    options = ("--rm", "--network=none")
    assert host.native("run", *options, tag(host), "sh", "/srv/app/main.sh") == "/srv/app /work 0\n"
    printed = host.native("run", *options, tag(host), "stat", "-c", "%U %a %h", "/srv/hard")
    assert printed.startswith("bob 644 2")


def test_the_image_says_what_it_is_and_holds_no_secret(host: ContainerHost, project: Path) -> None:
    (image,) = json.loads(host.native("image", "inspect", tag(host)))
    labels = image["Config"]["Labels"]
    lock = (project / "kimage.lock").read_bytes()
    assert labels["org.klock.lockfile"] == "sha256:" + hashlib.sha256(lock).hexdigest()
    assert labels["org.klock.fingerprint"].startswith("sha256:")
    assert labels["org.klock.target"] == "linux/amd64/cpu"
    assert PASSWORD not in json.dumps(image)
    assert "APP=/srv/app" in image["Config"]["Env"]


def change_image(host: ContainerHost, *changes: str, script: str = "true") -> str:
    """Gives the environment's name to an image that somebody made of it, and returns the name."""
    name = tag(host)
    container = host.native("create", "--network=none", name, "sh", "-c", script).strip()
    host.native("start", "--attach", container)
    options = [option for change in changes for option in ("--change", change)]
    host.native("commit", *options, container, name)
    host.native("rm", container)
    return name


def test_an_image_that_somebody_changed_has_drifted_and_is_put_right(host: ContainerHost, project: Path) -> None:
    change_image(host, script="echo x >> /etc/passwd; rm /srv/soft")
    done = host.klock("check", "--env", cwd=project)
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == [
        "drift-modified: step 3 (kimage.py:10): /etc/passwd differs: content",
        "drift-missing: step 3 (kimage.py:10): /srv/soft is missing",
    ]
    assert "hint" not in done.stderr
    succeeded(host.klock("sync", cwd=project))
    assert host.klock("check", "--env", cwd=project).returncode == 0


NOT_OURS = "drift-not-synced: the image {tag} is not one that klock synced: run `klock sync`"
CHANGES: dict[str, dict[str, str]] = {
    "how it starts": {
        "ENV APP=/elsewhere": "drift-variable: variable APP differs",
        "ENV LD_PRELOAD=/evil.so": (
            "drift-variable: variable LD_PRELOAD is set in the environment and not in the lockfile"
        ),
        'ENTRYPOINT ["/bin/echo","EVIL"]': (
            'drift-setting: the image\'s entrypoint is ["/bin/echo", "EVIL"], not none'
        ),
        'CMD ["/bin/echo"]': 'drift-setting: the image\'s command is ["/bin/echo"], not ["/bin/sh"]',
        "USER bob": "drift-setting: the image's user is bob, not root",
        "WORKDIR /srv": "drift-setting: the image's working directory is /srv, not /work",
    },
    "the label of the variables": {"LABEL org.klock.variables=nonsense": NOT_OURS},
    "the label of the fingerprint": {
        "LABEL org.klock.fingerprint=sha256:aaaa": (
            "drift-not-synced: the environment was synced from another lockfile: run `klock sync`"
        )
    },
    "the label of the base": {"LABEL org.klock.base=sha256:aaaa": ""},
}
CHANGED = [
    pytest.param(case, marks=on("podman", "docker") if case == "how it starts" else on("docker")) for case in CHANGES
]


@pytest.mark.parametrize("case", CHANGED)
def test_an_image_that_was_made_of_the_synced_one_is_found_and_never_run(
    host: ContainerHost, project: Path, case: str
) -> None:
    name = change_image(host, *CHANGES[case])
    try:
        done = host.klock("check", "--env", cwd=project)
        assert done.returncode == 1, done.stderr
        for finding in CHANGES[case].values():
            assert finding.format(tag=name) in done.stdout
        for options in ((), ("--no-sync",)):
            refused = host.klock("run", *options, "--", "ls", "/srv", cwd=project)
            assert (refused.returncode, refused.stdout) == (2, "")
            assert refused.stderr.startswith(f"error: the image {name} is not the one that was synced\n")
            assert "\nhint: run `klock sync`" in refused.stderr
    finally:
        succeeded(host.klock("sync", cwd=project))
    assert succeeded(host.klock("check", "--env", cwd=project)).stdout == ""


@on("docker")
def test_an_image_of_others_under_the_name_is_no_environment(host: ContainerHost, project: Path) -> None:
    """It has none of klock's labels."""
    name = tag(host)
    container = host.native("create", "--network=none", name, "true").strip()
    export = host.account.make_folder("export") / "root.tar"
    host.native("export", "--output", str(export), container)
    host.native("rm", container)
    host.native("import", str(export), name)
    done = host.klock("check", "--env", cwd=project)
    assert (done.returncode, done.stdout) == (1, NOT_OURS.format(tag=name) + "\n")
    assert host.klock("run", "--", "true", cwd=project).returncode == 2
    succeeded(host.klock("sync", cwd=project))
    assert host.klock("check", "--env", cwd=project).returncode == 0


@on("podman, unprivileged")
def test_the_variables_of_a_container_are_compared(host: ContainerHost, project: Path) -> None:
    options = ("--env", "APP=/bad", "--env", "MORE=1", "--env", "PASSWORD=given")
    container = host.native("run", "--detach", "--network=none", *options, tag(host), "sleep", "300").strip()
    try:
        done = host.klock("check", "--container", container, cwd=project)
        assert (done.returncode, done.stdout) == (1, "drift-variable: variable APP differs\n")
        assert "hint" not in done.stderr
    finally:
        host.native("rm", "--force", container)


@on("podman, unprivileged")
def test_a_container_that_somebody_started_is_compared(host: ContainerHost, project: Path) -> None:
    script = "echo x > /srv/new; exec sleep 300"
    container = host.native("run", "--detach", "--network=none", tag(host), "sh", "-c", script).strip()
    try:
        deadline = time.monotonic() + 30
        while (done := host.klock("check", "--container", container, cwd=project)).returncode == 0:
            assert time.monotonic() < deadline
        assert done.stdout == "drift-extra: /srv/new is not in the lockfile\n"
        assert done.stderr.endswith("1 finding\n") and "hint" not in done.stderr
        lost = host.klock("check", "--container", "nonesuch", cwd=project)
        assert lost.returncode == 2 and "nonesuch" in lost.stderr
    finally:
        host.native("rm", "--force", container)


def test_a_signal_reaches_the_command_and_nothing_stays(host: ContainerHost, project: Path) -> None:
    script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    process = start(host, project, "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert (out, process.returncode) == (b"got it\n", 5)
    assert host.containers() == []


@pytest.fixture(scope="module")
def much(host: ContainerHost) -> Path:
    """A file that no pipe between klock and a command can hold."""
    path = host.account.make_folder("much") / "input"
    path.write_bytes(os.urandom(1 << 20) * 20)
    host.account.give(path.parent)
    return path


def test_much_goes_in_while_much_comes_out(host: ContainerHost, project: Path, much: Path) -> None:
    with much.open("rb") as stdin:
        process = start(host, project, "cat", stdin=stdin)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert hashlib.sha256(out).digest() == hashlib.sha256(much.read_bytes()).digest()


@on("docker")
@pytest.mark.parametrize("command", [("head", "-c", "3"), ("true",)], ids=lambda command: command[0])
def test_a_command_that_does_not_read_to_the_end(
    host: ContainerHost,
    project: Path,
    much: Path,
    command: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
) -> None:
    for _ in range(5):
        with much.open("rb") as stdin:
            process = start(host, project, *command, stdin=stdin)
            out, _ = process.communicate(timeout=60)
        # podman 4.3 gives up on a reset by conmon, which has input that nobody read. It may lose the output before
        # that, or write its own error where output is expected, which klock then tells.
        said = capfd.readouterr().err
        if host.engine != "podman" or not any(
            words in said for words in ("Error: read unixpacket", "closed the connection")
        ):
            break
    assert (out, process.returncode) == (much.read_bytes()[:3] if command[0] == "head" else b"", 0)
    assert host.containers() == []


@on("docker")
def test_a_signal_reaches_a_command_that_reads_nothing(host: ContainerHost, project: Path, much: Path) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with much.open("rb") as stdin:
        process = start(host, project, "sh", "-c", script, stdin=stdin)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        settled(lambda: os.lseek(stdin.fileno(), 0, os.SEEK_CUR))  # klock's offset as well
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 5
    assert host.containers() == []


@on("docker")
def test_output_that_nobody_takes_leaves_no_container(host: ContainerHost, project: Path) -> None:
    process = start(host, project, "yes")
    assert process.stdout is not None
    assert process.stdout.readline() == b"y\n"
    descriptor = process.stdout.fileno()
    settled(lambda: int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder))
    process.stdout.close()
    assert process.wait(30) != 0
    assert host.containers() == []


@on("docker")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_as_good_as_dev_null(host: ContainerHost, project: Path, closed: str) -> None:
    script = f'exec "$@" {closed}'
    klock = (str(host.account.python), "-m", "klock", "run", "--engine", host.engine)
    argv = ["sh", "-c", script, "sh", *klock, "--", "sh", "-c", "cat; echo out; echo err >&2"]
    done = succeeded(host.account.run(argv, cwd=project, env=host.variables))
    assert done.stdout == ("" if closed == ">&-" else "out\n")
    assert done.stderr == ("" if closed == "2>&-" else "err\n")


def test_ctrl_c_leaves_no_container(host: ContainerHost, project: Path) -> None:
    process = start(host, project, "sh", "-c", "echo ready; sleep 60")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert host.containers() == []


@on("podman, unprivileged")
def test_a_check_that_is_ended_leaves_no_container(host: ContainerHost, project: Path) -> None:
    process = start(host, project, verb=("check", "--env"))
    while process.poll() is None and not host.containers():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    # It may have been done before the signal came.
    assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM, 0)
    assert host.containers() == []


@on("docker")
def test_bytes_that_the_engine_would_change_are_refused(host: ContainerHost, project: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    for arguments in (["--", "ls", name], ["--env", f"NAME={name}", "--", "true"], ["--workdir", f"/{name}", "true"]):
        done = host.klock("run", *arguments, cwd=project)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {host.engine} accepts only UTF-8 in commands and variables, not '")
        assert "caf\\udce9'\n\nhint: use the sandbox: --engine sandbox" in done.stderr


@on("podman, unprivileged")
def test_a_path_that_the_engine_cannot_name(host: ContainerHost, project: Path) -> None:
    folder = host.account.make_folder("a:b")
    library = {"hostPath": str(folder), "containerPath": "/m"}
    specification = {
        "cdiVersion": "0.6.0",
        "kind": "klock.test/colon",
        "devices": [{"name": "one", "containerEdits": {"mounts": [library]}}],
    }
    specifications = host.account.make_folder("cdi")
    (specifications / "cdi.json").write_text(json.dumps(specification))
    known = replace(host, variables={**host.variables, "KLOCK_CDI_SPEC_DIRS": str(specifications)})
    done = known.klock("run", "--gpus", "klock.test/colon=one", "true", cwd=project)
    assert done.returncode == 2 and f"cannot mount {folder}: it does not support colons in paths" in done.stderr


def test_what_a_killed_klock_leaves_is_pruned(host: ContainerHost, project: Path) -> None:
    process = start(host, project, "sh", "-c", "echo ready; exec sleep 300")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate(timeout=30)
    assert len(host.containers()) == 1
    done = host.account.klock("cache", "prune", cwd=project, env=host.variables)
    assert f"{host.engine}: removed 1 leftover\n" in succeeded(done).stderr
    assert host.containers() == []
    assert succeeded(host.klock("sync", cwd=project)).stderr.startswith("environment unchanged")


def test_a_terminal_is_the_commands_own(host: ContainerHost, project: Path) -> None:
    ours, theirs = pty.openpty()
    process = start(host, project, "sh", "-c", 'tty; read line; echo "got $line"; exit 3', stdio=theirs)
    os.close(theirs)
    said = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                said += os.read(ours, 1000)
            except OSError:  # nobody has the other end any more
                break
            if said.count(b"\n") == 1 and b"abc" not in said:
                os.write(ours, b"abc\r")
    assert process.wait(30) == 3, said
    os.close(ours)
    assert said.startswith(b"/dev/") and b"got abc" in said
    assert host.containers() == []


@on("podman, unprivileged", "docker")
def test_a_changed_image_takes_the_name_and_the_old_one_goes(host: ContainerHost, project: Path) -> None:
    before = host.native("images", "--quiet", "--no-trunc").split()
    text = (project / "kimage.py").read_text()
    (project / "kimage.py").write_text(text.replace(".run_bash(", ".set_env_vars({'MORE': '1'}).run_bash("))
    container = host.native("run", "--detach", "--network=none", tag(host), "sleep", "300").strip()
    succeeded(host.account.klock("lock", cwd=project, env=host.variables))
    try:
        done = host.klock("check", "--env", cwd=project)
        assert done.stdout == "drift-not-synced: the environment was synced from another lockfile: run `klock sync`\n"
        assert "hint" not in done.stderr
        done = host.klock("check", "--container", container, cwd=project)
        assert done.stdout.startswith(f"drift-not-synced: the container {container} was made from another lockfile")
    finally:
        host.native("rm", "--force", container)
    succeeded(host.klock("sync", cwd=project))
    after = host.native("images", "--quiet", "--no-trunc").split()
    assert len(after) == len(before) == 1 and after != before
    assert run(host, project, "sh", "-c", "echo $MORE").stdout == "1\n"


def settled(number: Callable[[], int]) -> None:
    """Waits until a number that grows has stopped: whoever makes it grow has to wait for somebody."""
    last = 0
    while (now := number()) == 0 or now != last:
        last = now
        time.sleep(0.1)


def start(
    host: ContainerHost,
    project: Path,
    *command: str,
    verb: tuple[str, ...] = ("run",),
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    stdio: int | None = None,
) -> subprocess.Popen[bytes]:
    account: Account = host.account
    environment = account.environment | host.variables
    return subprocess.Popen(
        [account.python, "-m", "klock", *verb, "--engine", host.engine, *(("--", *command) if command else ())],
        cwd=project,
        env=environment,
        stdin=stdin if stdio is None else stdio,
        stdout=subprocess.PIPE if stdio is None else stdio,
        stderr=None if stdio is None else stdio,
        start_new_session=True,
        **account.identity,
    )


ROOT_DIR = """
import os
from klock.places.containers.connection import connect
from klock.errors import EngineError
try:
    print(connect("docker", os.environ).client.info()["DockerRootDir"])
except EngineError as error:
    print(error)
"""


def test_docker_is_where_its_context_says(root: Account) -> None:
    folder = root.make_folder("contexts")
    config = {"DOCKER_CONFIG": str(folder)}

    def docker_context(*words: str) -> None:
        succeeded(root.run(["docker", "context", *words], cwd=folder, env=config))

    def found(**variables: str) -> str:
        return root.run_python(ROOT_DIR, cwd=folder, env=config | variables).strip()

    with docker_host(root) as host:
        url = host.variables["DOCKER_HOST"]
        docker_context("create", "mine", "--docker", f"host={url}")
        docker_context("create", "far", "--docker", "host=ssh://me@far")
        expected = host.native("info", "--format", "{{.DockerRootDir}}").strip()
        assert found(DOCKER_CONTEXT="mine") == expected
        docker_context("use", "mine")
        assert found() == expected
        assert found(DOCKER_CONTEXT="far", PATH="/none") == "ssh is not installed"
        assert found(DOCKER_CONTEXT="far", DOCKER_HOST=url) == expected
        assert found(DOCKER_CONTEXT="none") == "there is no docker context none"
        assert found(DOCKER_HOST=url, DOCKER_TLS_VERIFY="1") == expected, "TLS is for addresses of TCP"
