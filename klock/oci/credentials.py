"""Credentials for registries, from where `docker login` keeps them: `$DOCKER_CONFIG/config.json` and its helpers; or
else from where `podman login` keeps them (containers-auth.json(5)).

The format is docker's (docs.docker.com/reference/cli/docker/login, "Credential stores"). What is read here is never
logged, never part of a message and never written.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from klock.documents import read_json
from klock.errors import FetchError
from klock.oci.reference import DOCKER_HUB
from klock.values import dataclass

__all__ = ["Credentials", "DockerConfig", "podman_logins"]

_HUB_KEY: Final = "https://index.docker.io/v1/"
_HELPER: Final = re.compile(r"[A-Za-z0-9._-]+")
_NOT_FOUND: Final = "credentials not found"
_TOKEN_USER: Final = "<token>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user name and password, or an identity token (an OAuth2 refresh token). Its repr shows neither."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class DockerConfig:
    """The parsed docker config file. `others` are podman's files, for logins that it does not have."""

    def __init__(self, content: Mapping[str, Any], *, path: Path, others: Sequence[Path] = ()) -> None:
        self._content = content
        self._path = path
        self._others = others

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> DockerConfig:
        """Reads the file; a missing one is an empty one. Raises FetchError for one that is not JSON."""
        folder = environment.get("DOCKER_CONFIG")
        path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
        try:
            content = _read(path)
        except OSError as error:
            raise FetchError(f"cannot read the logins in {path}: {type(error).__name__}") from None
        return cls(content, path=path, others=podman_logins(environment))

    def find(self, registry: str, repository: str = "") -> Credentials | None:
        """The credentials for a registry: from its own helper, else from the common one, else from the file itself,
        else from the `others`.

        `podman login` writes several entries for a registry, each for some repositories: the closest one counts.
        """
        found = self._find_here(registry, repository)
        for path in self._others if found is None else ():
            with suppress(OSError):  # it may be another user's, as under sudo
                found = found or DockerConfig(_read(path), path=path)._find_here(registry, repository)
        return found

    def _find_here(self, registry: str, repository: str) -> Credentials | None:
        key = _HUB_KEY if registry == DOCKER_HUB else registry
        helper = self._table("credHelpers").get(registry) or self._table("credHelpers").get(key)
        if helper := helper or self._content.get("credsStore"):
            found = self._from_helper(str(helper), key)
            if found:
                return found
        entries = {name: entry for name, entry in self._table("auths").items() if isinstance(entry, dict)}
        whole = f"{registry}/{repository}/"
        matching = [name for name in entries if name == key or whole.startswith(f"{_place(name)}/")]
        if not matching:
            return None
        closest = max(matching, key=lambda name: _place(name).count("/"))
        return self._from_entry(closest, entries[closest])

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self._content.get(name)
        return table if isinstance(table, dict) else {}

    def _from_entry(self, name: str, entry: Mapping[str, Any]) -> Credentials | None:
        username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
        if encoded := entry.get("auth"):
            try:
                decoded = base64.b64decode(str(encoded), validate=True).decode()
                username, colon, password = decoded.partition(":")
            except (binascii.Error, UnicodeDecodeError):
                colon = ""
            if not colon:
                raise FetchError(f"{self._path}: the auth of {name!r} is not base64 of user:password") from None
        token = str(entry.get("identitytoken") or "")
        if not (username or token):
            # An empty entry says only that a helper has them.
            return None
        return Credentials(username=username, password=password.rstrip("\0"), identity_token=token)

    def _from_helper(self, helper: str, key: str) -> Credentials | None:
        program = f"docker-credential-{helper}"
        if not _HELPER.fullmatch(helper):
            raise FetchError(f"{self._path}: {helper!r} is not the name of a credential helper")
        try:
            done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=60, check=False)
        except FileNotFoundError:
            raise FetchError(
                f"{self._path} asks for the credential helper {program}, which is not installed",
                hint="install it, or remove it from that file and run `docker login` again",
            ) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FetchError(f"the credential helper {program} failed: {type(error).__name__}") from None
        if done.returncode != 0:
            # Helpers say this on stdout; everything else they say may hold a secret.
            if _NOT_FOUND in (done.stdout + done.stderr).decode("utf-8", "replace").lower():
                return None
            raise FetchError(f"the credential helper {program} failed with status {done.returncode}")
        try:
            answer = read_json(done.stdout)
            username, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            raise FetchError(f"the credential helper {program} did not answer with a user name and a secret") from None
        if username == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(username=username, password=secret) if secret else None


def podman_logins(environment: Mapping[str, str]) -> list[Path]:
    """The files that podman keeps logins in (containers-auth.json(5)), except docker's."""
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return [Path(named)]
    running = environment.get("XDG_RUNTIME_DIR")
    kept = environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return [
        Path(running, "containers/auth.json") if running else Path(f"/run/containers/{os.getuid()}/auth.json"),
        Path(kept, "containers/auth.json"),
    ]


def _read(path: Path) -> Mapping[str, Any]:
    """What a file of logins has; nothing if there is none. Raises OSError, FetchError."""
    try:
        content = read_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        # The text of a JSON error could quote the file.
        raise FetchError(f"cannot read the logins in {path}: {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise FetchError(f"cannot read the logins in {path}: it is not a JSON object")
    return content


def _place(name: str) -> str:
    """Keys are written `host:port`, `host:port/namespace` or, by old clients, `https://host:port/v1/`."""
    _, is_url, rest = name.rpartition("://")
    return rest.partition("/")[0] if is_url else rest.rstrip("/")
