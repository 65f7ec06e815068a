"""A real repository behind a real `git http-backend` (CGI, RFC 3875), for every protocol that git speaks over HTTP."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.integration.upstream.connections import Answer, Request

__all__ = ["GitHost", "make_repository"]

_COMMITS: Final = ("first", "second", "third")
_IDENTITY: Final = {
    "GIT_AUTHOR_NAME": "Upstream",
    "GIT_AUTHOR_EMAIL": "upstream@upstream.test",
    "GIT_COMMITTER_NAME": "Upstream",
    "GIT_COMMITTER_EMAIL": "upstream@upstream.test",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


class GitHost:
    """Serves the bare repositories in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, request: Request) -> Answer:
        variables = {
            "GIT_PROJECT_ROOT": str(self._folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": request.header("Git-Protocol"),
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.raw_query,
            "CONTENT_TYPE": request.header("Content-Type"),
            "CONTENT_LENGTH": str(len(request.body)),
            "HTTP_CONTENT_ENCODING": request.header("Content-Encoding"),
            "REMOTE_ADDR": "10.77.0.77",
        }
        done = subprocess.run(
            ["git", "http-backend"], env=_environment(variables), input=request.body, capture_output=True, check=False
        )
        if done.returncode != 0:
            return Answer(status=500, body=done.stderr)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
        status = int(headers.pop("Status", "200 OK").split()[0])
        # As servers send a program's output: its length is not known.
        return Answer(status=status, headers=headers, chunks=[body] if body else [])


def make_repository(folder: Path) -> None:
    """Writes `folder/tool.git`: three commits, a tag on the second, a branch, and an object of some size."""
    bare, work = folder / "tool.git", folder.parent / "tool-work"
    folder.mkdir()
    _git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    for key in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        _git("-C", str(bare), "config", key, "true")
    _git("init", "--quiet", "--initial-branch=main", str(work))
    for number, word in enumerate(_COMMITS):
        (work / "words.txt").write_text("\n".join(_COMMITS[: number + 1]) + "\n")
        (work / f"{word}.bin").write_bytes(os.urandom(40_000))
        _git("-C", str(work), "add", ".")
        _git("-C", str(work), "commit", "--quiet", f"--message={word}")
        if number == 1:
            _git("-C", str(work), "tag", "--annotate", "--message=one", "v1.0")
    _git("-C", str(work), "branch", "side", "HEAD~1")
    _git("-C", str(work), "push", "--quiet", "--all", str(bare))
    _git("-C", str(work), "push", "--quiet", "--tags", str(bare))


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | dict(variables)


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], env=_environment(_IDENTITY), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"git {' '.join(arguments)}\n{done.stderr}", pytrace=False)
