"""Installs locked wheels with uv into what a build is going to see: no resolving, no network, every file hashed.

The wheels are the store's own files, mounted read-only under their names; uv installs exactly those, and its cache is
thrown away. What an environment gets is composed instead (`klock.packages.wheel_trees`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.errors import FetchError, StepFailed
from klock.lockfile.model import WheelArtifact
from klock.packages.interpreter import python_environment
from klock.packages.uv import WORK, run_uv
from klock.store import Store
from klock.temporary import temporary_folder
from klock.workshop.protocol import Command, Mount, Workspace

__all__ = ["CACHE", "install_wheels"]

CACHE: Final = "/.klock-uv-cache"
"""In the environment's own tree, for the length of an installation: files are linked from it instead of copied, so
every byte is written once. Nothing else ever uses it, so an edited file cannot come back from it."""

_WHEELS: Final = "/run/klock/wheels"


def install_wheels(
    wheels: Sequence[tuple[str, str, WheelArtifact]],
    *,
    python: str,
    workspace: Workspace,
    store: Store,
    variables: Mapping[str, str],
    work: Path | None = None,
) -> None:
    """Installs wheels, given with the name and version of each, into the Python at `python`."""
    if not wheels:
        return
    mounts = []
    for _, _, wheel in wheels:
        blob = store.find_blob(f"sha256:{wheel.sha256}")
        if blob is None:
            raise FetchError(f"{wheel.name} is not in the store", hint="run `klock sync` without --offline to fetch it")
        mounts.append(Mount(source=blob, target=f"{_WHEELS}/{wheel.name}"))
    # Where wheels are laid out by klock itself this is not needed.
    from klock.packages.shared_paths import batches

    in_order = batches(wheels, store)
    with temporary_folder("install", within=store.tmp) as folder:
        here = work or folder
        for batch in in_order:
            lines = [f"{name}=={version} --hash=sha256:{wheel.sha256}\n" for name, version, wheel in batch]
            (here / "requirements.txt").write_text("".join(lines), encoding="utf-8")
            ended = run_uv(
                workspace,
                [
                    *("pip", "install", "--python", python, "--break-system-packages", "--offline", "--no-index"),
                    *("--find-links", _WHEELS, "--no-deps", "--no-build", "--require-hashes", "--reinstall"),
                    *("--link-mode", "hardlink", "--requirements", f"{WORK}/requirements.txt"),
                ],
                work=here,
                variables=variables,
                more={"UV_NO_INSTALLER_METADATA": "1", "UV_CACHE_DIR": CACHE},
                mounts=mounts,
            )
            if ended.status != 0:
                raise StepFailed(
                    f"uv could not install the locked packages (exit status {ended.status}):\n{ended.output.strip()}"
                )
        _remove_cache(workspace, variables)


def _remove_cache(workspace: Workspace, variables: Mapping[str, str]) -> None:
    ended = workspace.run(Command(argv=("/bin/rm", "-rf", CACHE), environment=python_environment(variables)))
    if ended.status != 0:
        raise StepFailed(f"{CACHE} could not be removed:\n{ended.output.decode('utf-8', 'replace').strip()}")
