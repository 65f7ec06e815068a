"""The upstream as tests see it: where processes are started so that they reach it, and what it was asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.index_server import make_sdist, make_wheel
from tests.integration.unprivileged import require_program
from tests.integration.upstream.answers import MOVED
from tests.integration.upstream.debian_archive import KEY, make_archive
from tests.integration.upstream.git_repository import make_repository
from tests.integration.upstream.names import RESOLVER

__all__ = ["World", "upstream_world"]

_ROOT: Final = Path(__file__).parents[3]
_START: Final = 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'
_BACKEND: Final = """
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "parting-1.0-py3-none-any.whl"
    files = {
        "parting.py": "WORD = 'farewell'\\n",
        "parting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: parting\\nVersion: 1.0\\n",
        "parting-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "parting-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return name
"""
_PYPROJECT: Final = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


@dataclass(frozen=True, kw_only=True)
class World:
    """A running upstream. `folder` is its own; others see of it what is copied to them."""

    folder: Path
    process: int

    @property
    def certificate(self) -> Path:
        """Who vouches for its names, a PEM file."""
        return self.folder / "ca.pem"

    @property
    def archive_key(self) -> Path:
        return self.folder / "archive/debian" / KEY

    @property
    def enter(self) -> tuple[str, ...]:
        """For `Account.run` and `klock`: the upstream's network, where nothing else is."""
        return ("nsenter", f"--target={self.process}", "--net", "--mount", "--")

    def requests(self) -> list[str]:
        """Everything it was asked for, in order: method and URL, the port always in it."""
        return [f"{entry['method']} {entry['url']}" for entry in self.journal()]

    def journal(self) -> list[dict[str, Any]]:
        """The same with the headers that came along."""
        return [json.loads(line) for line in (self.folder / "requests").read_text().splitlines()]

    def forget_requests(self) -> None:
        (self.folder / "requests").write_text("")

    def issued(self) -> list[str]:
        """The signatures, tokens and cookies it has given away."""
        return (self.folder / "issued").read_text().split()

    @contextmanager
    def moved(self) -> Iterator[None]:
        """Upstream has new bytes under old names until the block ends."""
        (self.folder / MOVED).touch()
        try:
            yield
        finally:
            (self.folder / MOVED).unlink()


@contextmanager
def upstream_world(folder: Path) -> Iterator[World]:
    """Makes what is served and serves it until the block ends. Needs root."""
    for program in ("unshare", "nsenter"):
        require_program(program, package="util-linux")
    folder.mkdir(parents=True, exist_ok=True)
    make_archive(folder / "archive")
    make_repository(folder / "git")
    packages = folder / "packages"
    packages.mkdir()
    make_wheel(packages, "greeting", "1.0", requires=["wording>=1"])
    make_wheel(packages, "wording", "1.1")
    make_sdist(packages, "parting", "1.0", files={"pyproject.toml": _PYPROJECT, "backend.py": _BACKEND})
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {RESOLVER}\noptions timeout:2 attempts:2\n")
    resolver.chmod(0o644)

    enter = [
        "unshare",
        "--net",
        "--mount",
        "--propagation=private",
        "--",
        "sh",
        "-e",
        "-c",
        _START,
        "sh",
        str(resolver),
    ]
    with (
        open(folder / "errors", "wb") as errors,
        subprocess.Popen(
            [*enter, sys.executable, "-m", "tests.integration.upstream", str(folder)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        # Leaving the block closes the process's stdin, at which it ends.
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            pytest.fail(f"the upstream does not start:\n{(folder / 'errors').read_text()}", pytrace=False)
        yield World(folder=folder, process=process.pid)
    shutil.rmtree(folder, ignore_errors=True)
