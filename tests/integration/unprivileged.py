"""Running things as somebody: root, and an account without privileges that has subordinate ids (subuid(5)).

`make test` makes the account `klocktest`, and an interpreter it can read, when it runs as root. Without root the
unprivileged account is whoever runs the tests.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["PASSED_ON", "Account", "require_program", "root_account", "test_cache", "unprivileged_account"]

PASSED_ON = (
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
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end with a small environment: `env`, a home, a path, and what the network needs."""
        return subprocess.run(
            [os.fspath(argument) for argument in argv],
            cwd=cwd,
            env=self.environment | dict(env or {}),
            input=text_input,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
            user=self.uid if self.is_another else None,
            group=self.gid if self.is_another else None,
            extra_groups=[] if self.is_another else None,
        )

    def run_python(self, script: str, *, cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Runs a Python program that can import klock and returns what it printed. Fails the test when it fails."""
        done = self.run([self.python, "-c", script], cwd=cwd, env=env)
        assert done.returncode == 0, f"as {self}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def klock(
        self, *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Runs klock's command line, the real one."""
        return self.run([self.python, "-m", "klock", *arguments], cwd=cwd, env=env, timeout=timeout)

    @property
    def environment(self) -> dict[str, str]:
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        path = f"{self.python.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return passed_on | {
            "PATH": path,
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "KLOCK_CACHE_DIR": str(self.folder / "cache"),
            "PYTHONPATH": str(self.source),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def is_another(self) -> bool:
        """Whether it is not who runs the tests."""
        return self.uid != os.geteuid()

    def remove_folder(self) -> None:
        """Removes everything the account made, files of its subordinate ids included."""
        if os.geteuid() != 0 and self.folder.exists():
            command = ["unshare", "--user", "--map-root-user", "--map-auto", "--", "rm", "-rf", "--", str(self.folder)]
            subprocess.run(command, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def test_cache() -> Path:
    """The folder that keeps what is made once for all test runs. Everybody can read it; only its owner writes."""
    path = Path(os.environ.get("KLOCK_TEST_CACHE", "/var/tmp/klock-test-cache"))
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    if path.stat().st_uid != os.geteuid():
        pytest.fail(f"{path} belongs to another user: set KLOCK_TEST_CACHE to a folder of your own", pytrace=False)
    return path


test_cache.__test__ = False  # type: ignore[attr-defined]  # its name is no test's


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
