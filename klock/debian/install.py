"""`apt_install`: packages resolved against an environment's own apt sources, locked by hash, installed offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from klock.debian.apt_in_environment import AptInEnvironment, OnOutput
from klock.debian.dpkg_status import STATUS_FILE, installed_packages
from klock.debian.fetch import fetch_debs as fetch
from klock.errors import FetchError, HashMismatch, ResolutionError, StepFailed
from klock.fetching.mirrors import Mirrors
from klock.lockfile.model import DebPackage
from klock.progress import Progress, Quiet
from klock.recorder import Passes
from klock.store import Store
from klock.words import first_of
from klock.workshop.protocol import Workspace

__all__ = ["fetch_debs", "install_apt", "resolve_apt"]


def resolve_apt(
    packages: Sequence[str],
    workspace: Workspace,
    *,
    environment: Mapping[str, str],
    store: Store,
    passes: Passes | None = None,
    mirrors: Mirrors | None = None,
    previous: Sequence[DebPackage] = (),
    offline: bool = False,
    progress: Progress | None = None,
    where: str = "",
) -> tuple[DebPackage, ...]:
    """The .debs that `packages` need in this environment, sorted by name; none for what is installed already.

    Those of `previous` are kept as far as they still do: all of them if they are enough (no network is used then), else
    as preferences. Give none to upgrade. `where` names the step, such as `step 2 (kimage.py:7)`.

    `passes` is the way to the sources; by default to any that is not on this machine. The workspace is left as it was.

    Raises ResolutionError for an unknown package or a conflict, FetchError when the sources or a .deb cannot be had,
    ImageError for an image without apt.
    """
    mirrors, progress = mirrors or Mirrors(), progress or Quiet()
    prefix = f"{where}: " if where else ""
    apt = AptInEnvironment(
        workspace=workspace,
        environment=environment,
        store=store,
        mirrors=mirrors,
        where=prefix,
        passes=passes or Passes(store=store),
    )
    known = _still_there(previous, store=store, mirrors=mirrors, offline=offline, progress=progress)
    if known or offline:
        try:
            return apt.resolve(packages, known=known, own_sources=False)
        except ResolutionError:
            if offline:
                raise FetchError(
                    f"{prefix}packages cannot be resolved offline: {', '.join(packages)}",
                    hint="run the command once without --offline",
                ) from None
    if known:
        try:
            return apt.resolve(packages, known=known, own_sources=True)
        except ResolutionError:
            # The old versions stand in the way of the new list. Without them it may be possible, or say why not.
            progress.warn(f"{prefix}the locked versions no longer fit the other packages; apt chooses new ones")
    return apt.resolve(packages, known=(), own_sources=True)


def fetch_debs(
    debs: Sequence[DebPackage],
    *,
    store: Store,
    mirrors: Mirrors | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> None:
    """Brings locked .debs into the store, verified. Raises FetchError, HashMismatch."""
    fetch(
        debs,
        task="fetch Debian packages",
        store=store,
        mirrors=mirrors or Mirrors(),
        offline=offline,
        progress=progress or Quiet(),
    )


def install_apt(
    workspace: Workspace,
    packages: Sequence[str],
    debs: Sequence[DebPackage],
    *,
    store: Store,
    environment: Mapping[str, str],
    on_output: OnOutput | None = None,
    where: str = "",
) -> None:
    """Installs locked .debs, all in the store, with no network: those and no other versions.

    Only `packages`, what was asked for, are marked as such; the others go when nothing needs them (apt-mark(8)). No
    list, no cache, no started service is left. Raises StepFailed.
    """
    prefix = f"{where}: " if where else ""
    apt = AptInEnvironment(workspace=workspace, environment=environment, store=store, mirrors=Mirrors(), where=prefix)
    apt.install(packages, debs, on_output=on_output)
    status = workspace.read(STATUS_FILE) or b""
    installed = {(package.name, package.version, package.architecture) for package in installed_packages(status)}
    missing = [deb for deb in debs if (deb.name, deb.version, deb.architecture) not in installed]
    if missing:
        names = first_of(f"{deb.name} {deb.version}" for deb in missing)
        raise StepFailed(f"{prefix}apt did not install what is locked: {names}", hint="lock again")


def _still_there(
    previous: Sequence[DebPackage], *, store: Store, mirrors: Mirrors, offline: bool, progress: Progress
) -> tuple[DebPackage, ...]:
    """Those of the previous lock that can be had: a .deb that upstream has dropped is no reason to fail a new lock."""
    for deb in previous:
        try:
            fetch(
                [deb],
                task=f"fetch {deb.name}",
                store=store,
                mirrors=mirrors,
                offline=offline,
                progress=progress,
            )
        except HashMismatch:
            # Not gone but changed: that is never passed over.
            raise
        except FetchError as error:
            progress.warn(error.message)
    return tuple(deb for deb in previous if store.find_blob(f"sha256:{deb.sha256}"))
