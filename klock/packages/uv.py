"""Runs uv inside an environment, where the Python it works for is, with nothing of the host's or the container's own
configuration: a private home, a private cache that is thrown away, and only the variables that are named here.

uv comes from the `uv` package klock depends on; its one file is mounted into the sandbox for the length of the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.packages.interpreter import python_environment
from klock.packages.libc import start_of
from klock.recorder import Passes
from klock.uv_program import uv_program
from klock.values import dataclass
from klock.workshop.handover import empty_folder
from klock.workshop.protocol import Command, Completed, Mount, Network, Uplink, Workspace

__all__ = ["GIT_VARIABLES", "SOURCE_DATE_EPOCH", "WORK", "UvRun", "fixed_variables", "run_uv"]

WORK: Final = "/run/klock/work"
"""Where the call's work folder is seen inside the environment."""

SOURCE_DATE_EPOCH: Final = "1577836800"
"""2020-01-01T00:00:00Z: what builds take for the present. Late enough for the ZIP format, which begins in 1980."""

GIT_VARIABLES: Final = {
    "GIT_TERMINAL_PROMPT": "0",
    # What the image's configuration has for a proxy is not there.
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "http.proxy",
    "GIT_CONFIG_VALUE_0": "",
}
"""For the environment's git where it fetches for klock."""

_UV: Final = "/run/klock/bin/uv"


@dataclass(frozen=True, slots=True, kw_only=True)
class UvRun:
    """A finished uv command: exit status, what it said, and what the recorder refused it."""

    status: int
    output: str
    refused: tuple[str, ...] = ()


def run_uv(
    workspace: Workspace,
    arguments: Sequence[str],
    *,
    work: Path,
    variables: Mapping[str, str],
    more: Mapping[str, str] | None = None,
    mounts: Sequence[Mount] = (),
    passes: Passes | None = None,
) -> UvRun:
    """Runs `uv ARGUMENTS`. `work` (a host folder) is mounted writable at WORK and holds uv's cache; `variables` are
    the container's, `more` are for uv. It has a network with `passes` only.
    """
    for name in ("cache", "home", "tmp"):
        if not (work / name).is_dir():
            empty_folder(work, name)
    start = start_of(uv_program(), seen_as=_UV, workspace=workspace)
    all_mounts = [
        Mount(source=uv_program(), target=_UV),
        *start.mounts,
        Mount(source=work, target=WORK, read_only=False),
        *mounts,
    ]
    all_variables = {
        **python_environment(variables),
        **fixed_variables(WORK),
        **(more or {}),
    }
    lines: list[bytes] = []

    def run(network: Network | Uplink) -> Completed:
        lines.clear()
        command = Command(
            argv=(*start.words, _UV, *arguments),
            environment=all_variables,
            working_dir=WORK,
            network=network,
            mounts=tuple(all_mounts),
        )
        return workspace.run(command, on_output=lines.append)

    refused: tuple[str, ...] = ()
    if passes is None:
        ended = run(Network.NONE)
    else:
        ended, report = passes.run(run)
        refused = report.refused
    return UvRun(status=ended.status, output=b"".join(lines).decode("utf-8", "replace"), refused=refused)


def fixed_variables(work: str) -> dict[str, str]:
    """What uv is told whatever it does, with `work` as its folder."""
    return {
        "HOME": f"{work}/home",
        "TMPDIR": f"{work}/tmp",
        "UV_CACHE_DIR": f"{work}/cache",
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "NO_COLOR": "1",
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        **GIT_VARIABLES,
    }
