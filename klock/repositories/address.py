"""The address of a git repository as BuildKit reads it in ADD (the Dockerfile reference, "Adding files from a Git
repository"; docs.docker.com, "Build context", "URL fragments" and "URL queries")."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from klock.errors import ImageError
from klock.values import dataclass

__all__ = ["COMMIT", "GitAddress", "git_address", "https_url"]

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
"""A commit's name in full (SHA-1)."""

_SCP: Final = re.compile(r"[A-Za-z0-9_-]+@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^?#]*)(?P<rest>.*)", re.DOTALL)
_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z0-9]+)://")
_PREFIX: Final = re.compile(r"[0-9a-f]{7,40}")
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAddress:
    """`url` is where it is fetched, over HTTP. `wanted` is a branch, a tag, a full name (`refs/...`) or a commit; ""
    for the default branch. `folder` is what of the tree is meant, "" for all of it, `checksum` a commit or the
    beginning of one. `keeps_git` is None where the address does not say it."""

    url: str
    wanted: str = ""
    folder: str = ""
    checksum: str = ""
    keeps_git: bool | None = None
    submodules: bool = True


def git_address(text: str) -> GitAddress | None:
    """None for what names no repository: an HTTP URL does only if its path ends in `.git`. Raises ImageError."""
    if (scp := _SCP.fullmatch(text)) is not None:
        return _read(text, https_url(text), scp["rest"])
    if (scheme := _SCHEME.match(text)) is None:
        return None
    parts = urlsplit(text)
    match scheme["scheme"].lower():
        case "http" | "https" if parts.path.endswith(".git"):
            rest = text[len(urlunsplit(parts._replace(query="", fragment=""))) :]
            return _read(text, https_url(text), rest)
        case "ssh" | "git":
            return _read(text, https_url(text), f"?{parts.query}#{parts.fragment}")
    return None


def https_url(text: str) -> str:
    """Where a repository is fetched over HTTP: for `git@HOST:PATH` and `ssh://` at the same path of the same host.

    Raises ImageError for `git://`, and for what is not a URL.
    """
    if (scp := _SCP.fullmatch(text)) is not None:
        return f"https://{scp['host']}/{scp['path'].lstrip('/')}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ImageError(f"{text[:200]} is not a URL: {error}", hint="write https://HOST/PATH.git") from error
    match parts.scheme.lower():
        case "http" | "https" if host:
            return urlunsplit((parts.scheme.lower(), parts.netloc, parts.path, "", ""))
        case "ssh" if host:
            return f"https://{host}{parts.path}"
        case "git":
            secure = urlunsplit(("https", f"{host}:{port}" if port else host or "", parts.path, "", ""))
            raise ImageError(f"nothing protects git://, so klock does not use it: {text}", hint=f"write {secure}")
    raise ImageError(f"{text[:200]} is not a repository's address", hint="write https://HOST/PATH.git")


def _read(text: str, url: str, rest: str) -> GitAddress:
    query, _, fragment = rest.partition("#")
    found = _with_fragment(GitAddress(url=url), fragment, text)
    try:
        pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True)
    except ValueError as error:
        raise _error(text, f"its query is broken: {error}") from error
    if len(dict(pairs)) < len(pairs):
        raise _error(text, "its query says one thing twice")
    found = _with_query(found, dict(pairs), text)
    if found.checksum and not _PREFIX.fullmatch(found.checksum):
        raise _error(text, f"{found.checksum} is not a commit: it has 7 to 40 hex digits")
    if found.folder:
        folder = posixpath.normpath(f"/{found.folder}").lstrip("/")
        if ".." in found.folder.split("/"):
            raise _error(text, f"the folder {found.folder} is not in the repository")
        found = replace(found, folder=folder)
    if any(not character.isprintable() or character.isspace() for character in found.wanted):
        raise _error(text, f"{found.wanted!r} is not the name of a branch, tag or commit")
    return found


def _with_fragment(address: GitAddress, fragment: str, text: str) -> GitAddress:
    """`#REF:FOLDER`, or `##ref=REF,subdir=FOLDER`."""
    if not fragment.startswith("#"):
        wanted, _, folder = fragment.partition(":")
        return replace(address, wanted=wanted, folder=folder)
    names: dict[str, str] = {}
    for field in next(csv.reader([fragment[1:]]), []):
        name, equals, value = field.partition("=")
        if not equals or name.lower() not in ("ref", "commit", "subdir"):
            raise _error(text, f"{field!r} is not one of ref=, commit= and subdir=")
        names[name.lower()] = value
    commit = names.get("commit", "")
    return replace(address, wanted=names.get("ref") or commit, folder=names.get("subdir", ""), checksum=commit)


def _with_query(address: GitAddress, query: Mapping[str, str], text: str) -> GitAddress:
    for name, value in query.items():
        match name:
            case "ref":
                address = replace(address, wanted=_one(address.wanted, value, text))
            case "tag" | "branch" if value:
                place = "refs/tags/" if name == "tag" else "refs/heads/"
                full = value if value.startswith(place) else place + value
                address = replace(address, wanted=_one(address.wanted, full, text))
            case "subdir":
                address = replace(address, folder=_one(address.folder, value, text))
            case "checksum" | "commit":
                address = replace(address, checksum=_one(address.checksum, value, text))
            case "keep-git-dir":
                address = replace(address, keeps_git=_switch(name, value, text))
            case "submodules":
                address = replace(address, submodules=_switch(name, value, text))
            case "tag" | "branch":
                raise _error(text, "its query has a name without a value")
            case _:
                raise _error(text, f"git repositories have no {name}=")
    return address


def _one(before: str, value: str, text: str) -> str:
    if not value:
        raise _error(text, "its query has a name without a value")
    if before not in ("", value):
        raise _error(text, f"it names both {before} and {value}")
    return value


def _switch(name: str, value: str, text: str) -> bool:
    if value not in {"", *_TRUE, *_FALSE}:
        raise _error(text, f"{name}={value} is neither true nor false")
    return value not in _FALSE


def _error(text: str, what: str) -> ImageError:
    return ImageError(f"{text}: {what}", hint="write for example https://HOST/PATH.git#BRANCH:FOLDER")
