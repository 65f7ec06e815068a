"""Passwords for indexes from the user's keyring, through the program `keyring`, as uv and pip ask it.

It is the user's own program and runs on this machine, outside of the sandbox, as docker's credential helpers do: so it
is asked for nothing but the servers that the user names, and only where `UV_KEYRING_PROVIDER` says so. The program is
looked for in the absolute folders of PATH alone, never in the project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import field
from typing import Final
from urllib.parse import urlsplit

from klock.errors import FetchError
from klock.values import dataclass

__all__ = ["Keyring"]

_VARIABLE: Final = "UV_KEYRING_PROVIDER"
_SECONDS: Final = 120
"""It may have to ask the user to unlock it."""
_NO_MODE: Final = b"unrecognized arguments: --mode"


@dataclass(slots=True, kw_only=True)
class Keyring:
    """Asks the program once for each service and user. `environ` are the variables that it runs with."""

    environ: Mapping[str, str] = field(repr=False)
    _known: dict[tuple[str, str | None], tuple[str, str] | None] = field(default_factory=dict, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Keyring | None:
        """None where `UV_KEYRING_PROVIDER` does not ask for one. Raises FetchError for a provider that klock lacks."""
        provider = environ.get(_VARIABLE) or "disabled"
        if provider == "disabled":
            return None
        if provider != "subprocess":
            raise FetchError(
                f"{_VARIABLE} is {provider!r}, which klock cannot ask",
                hint=f"set {_VARIABLE}=subprocess, which runs the program keyring; or give the credentials by netrc",
            )
        return _of_this_process(tuple(sorted(environ.items())))

    def find(self, url: str, username: str | None) -> tuple[str, str] | None:
        """The user name and password that the keyring has for a URL, or else for its host; None where it has none.

        Raises FetchError when the program is not there or does not end.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
        with self._guard:
            return self._ask(url, username) or self._ask(host, username)

    def _ask(self, service: str, username: str | None) -> tuple[str, str] | None:
        if (service, username) not in self._known:
            self._known[service, username] = self._answer(service, username)
        return self._known[service, username]

    def _answer(self, service: str, username: str | None) -> tuple[str, str] | None:
        program = _program(self.environ)
        what = ["get", service, username] if username else ["get", service, "--mode", "creds"]
        try:
            done = subprocess.run(
                [program, *what],
                cwd="/",
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            # The text of the error could quote what was printed.
            raise FetchError(f"the program {program} failed: {type(error).__name__}") from None
        if done.returncode != 0:
            if _NO_MODE in done.stderr:
                raise FetchError(
                    f"the program {program} cannot be asked without a user name",
                    hint="name the user in the URL of the index: https://USER@HOST/simple; or update keyring to 25.2.1",
                )
            return None
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        if username:
            return (username, lines[0]) if lines else None
        return (lines[0], lines[1]) if len(lines) > 1 else None


_OF_THIS_PROCESS: Final[dict[tuple[tuple[str, str], ...], Keyring]] = {}


def _of_this_process(environ: tuple[tuple[str, str], ...]) -> Keyring:
    """One for each environment: what it has answered is not asked again in the next step."""
    return _OF_THIS_PROCESS.setdefault(environ, Keyring(environ=dict(environ)))


def _program(environ: Mapping[str, str]) -> str:
    folders = [each for each in environ.get("PATH", os.defpath).split(os.pathsep) if each.startswith("/")]
    found = shutil.which("keyring", path=os.pathsep.join(folders))
    if found is None:
        raise FetchError(
            f"{_VARIABLE} is set, and there is no program keyring on PATH",
            hint="install it: uv tool install keyring; or give the credentials by netrc",
        )
    return found
