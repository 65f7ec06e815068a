"""What the pip steps of an image ask of resolution: each step's requirements with the variables it sees."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klock.errors import RequirementError
from klock.image.requirement_files import read_requirements
from klock.image.requirements import PathRequirement
from klock.image.steps import PipInstall, Step
from klock.lockfile.model import StepLock, TargetLock
from klock.packages.pytorch import with_index
from klock.packages.request import LocalProjectSource, PipRequest, RequestSteering, ScopedRequirement
from klock.steps import kind_of
from klock.steps.context import Context
from klock.steps.pip.credentials import index_names

if TYPE_CHECKING:
    from klock.packages.interpreter import TargetPython
    from klock.packages.question import World
    from klock.workshop.protocol import Workspace

__all__ = ["pip_positions", "pip_requests", "world_of"]

_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def pip_positions(steps: Sequence[Step]) -> list[int]:
    """The positions of the pip steps among all steps, in order."""
    return [position for position, step in enumerate(steps) if isinstance(step, PipInstall)]


def world_of(
    context: Context, *, workspace: Workspace, python: TargetPython, environment: tuple[str, ...] = ()
) -> World:
    """What resolution has at hand in an environment: see `World`."""
    from klock.packages.credentials import netrc_of
    from klock.packages.question import World

    return World(
        workspace=workspace,
        python=python,
        store=context.store,
        environment=environment,
        netrc=netrc_of(context.environ),
        ca_bundle=context.mirrors.ca_bundle,
        local_hosts=context.local_hosts,
        environ=context.environ,
        mirrors=context.index_mirrors,
        offline=context.offline,
        progress=context.progress,
    )


def pip_requests(steps: Sequence[Step], drafted: TargetLock, context: Context) -> list[PipRequest]:
    """One request for each pip step, in order. `drafted` holds the drafts of all steps.

    Raises RequirementError for a local project that no earlier step puts where it is named.
    """
    requests: list[PipRequest] = []
    positions = pip_positions(steps)
    for position in positions:
        step = steps[position]
        assert isinstance(step, PipInstall)
        inputs = read_requirements(step, context.root, context.environ)
        for package in inputs.left_out:
            context.progress.warn(
                f"{package} is a folder or a file of the project, and is not installed: copy it with rsync() and "
                "install its path"
            )
        for note in inputs.notes:
            context.progress.warn(note)
        requirements: list[ScopedRequirement] = []
        projects: list[LocalProjectSource] = []
        for parsed in inputs.requirements:
            if isinstance(parsed, PathRequirement) and not parsed.path.endswith(_ARCHIVES):
                path = posixpath.normpath(posixpath.join("/", drafted.base.working_dir, parsed.path))
                projects.append(
                    LocalProjectSource(
                        path=path,
                        source=_host_folder(parsed, path, drafted.steps[:position], context.sources),
                        origin=parsed.where,
                        extras=parsed.extras,
                        editable=parsed.editable,
                    )
                )
            else:
                requirements.append(with_index(ScopedRequirement.of(parsed), context.pytorch_index(drafted.target)))
        at = context.at(drafted, position)
        requests.append(
            PipRequest(
                requirements=tuple(requirements),
                constraints=tuple(ScopedRequirement.of(parsed) for parsed in inputs.constraints),
                projects=tuple(projects),
                environment=at.variables(context.environ),
                secret_variables=at.secret_variables,
                base=dict(drafted.base.environment),
                force=step.force,
                keeps_layer=step.keep_layer,
                stands_apart=bool(requests) and position != positions[len(requests) - 1] + 1,
                steering=tuple(map(RequestSteering.of, inputs.steering)),
                index_names=index_names(at.step, context.root),
            )
        )
    return requests


def _host_folder(parsed: PathRequirement, path: str, before: Sequence[StepLock], sources: Mapping[int, Path]) -> Path:
    """The host folder whose files an earlier copy step places at `path` in the environment."""
    for position in range(len(before) - 1, -1, -1):
        place = kind_of(before[position]).copies_to(before[position])
        if place is None or position not in sources:
            continue
        inside = posixpath.relpath(path, place)
        folder = sources[position] / inside
        if not inside.startswith("..") and folder.is_dir():
            return folder
    if parsed.name is not None:
        raise RequirementError(
            f"{parsed.where}: {parsed.name} @ file://{path}: no earlier step copies a project there. `pip freeze` "
            "writes such a line of a package that was built in that folder, on another machine, as conda's are",
            hint=f"write its version instead: {parsed.name}==VERSION; `pip list --format=freeze` prints all lines so",
        )
    raise RequirementError(
        f"{parsed.where}: no earlier step copies a project to {path}",
        hint=f"put rsync(..., {path!r}, contents=True) before it, or install it in a run_bash step",
    )
