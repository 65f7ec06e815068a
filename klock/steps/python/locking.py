"""Which archive a version of Python is: uv has a list of the builds of python-build-standalone within itself."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from klock.errors import ImageError
from klock.lockfile.model import PythonLock
from klock.steps.web import chunks_at, fetch_new
from klock.temporary import temporary_folder
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.steps.context import Context
    from klock.steps.locking import Locking
    from klock.workshop.protocol import Workspace

__all__ = ["fetch_archive", "libc_of", "lock_python"]

_MIRROR: Final = "UV_PYTHON_INSTALL_MIRROR"
"""As uv has it: what stands in place of the folder of all releases."""

_RELEASES: Final = re.compile(r"https://.*?/python-build-standalone/releases/download(?=/)")
_LOADERS: Final = {
    "musl": ("/lib/ld-musl-*.so.1",),
    "gnu": ("/lib64/ld-linux-*.so.*", "/lib/ld-linux-*.so.*", "/usr/lib64/ld-linux-*.so.*", "/usr/lib/ld-linux-*.so.*"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Build:
    version: str
    url: str


def lock_python(draft: PythonLock, locking: Locking) -> PythonLock:
    """The draft with its archive: that of the lockfile before, unless everything is upgraded.

    Raises ImageError for a version that nobody built, and for a base without a C library; FetchError.
    """
    context = locking.context
    if not locking.upgrade.everything:
        for step in locking.previous_steps:
            if isinstance(step, PythonLock) and step.version == draft.version:
                return replace(step, variables=draft.variables, layer=draft.layer)
    with locking.workspace() as workspace:
        libc = libc_of(workspace)
    if libc is None:
        raise ImageError(
            f"{locking.at(draft).name}: the base has no C library, which Python needs",
            hint="choose a base with glibc or musl, such as debian or alpine",
        )
    build = _build_of(draft.version, machine=locking.lock.target.machine, libc=libc)
    digest, size = fetch_new(_mirrored(build.url, context), context, task=f"fetch Python {build.version}")
    return replace(draft, found=build.version, url=build.url, sha256=digest.removeprefix("sha256:"), size=size)


def fetch_archive(step: PythonLock, context: Context) -> None:
    """Makes the store have it. Raises FetchError, HashMismatch."""
    from klock.fetching.downloads import Wanted, download

    url = _mirrored(step.url, context)
    wanted = Wanted(
        digest=f"sha256:{step.sha256}", size=step.size, name=step.url, open=functools.partial(chunks_at, url, context)
    )
    download(
        [wanted],
        task=f"fetch Python {step.found}",
        store=context.store,
        offline=context.offline,
        progress=context.progress,
    )


def libc_of(workspace: Workspace) -> str | None:
    """`gnu`, `musl`, or None: by the loader that is there."""
    for name, patterns in _LOADERS.items():
        if workspace.read_matching(patterns):
            return name
    return None


def _build_of(version: str, *, machine: str, libc: str) -> _Build:
    """The newest build of CPython that a version, in full or its first two numbers, names."""
    builds = [
        _Build(version=entry["version"], url=entry["url"])
        for entry in _list_of_uv(version)
        if (entry["implementation"], entry["os"], entry["variant"]) == ("cpython", "linux", "default")
        and (entry["arch"], entry["libc"]) == (machine, libc)
        and f"{entry['version']}.".startswith(f"{version}.")
    ]
    if not builds:
        raise ImageError(
            f"add_python: there is no build of Python {version} for {machine} and {libc}",
            hint="write two or three numbers, such as 3.12 or 3.12.7; a newer uv knows newer versions",
        )
    return max(builds, key=lambda build: [int(n) if n.isdigit() else 0 for n in build.version.split(".")])


def _list_of_uv(version: str) -> Sequence[dict[str, Any]]:
    from klock.packages.uv import fixed_variables
    from klock.uv_program import uv_program
    from klock.workshop.lone import run_alone

    arguments = ["python", "list", version, "--only-downloads", "--all-platforms", "--all-arches", "--all-versions"]
    with temporary_folder("python") as folder:
        for name in ("home", "tmp", "cache"):
            (folder / name).mkdir()
        variables = {**fixed_variables(str(folder)), "UV_PYTHON_DOWNLOADS": "manual", "PATH": ""}
        ended = run_alone(
            uv_program(), [*arguments, "--output-format=json", "--offline"], folder=folder, environment=variables
        )
    if ended is None or ended.status != 0:
        said = "" if ended is None else ended.output.decode("utf-8", "replace").strip()[-300:]
        raise ImageError(f"add_python: uv does not list the builds of Python {version}: {said}", hint="upgrade uv")
    found: list[dict[str, Any]] = json.loads(ended.output)
    return found


def _mirrored(url: str, context: Context) -> str:
    mirror = context.environ.get(_MIRROR, "").rstrip("/")
    return _RELEASES.sub(lambda _: mirror, url, count=1) if mirror else url
