"""Environments of the sandbox engine: commands on the user's own terminal, and what stays of what they do."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import klock
from klock.errors import EngineError, StoreError
from klock.layers.manifest import Manifest
from klock.places.records import parts_of_all
from klock.places.sandbox import SandboxPlace
from klock.places.sandbox.writable import SandboxEnvironment
from klock.workshop import SandboxWorkshop
from tests.integration.sandbox_fixtures import BASE, command, debian_engine, programs_tar, shell

__all__ = ["debian_engine", "programs_tar"]

pytestmark = pytest.mark.integration

EXECUTE = """
import sys
from pathlib import Path
from klock.places.sandbox import SandboxPlace
from klock.workshop.protocol import Command, Network
from klock.workshop import SandboxWorkshop
from klock.store import Store

variables = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1"}
def command(*argv):
    return Command(argv=argv, environment=variables, network=Network.NONE)
root, name, service, *argv = sys.argv[1:]
store = Store(Path(root))
environment = SandboxPlace(SandboxWorkshop(store), store).environment(name)
services = [command("sh", "-c", service)] if service else []
sys.exit(environment.execute(command(*argv), services=services))
"""


def environment_of(workshop: SandboxWorkshop, name: str) -> SandboxEnvironment:
    return SandboxPlace(workshop, workshop._store).environment(name)


@pytest.fixture
def environment(debian_engine: SandboxWorkshop, request: pytest.FixtureRequest) -> SandboxEnvironment:
    """A fresh environment of the base alone."""
    environment = environment_of(debian_engine, f"test-{os.getpid()}-{abs(hash(request.node.name))}")
    environment.replace([], base=BASE, record={"made": "for a test"})
    return environment


def klock_run(environment: SandboxEnvironment, *argv: str, service: str = "") -> list[str]:
    return [sys.executable, "-c", EXECUTE, str(environment._store.root), environment._name, service, *argv]


def start(
    environment: SandboxEnvironment, *argv: str, service: str = "", own_session: bool = False
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        klock_run(environment, *argv, service=service),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        start_new_session=own_session,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(klock.__file__).parents[1])},
    )


def run(environment: SandboxEnvironment, script: str, *, service: str = "", stdin: str = "") -> tuple[int, str, str]:
    process = start(environment, "sh", "-c", script, service=service)
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, out, err


def changes(engine: SandboxWorkshop, environment: SandboxEnvironment) -> list[str]:
    """The paths in which the environment differs from its base."""
    base = set(engine.base_manifest(BASE).items())
    return sorted({path for path, _ in set(environment.observe().items()) ^ base})


def test_an_environment_that_does_not_exist(debian_engine: SandboxWorkshop) -> None:
    missing = environment_of(debian_engine, "missing")
    assert missing.record is None
    for use in (missing.observe, lambda: missing.execute(command("true"))):
        with pytest.raises(EngineError, match=r"^there is no environment 'missing' yet$"):
            use()
    with pytest.raises(StoreError):
        missing.replace(["sha256:" + "0" * 64], base=BASE, record={})
    assert missing.record is None


def test_the_command_has_this_process_s_streams_and_status(environment: SandboxEnvironment) -> None:
    status, out, err = run(environment, "read line; echo got $line; echo problem >&2; exit 7", stdin="hello\n")
    assert (status, out, err) == (7, "got hello\n", "problem\n")
    assert run(environment, "kill -SEGV $$") == (128 + signal.SIGSEGV, "", "")


def test_a_program_that_is_not_there(environment: SandboxEnvironment) -> None:
    process = start(environment, "nosuch")
    assert process.communicate(timeout=60) == ("", "klock: no such program: nosuch\n")
    assert process.returncode == 127


def test_changes_stay_until_the_environment_is_replaced(
    debian_engine: SandboxWorkshop, environment: SandboxEnvironment
) -> None:
    assert environment.record == {"made": "for a test"}
    assert changes(debian_engine, environment) == []
    assert (
        run(environment, "echo x > /opt/new; rm -r /etc/apt; chmod 700 /srv; touch /tmp/x /run/x /etc/passwd")[0] == 0
    )
    differing = changes(debian_engine, environment)
    assert {"opt/new", "etc/apt", "srv"} <= set(differing)
    assert all(path in ("opt/new", "srv") or path.startswith("etc/apt") for path in differing)
    assert run(environment, "cat /opt/new; ls /run")[1] == "x\n"
    environment.replace([], base=BASE, record={"n": 2})
    assert environment.record == {"n": 2}
    assert changes(debian_engine, environment) == []
    assert run(environment, "ls /opt")[1] == ""


DRIFT = {
    "nothing": ("true", True),
    "a temporary file": ("touch /tmp/x /run/x /var/tmp/x /var/log/apt/x", True),
    "a new file": ("touch /opt/x", False),
    "a new folder": ("mkdir /opt/x", False),
    "a new folder for a cache": ("mkdir -p /root/.cache/pip; touch /root/.cache/pip/x", False),
    "a new symlink to a folder": ("ln -s /usr /opt/x", False),
    "a symlink to another folder": ("ln -sfn /etc /bin", False),
    "a removed file": ("rm /etc/issue", False),
    "a folder made anew, empty": ("rm -r /etc/apt; mkdir /etc/apt", False),
    "another mode of a folder with nothing but logs in it": ("chmod 700 /var/log/apt; touch /var/log/apt/x", False),
    "a file made and removed": ("touch /opt/x; rm /opt/x", True),
    "another mode of the root": ("chmod 700 /", False),
    "another owner of the root": ("chown 1 /", False),
}


@pytest.mark.parametrize(("script", "clean"), DRIFT.values(), ids=DRIFT)
def test_whether_an_environment_is_clean(environment: SandboxEnvironment, script: str, clean: bool) -> None:
    assert environment.is_clean()
    assert run(environment, script)[0] == 0
    assert environment.is_clean() is clean


EVERY_WAY = """
echo x > /opt/new; echo x >> /etc/passwd; rm /etc/issue; chmod 700 /srv; chown 1 /media
rm -r /etc/skel; mkdir /etc/skel; touch /etc/skel/new          # opaque, over a folder
rm -r /etc/cron.daily; echo file > /etc/cron.daily             # a file over a folder
rm /etc/hostname; mkdir /etc/hostname; touch /etc/hostname/in  # a folder over a file
mv /usr/lib/locale /usr/lib/moved; ln -s x /opt/link; ln /opt/new /opt/again; mkfifo /opt/fifo
mkdir -p /opt/a/b/c; touch /opt/a/b/c/d; cp -a /etc/shadow /etc/copy; touch /usr/bin/env
rm -r /usr/lib/python3.11/json; mkdir -p /usr/lib/python3.11/json/deeper; touch /usr/lib/python3.11/json/decoder.py
"""


def test_what_was_written_is_found_without_reading_what_was_not(
    debian_engine: SandboxWorkshop, environment: SandboxEnvironment
) -> None:
    """`klock check --env` says what `klock check --deep` says."""
    assert not environment.changes()
    assert run(environment, EVERY_WAY)[0] == 0
    seen = debian_engine.base_manifest(BASE).apply(environment.changes())
    assert seen == environment.observe()
    assert {"opt/new", "etc/skel/new", "etc/hostname/in", "usr/lib/moved"} <= seen.keys()


def test_an_environment_shows_its_layers(debian_engine: SandboxWorkshop, environment: SandboxEnvironment) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo 1 > /opt/one; rm /etc/issue; ln /opt/one /opt/uno")
        one = workspace.snapshot()
        shell(workspace, "echo 2 > /opt/one")
        two = workspace.snapshot()
    environment.replace([one.digest, two.digest], base=BASE, record={})
    expected = debian_engine.base_manifest(BASE).apply(one.manifest).apply(two.manifest)
    assert environment.observe() == expected
    assert run(environment, "cat /opt/one /opt/uno")[1] == "2\n1\n"


def test_a_service_that_fails_says_so_while_the_command_runs(environment: SandboxEnvironment) -> None:
    status, out, err = run(environment, "sleep 2; echo done", service="echo one; echo boom >&2; exit 3")
    assert (status, out) == (0, "done\n")
    assert err == (
        "klock: the service 'echo one; echo boom >&2; exit 3' ended with status 3; `klock logs --services` has all "
        "that it printed\n  | one\n  | boom\n"
    )


def test_services_run_as_long_as_the_command(environment: SandboxEnvironment) -> None:
    service = "echo started; echo up > /run/service; exec python3 -m http.server 8000 --bind 127.0.0.1"
    script = (
        "until [ -e /run/service ]; do sleep 0.02; done; cat /run/service;"
        "until python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8000\").status)' 2>/dev/null;"
        "do sleep 0.05; done"
    )
    assert run(environment, script, service=service) == (0, "up\n200\n", "")
    assert (environment._folder / "services.log").read_text().startswith("started\n")
    assert run(environment, "cd /proc; echo [0-9]*")[1] == "1 2\n"


def started(process: subprocess.Popen[str]) -> None:
    """Waits for the command to say that it runs."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1], ids=lambda s: s.name)
def test_signals_reach_the_command(environment: SandboxEnvironment, number: signal.Signals) -> None:
    script = "import signal, sys\n"
    script += f"signal.signal({int(number)}, lambda *_: sys.exit(42))\nprint('ready', flush=True)\n"
    process = start(environment, "python3", "-c", script + "while True: signal.pause()")
    started(process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 42


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_of_a_group_comes_once(environment: SandboxEnvironment, number: signal.Signals) -> None:
    """`timeout`, and who runs jobs, signal klock's whole group. Some programs take the second one for "at once"."""
    script = f"""
import signal, time
found = []
signal.signal({int(number)}, lambda *_: found.append(1))
print("ready", flush=True)
end = time.monotonic() + 2
while time.monotonic() < end:
    time.sleep(0.1)
print(len(found))
"""
    process = start(environment, "python3", "-c", script, own_session=True)
    started(process)
    os.killpg(process.pid, number)
    assert process.communicate(timeout=60)[0] == "1\n"


def test_a_command_that_does_not_catch_a_signal_ends_by_it(environment: SandboxEnvironment) -> None:
    process = start(environment, "sh", "-c", "echo ready; sleep 60")
    started(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def processes_with(mark: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def test_nothing_survives_a_klock_that_is_killed(
    debian_engine: SandboxWorkshop, environment: SandboxEnvironment
) -> None:
    mark = f"{os.getpid()}000.5"
    process = start(environment, "sh", "-c", f"trap '' TERM HUP INT; echo ready; setsid sleep {mark} & sleep {mark}")
    started(process)
    assert len(processes_with(mark)) >= 2
    process.kill()
    process.wait(timeout=60)
    deadline = time.monotonic() + 30
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_with(mark) == []
    assert str(debian_engine._store.root) not in Path("/proc/self/mounts").read_text()
    assert not environment.is_in_use
    assert run(environment, "echo fine")[1] == "fine\n"


def test_a_second_command_sees_what_the_first_does(environment: SandboxEnvironment) -> None:
    first = start(environment, "sh", "-c", "echo 1 > /opt/a; echo 1 > /run/a; echo ready; read x; cat /opt/b; ls /proc")
    started(first)
    assert environment.is_in_use
    second = start(environment, "sh", "-c", "cat /opt/a /run/a; echo 2 > /opt/b; echo ready; read x; cat /opt/c")
    assert second.stdout
    assert [second.stdout.readline() for _ in range(3)] == ["1\n", "1\n", "ready\n"]
    out, err = first.communicate("\n", timeout=60)
    assert (out.splitlines()[0], err) == ("2", "")
    # The first has ended; its mounts are the second's, and a third one finds them there.
    assert run(environment, "cat /opt/b; echo 3 > /opt/c")[:2] == (0, "2\n")
    assert second.communicate("\n", timeout=60) == ("3\n", "")
    assert not environment.is_in_use


def test_a_command_that_runs_keeps_the_environment_it_was_started_in(
    debian_engine: SandboxWorkshop, environment: SandboxEnvironment
) -> None:
    process = start(environment, "sh", "-c", "echo old > /opt/x; echo ready; read line; cat /opt/x; ls /opt")
    started(process)
    environment.replace([], base=BASE, record={"n": 2})
    assert run(environment, "ls /opt")[1] == ""
    assert debian_engine.remove_unused(keep=[BASE]) >= 0
    assert process.communicate("\n", timeout=60)[0] == "old\nx\n"
    assert len(environment._writable_folders()) == 2
    environment.replace([], base=BASE, record={"n": 3})
    assert len(environment._writable_folders()) == 1


REPLACE = """
import sys
from pathlib import Path
from klock.places.sandbox import SandboxPlace
from klock.workshop import SandboxWorkshop
from klock.store import Store

store = Store(Path(sys.argv[1]))
environment = SandboxPlace(SandboxWorkshop(store), store).environment(sys.argv[2])
print("ready", flush=True)
for number in range(100000):
    environment.replace([], base=sys.argv[3], record={"n": number})
"""


@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.031, 0.057, 0.09])
def test_a_replacement_that_is_killed_leaves_a_whole_environment(
    environment: SandboxEnvironment, seconds: float
) -> None:
    run(environment, "echo x > /opt/changed")
    argv = [sys.executable, "-c", REPLACE, str(environment._store.root), environment._name, BASE]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(klock.__file__).parents[1])}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env, cwd="/")
    started(process)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    record = environment.record
    assert record is not None
    changed = run(environment, "ls /opt")[1]
    assert changed == ("changed\n" if record == {"made": "for a test"} else "")
    environment.replace([], base=BASE, record={"after": "all"})
    assert run(environment, "ls /opt") == (0, "", "")
    assert len(environment._writable_folders()) == 1


# -- a terminal


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, argv: list[str]) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.environ["PYTHONPATH"] = str(Path(klock.__file__).parents[1])
            os.execv(argv[0], argv)
        self._seen = b""

    def expect(self, text: str) -> str:
        """Everything up to and with `text`, which must come."""
        deadline = time.monotonic() + 60
        while text.encode() not in self._seen:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come: {self._seen!r}"
            self._seen += os.read(self._terminal, 4096)
        before, _, self._seen = self._seen.partition(text.encode())
        return before.decode() + text

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def close(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.usefixtures("usual_signals")
def test_ctrl_c_on_a_terminal_reaches_the_command_once_and_nothing_else(environment: SandboxEnvironment) -> None:
    terminal = Terminal(klock_run(environment, "python3", "-q"))
    terminal.expect(">>> ")
    terminal.type("import time; print('sle' + 'eps'); time.sleep(60)\n")
    terminal.expect("sleeps")
    terminal.type("\x03")
    terminal.expect("KeyboardInterrupt")
    terminal.expect(">>> ")
    terminal.type("import os; print('tty', os.isatty(0), os.isatty(1)); exit(4)\n")
    terminal.expect("tty True True")
    assert terminal.close() == 4


def test_a_shell_with_job_control_gives_the_terminal_back(environment: SandboxEnvironment) -> None:
    inside = " ".join(f"'{argument}'" for argument in klock_run(environment, "bash", "--norc") if argument != EXECUTE)
    script = environment._folder / "execute.py"
    script.write_text(EXECUTE)
    inside = inside.replace("'-c'", f"'{script}'")
    terminal = Terminal(["/bin/bash", "--norc", "--noprofile", "-i"])
    terminal.type(f"PS1='outer> '; {inside}\n")
    terminal.expect("bash-5")
    # One process, from `running` on: a shell that waits for a child to begin (vfork) cannot be stopped.
    terminal.type("sh -c 'echo run''ning; exec sleep 60'\n")
    terminal.expect("running")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("disown %1; exit 3\n")
    terminal.expect("outer> ")
    terminal.type("echo status $?; exit 5\n")
    terminal.expect("status 3")
    assert terminal.close() == 5


def test_observing_hashes_content_and_not_only_what_a_file_looks_like(
    debian_engine: SandboxWorkshop, environment: SandboxEnvironment
) -> None:
    run(
        environment,
        "touch -r /etc/issue /tmp/t; tr e 3 < /etc/issue > /tmp/i; cat /tmp/i > /etc/issue; touch -r /tmp/t /etc/issue",
    )
    assert changes(debian_engine, environment) == ["etc/issue"]


def test_pruning_removes_what_killed_processes_left(debian_engine: SandboxWorkshop, tmp_path: Path) -> None:
    temporary = debian_engine._store.temporary_path().parent
    held, abandoned, fresh, old = (temporary / name for name in ("scratch-1", "scratch-2", "fresh", "old"))
    for folder in (held, abandoned, old):
        folder.mkdir()
        (folder / "in-use").touch()
    fresh.touch()
    os.utime(old, (0, 0))
    with open(held / "in-use") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        debian_engine.remove_unused(keep=[BASE])
        assert [path.exists() for path in (held, abandoned, fresh, old)] == [True, False, True, False]
    debian_engine.remove_unused(keep=[BASE])
    assert not held.exists()
    fresh.unlink()


def test_pruning_keeps_what_is_named_and_what_that_needs(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo kept > /opt/x")
        kept = workspace.snapshot()
        shell(workspace, "echo other > /opt/x")
        other = workspace.snapshot()
    environment = environment_of(debian_engine, "kept")
    environment.replace([kept.digest], base=BASE, record={})
    environment_of(debian_engine, "other").replace([other.digest], base=BASE, record={})
    place = SandboxPlace(debian_engine, debian_engine._store)
    assert place.remove("other") is not None
    assert debian_engine.remove_unused(keep=sorted(parts_of_all(debian_engine._store))) > 0
    assert debian_engine.has_base(BASE)
    assert debian_engine.has_layer(kept.digest)
    assert not debian_engine.has_layer(other.digest)
    assert environment_of(debian_engine, "other").record is None
    assert isinstance(environment.observe(), Manifest)
    assert list((debian_engine._store.root / "tmp").glob("scratch-*")) == []


def test_a_command_cannot_type_into_the_terminal(environment: SandboxEnvironment) -> None:
    """TIOCSTI and TIOCLINUX would put text into the terminal as if the user had typed it."""
    terminal = Terminal(klock_run(environment, "python3", "-q"))
    terminal.expect(">>> ")
    for request in ("0x5412", "0x541c"):
        terminal.type(f"import fcntl; fcntl.ioctl(0, {request}, b'x')\n")
        terminal.expect("PermissionError: [Errno 1] Operation not permitted")
        terminal.expect(">>> ")
    terminal.type("exit()\n")
    assert terminal.close() == 0
