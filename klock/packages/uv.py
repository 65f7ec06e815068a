"""Runs uv inside an environment, where the Python it works for is, with nothing of the host's or the container's own
configuration: a private home, a private cache that is thrown away, and only the variables that are named here.

uv comes from the `uv` package klock depends on; its one file is mounted into the sandbox for the length of the call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from klock.errors import EngineError
from klock.lockfile.model import Interpreter
from klock.packages.interpreter import python_environment
from klock.workshop.protocol import Command, Mount, Network, Workspace

__all__ = ["SOURCE_DATE_EPOCH", "WORK", "UvRun", "check_uv_runs", "run_uv"]

WORK: Final = "/run/klock/work"
"""Where the call's work folder is seen inside the environment."""

SOURCE_DATE_EPOCH: Final = "1577836800"
"""2020-01-01T00:00:00Z: what builds take for the present. Late enough for the ZIP format, which begins in 1980."""

_UV: Final = "/run/klock/bin/uv"
_NETRC: Final = "/run/klock/netrc"
_FROM_HOST: Final = re.compile(r"(https?|all|no)_proxy", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UvRun:
    """A finished uv command: exit status and what it said."""

    status: int
    output: str


def run_uv(
    workspace: Workspace,
    arguments: Sequence[str],
    *,
    work: Path,
    variables: Mapping[str, str],
    more: Mapping[str, str] | None = None,
    mounts: Sequence[Mount] = (),
    network: Network = Network.NONE,
    netrc: Path | None = None,
) -> UvRun:
    """Runs `uv ARGUMENTS`. `work` (a host folder) is mounted writable at WORK and holds uv's cache; `variables` are
    the container's, `more` are for uv.
    """
    for name in ("cache", "home", "tmp"):
        (work / name).mkdir(exist_ok=True)
    all_mounts = [
        Mount(source=uv_program(), target=_UV),
        Mount(source=work, target=WORK, read_only=False),
        *mounts,
    ]
    all_variables = {
        **python_environment(variables),
        "HOME": f"{WORK}/home",
        "TMPDIR": f"{WORK}/tmp",
        "UV_CACHE_DIR": f"{WORK}/cache",
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "NO_COLOR": "1",
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        **(more or {}),
    }
    if network is not Network.NONE:
        all_variables.update((name, value) for name, value in os.environ.items() if _FROM_HOST.fullmatch(name))
        if netrc is not None and netrc.is_file():
            all_mounts.append(Mount(source=netrc, target=_NETRC))
            all_variables["NETRC"] = _NETRC
    lines: list[bytes] = []
    ended = workspace.run(
        Command(
            argv=(_UV, *arguments),
            environment=all_variables,
            working_dir=WORK,
            network=network,
            mounts=tuple(all_mounts),
        ),
        on_output=lines.append,
    )
    return UvRun(status=ended.status, output=b"".join(lines).decode("utf-8", "replace"))


def check_uv_runs(interpreter: Interpreter) -> None:
    """Raises EngineError when the environment's C library is not the one that klock's uv program needs."""
    if interpreter.libc.startswith("musl"):
        with open(uv_program(), "rb") as file:
            if b"/ld-linux" in file.read(4096):  # the ELF interpreter; uv's builds for musl are static and have none
                raise EngineError(
                    f"klock's uv program needs glibc, but the environment's Python at {interpreter.path} uses "
                    f"{interpreter.libc}",
                    hint="use a base with glibc, such as a -slim image instead of -alpine; or install klock with musl",
                )


def uv_program() -> Path:
    """The uv of klock's own installation. Raises EngineError."""
    import uv

    try:
        return Path(uv.find_uv_bin()).resolve()
    except FileNotFoundError as error:
        raise EngineError(
            "klock's installation has no uv program",
            hint="install it again in klock's environment: pip install --force-reinstall uv",
        ) from error
