"""Running things as somebody: root, and an account without privileges that has subordinate ids (subuid(5)).

`make test` makes the account `klocktest`, and an interpreter it can read, when it runs as root. Without root the
unprivileged account is whoever runs the tests.

An account's klock commands are forked by a process that stays (`resident.py`): the same, in a tenth of the time. A test
of the process itself, of its signals, streams or end, starts one: `account.run([account.python, "-m", "klock"])`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.resident import KLOCK, Ended, Resident, starts_an_interpreter
from tests.run_folder import RUN, test_cache

__all__ = [
    "EMPTY_NETWORK",
    "PASSED_ON",
    "Account",
    "end_residents",
    "require_program",
    "root_account",
    "unprivileged_account",
]

PASSED_ON = (
    RUN,
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "UV_DEFAULT_INDEX",
)
"""Variables that processes of the tests get from who runs them."""

EMPTY_NETWORK = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user", "--map-auto")), "--net", "--")
"""For `enter`: a network with nothing but a loopback that is down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody to run programs as. `python` is an interpreter with klock's dependencies, `source` the folder that holds
    the `klock` package, `folder` a place of its own, readable for it whatever the umask."""

    name: str
    uid: int
    gid: int
    python: Path
    source: Path
    folder: Path

    def __str__(self) -> str:
        return self.name

    def make_folder(self, name: str) -> Path:
        """An empty folder that belongs to the account."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Makes a file, or a folder and all in it, the account's own."""
        for each in [path, *path.rglob("*")]:
            os.chown(each, self.uid, self.gid, follow_symlinks=False)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
        text_input: str = "",
        enter: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end with a small environment: `env`, a home, a path, and what the network needs.

        `enter` is a command that runs another one elsewhere, such as in a network; root may be needed for it."""
        # Who enters a mount namespace loses the working directory.
        elsewhere = [*enter, "env", f"--chdir={cwd}", *self._become] if enter else []
        return subprocess.run(
            [*elsewhere, *(os.fspath(argument) for argument in argv)],
            cwd=cwd,
            env=self.environment | dict(env or {}),
            input=text_input,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
            **({} if enter else self.identity),
        )

    def run_python(self, script: str, *, cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Runs a Python program that can import klock and returns what it printed. Fails the test when it fails."""
        done = self.run([self.python, "-c", script], cwd=cwd, env=env)
        assert done.returncode == 0, f"as {self}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def klock(
        self,
        *arguments: str | Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
        enter: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Runs klock's command line; with `enter` by a resident that is elsewhere."""
        environment = self.environment | dict(env or {})
        words = [os.fspath(argument) for argument in arguments]
        if starts_an_interpreter(env or {}):
            argv: list[str | Path] = [self.python, "-m", "klock", *words]
            return self.run(argv, cwd=cwd, env=env, timeout=timeout, enter=enter)
        return self._resident(tuple(enter)).run([KLOCK, *words], cwd=cwd, env=environment, timeout=timeout)

    def klock_killed_at(
        self, event: int, *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None
    ) -> Ended:
        """Runs klock until its `event`-th event (see `resident.py`); with 0 to its end."""
        argv = [KLOCK, *(os.fspath(argument) for argument in arguments)]
        return self._resident(()).kill_at(event, argv, cwd=cwd, env=self.environment | dict(env or {}))

    def _resident(self, enter: tuple[str, ...]) -> Resident:
        key = (self.uid, self.gid, self.python, self.source, enter)
        if key not in _RESIDENTS:
            elsewhere = [*enter, *self._become] if enter else []
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    [*elsewhere, self.python, self.source / "resident.py", str(theirs.fileno())],
                    cwd="/",
                    env=self.environment,
                    pass_fds=[theirs.fileno()],
                    **({} if enter else self.identity),
                )
            _RESIDENTS[key] = Resident(ours), process
        return _RESIDENTS[key][0]

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a process of `subprocess` the account's."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_another else {}

    @property
    def _become(self) -> list[str]:
        """The same as a command, for where root has to go first."""
        identity = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--"]
        return identity if self.is_another else []

    @property
    def environment(self) -> dict[str, str]:
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        path = f"{self.python.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return passed_on | {
            "PATH": path,
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "LANG": "C.UTF-8",
            "KLOCK_CACHE_DIR": str(self.store),
            "PYTHONPATH": str(self.source),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def store(self) -> Path:
        """The one that the account's klock uses when no other is named."""
        return self.folder / "cache"

    @property
    def is_another(self) -> bool:
        """Whether it is not who runs the tests."""
        return self.uid != os.geteuid()


_RESIDENTS: dict[tuple[object, ...], tuple[Resident, subprocess.Popen[bytes]]] = {}


def end_residents() -> None:
    """Ends all processes that were kept to fork klock commands."""
    for resident, process in _RESIDENTS.values():
        resident.close()
        process.wait()
    _RESIDENTS.clear()


def root_account(source: Path, folder: Path) -> Account:
    """Fails the test when the tests do not run as root."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("this test needs root: run `make test` as root", pytrace=False)
        pytest.skip("needs root: run `make test` as root to include it")
    return Account(name="root", uid=0, gid=0, python=Path(sys.executable), source=source, folder=folder)


def unprivileged_account(source: Path, folder: Path) -> Account:
    """`klocktest` as root, else the current user."""
    if os.geteuid() != 0:
        user = pwd.getpwuid(os.geteuid())
        python = Path(sys.executable)
    else:
        python = test_cache() / "python/bin/python"
        try:
            user = pwd.getpwnam("klocktest")
        except KeyError:
            pytest.fail("there is no user klocktest: run .ci/prepare test", pytrace=False)
        if not python.exists():
            pytest.fail(f"there is no {python}: run .ci/prepare test", pytrace=False)
        os.chown(folder, user.pw_uid, user.pw_gid)
    return Account(name=user.pw_name, uid=user.pw_uid, gid=user.pw_gid, python=python, source=source, folder=folder)


def require_program(name: str, *, package: str) -> str:
    """The path of a program. A test that needs one which is not there fails: a skipped test is soon forgotten."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: run .ci/prepare test, or apt-get install {package}", pytrace=False)
    return found
