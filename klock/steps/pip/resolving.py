"""Resolving all pip steps of a target together, before the first of them is made, in the environment it will find."""

from __future__ import annotations

from dataclasses import replace

from klock.image.install_command import with_install_options
from klock.lockfile.model import PipLock
from klock.packages.indexes import DEFAULT_INDEX
from klock.packages.question import Question, World
from klock.packages.resolution import resolve
from klock.steps import kind_of
from klock.steps.locking import Locking
from klock.steps.pip.credentials import netrc_of
from klock.steps.pip.requests import pip_positions, pip_requests

__all__ = ["resolve_all"]


def resolve_all(locking: Locking) -> dict[int, PipLock]:
    """The completed pip steps by position. The interpreter and the packages are put into `locking.lock`."""
    return _keep(locking) or _resolve(locking)


def _keep(locking: Locking) -> dict[int, PipLock] | None:
    """The previous lockfile's resolution, if the same was asked for in the same environment."""
    previous = locking.previous
    if previous is None or locking.upgrade or locking.previous_image != locking.image_lock:
        return None
    old = [(n, step) for n, step in enumerate(previous.steps) if isinstance(step, PipLock)]
    new = [(n, step) for n, step in enumerate(locking.drafts) if isinstance(step, PipLock)]
    if not old or [kind_of(step).as_draft(step) for _, step in old] != [step for _, step in new]:
        return None
    if any(step.projects for _, step in old) or previous.base != locking.lock.base:
        return None
    if locking.context.keep_base and any(package.replaces is not None for package in previous.packages):
        return None
    before = replace(previous, steps=previous.steps[: old[0][0]])
    if before.layers != locking.lock.layers or before.environment != locking.lock.environment:
        return None
    locking.lock = replace(locking.lock, interpreter=previous.interpreter, packages=previous.packages)
    return {position: step for (position, _), (_, step) in zip(new, old, strict=True)}


def _resolve(locking: Locking) -> dict[int, PipLock]:
    context, steps = locking.context, locking.image.steps
    drafted = replace(locking.lock, steps=locking.drafts)
    requests = pip_requests(with_install_options(steps, locking.image.install_cmd), drafted, context)
    with locking.workspace() as workspace:
        python = locking.probe(workspace, locking.drafts[locking.position])
        question = Question(
            requests=tuple(requests),
            previous=() if locking.previous is None else locking.previous.packages,
            upgrade=locking.upgrade.everything,
            upgrade_packages=locking.upgrade.packages,
            default_index=context.index_url or DEFAULT_INDEX,
            exclude_newer=locking.image_lock.exclude_newer,
            keep_base=context.keep_base,
        )
        world = World(
            workspace=workspace,
            python=python,
            store=context.store,
            netrc=netrc_of(context.environ),
            ca_bundle=context.mirrors.ca_bundle,
            local_hosts=context.local_hosts,
            environ=context.environ,
            mirrors=context.index_mirrors,
            offline=context.offline,
            progress=context.progress,
        )
        resolution = resolve(question, world)
    for warning in resolution.warnings:
        context.progress.warn(warning)
    packages = tuple(sorted(resolution.packages, key=lambda package: (package.name, package.version)))
    locking.lock = replace(locking.lock, interpreter=python.interpreter, packages=packages)
    resolved = {}
    for position, pins, projects in zip(pip_positions(steps), resolution.steps, resolution.projects, strict=True):
        draft = locking.drafts[position]
        assert isinstance(draft, PipLock)
        resolved[position] = replace(draft, packages=pins, projects=projects)
    return resolved
