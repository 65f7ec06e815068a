"""Which versions the packages of pip steps could have now."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from klock.errors import FetchError, KlockError
from klock.image.install_command import with_install_options
from klock.lockfile.model import LockedPackage, PipLock, TargetLock
from klock.packages.index_pages import IndexPages
from klock.packages.indexes import DEFAULT_INDEX
from klock.packages.newest import admitted_versions, newest_version, python_of
from klock.packages.question import Question
from klock.steps.at import StepAt
from klock.steps.newer import Looking, Newer
from klock.steps.parts import Sort
from klock.steps.pip.credentials import index_credentials
from klock.steps.pip.moved import has_page, index_of
from klock.steps.pip.requests import pip_requests, world_of

if TYPE_CHECKING:
    from klock.asking import Asker
    from klock.store import Store
    from klock.workshop.protocol import Workspace

__all__ = ["newer_packages"]


def newer_packages(at: StepAt[PipLock], looking: Looking) -> Iterator[Newer]:
    """What the step installs and an index has another version of. Packages that are only built with are left out."""
    by_pin = at.lock.packages_by_pin
    packages = [package for pin in at.step.packages if has_page(package := by_pin[pin])]
    admitted = looking.shared((PipLock, at.lock.target), lambda: _admitted(at.lock, looking))
    pages = IndexPages(
        credentials=index_credentials([at], looking.context),
        list_folder=lambda _: [],
        offline=looking.context.offline,
        asker=looking.asker,
    )

    def newest(package: LockedPackage) -> str | None:
        files = pages.files(index_of(package), package.name) or ()
        return newest_version(package.name, files, locked=package.version)

    for package, found in zip(packages, looking.asker.each(newest, packages), strict=True):
        if isinstance(found, KlockError):
            looking.note(f"{package.name}: {found.message}")
            found = None
        yield Newer(
            sort=Sort.PACKAGE,
            name=package.name,
            locked=package.version,
            admitted=admitted.get(package.name),
            newest=found,
        )


def _admitted(lock: TargetLock, looking: Looking) -> Mapping[str, str]:
    """All pip steps are resolved together, as in `klock lock --upgrade`; empty where that takes more than metadata."""
    context = looking.context
    try:
        if lock.interpreter is None:
            return {}
        steps = with_install_options(looking.image.steps, looking.image.install_cmd)
        in_time = _in_time(looking.asker)
        requests = pip_requests(steps, lock, context)
        question = Question(
            requests=tuple(replace(each, environment={**each.environment, **in_time}) for each in requests),
            default_index=context.index_url or DEFAULT_INDEX,
            exclude_newer=context.exclude_newer or looking.image_lock.exclude_newer,
            keep_base=context.keep_base,
        )
        if any(request.projects for request in question.requests):
            looking.note("klock did not ask which versions the requirements admit: a local project has some of them")
            return {}
        python = python_of(lock.interpreter, machine=lock.target.machine)
        world = world_of(context, workspace=_nowhere(context.store), python=python)
        return admitted_versions(question, world)
    except FetchError:
        raise
    except KlockError as error:
        looking.note(f"which versions the requirements admit is not known: {error.message}")
        return {}


def _in_time(asker: Asker) -> Mapping[str, str]:
    """Variables that make uv ask each server once, and wait no longer than the time that is left."""
    return {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": str(max(1, math.ceil(asker.left)))}


def _nowhere(store: Store) -> Workspace:
    """An environment that nobody has looked into: what is asked does not depend on its files, or is refused."""
    from klock.layers.manifest import Manifest
    from klock.workshop.still import StillWorkshop, StillWorkspace

    workshop = StillWorkshop(
        store, why="the answer depends on files of the environment", hint="run `klock lock --upgrade --dry-run`"
    )
    return StillWorkspace(workshop, "", Manifest(()), {})
