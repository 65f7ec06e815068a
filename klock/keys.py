"""A step's key: the digest of its own content and of all it builds on. Equal key, equal work: nothing to do.

What it builds on enters by *result* (the layers below, the variables so far), not by text, so a step that was changed
and makes the same layer as before costs the later ones nothing. Keys are computed, never stored in the lockfile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from klock.digests import Digest, digest_of_json
from klock.lockfile.codec import encode
from klock.lockfile.model import (
    AptLock,
    EnvLock,
    FilesLock,
    ImageLock,
    LockedPackage,
    PipLock,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
)

__all__ = ["step_key", "step_keys"]


def step_keys(
    target: TargetLock, *, image: ImageLock, normalisation: int, drafted: bool = False
) -> list[Digest | None]:
    """The key of each step of `target`; None for steps that make no layer.

    With `drafted` it is the key that the step had before it ran, when nobody knew yet what a shell step would fetch.
    """
    keys: list[Digest | None] = []
    variables = dict(target.base.environment)
    layers: list[Digest] = []
    packages = target.packages_by_pin
    for step in target.steps:
        if isinstance(step, EnvLock):
            variables.update((v.name, v.value) for v in step.variables)
            keys.append(None)
        elif isinstance(step, ServiceLock):
            keys.append(None)
        else:
            keys.append(
                step_key(
                    replace(step, requests=(), unknown_hosts=()) if drafted and isinstance(step, ShellLock) else step,
                    below=[f"normalisation {normalisation}", target.base.id, target.base.user, *layers],
                    variables=variables,
                    working_dir=target.base.working_dir,
                    packages=packages,
                    image=image,
                )
            )
            layers.append(step.layer.digest)
    return keys


def step_key(
    step: StepLock,
    *,
    below: Sequence[str],
    variables: Mapping[str, str],
    working_dir: str,
    packages: Mapping[str, LockedPackage],
    image: ImageLock,
) -> Digest:
    """The key of one step over what lies `below` it. The step's own layer takes no part."""
    return digest_of_json([list(below), _content(step, variables, working_dir, packages, image)])


def _content(
    step: StepLock,
    variables: Mapping[str, str],
    working_dir: str,
    packages: Mapping[str, LockedPackage],
    image: ImageLock,
) -> list[Any]:
    match step:
        case PipLock():
            return [
                "pip_install",
                image.python_path,
                image.install_cmd,
                [encode(packages[pin].artifact) for pin in step.packages],
                [encode(p) for p in step.projects],
                step.force,
            ]
        case AptLock():
            return ["apt_install", list(step.packages), [encode(d) for d in step.debs]]
        case FilesLock():
            return ["copy", step.destination, step.tree, step.path_file, list(step.import_paths)]
        case ShellLock():
            network = [[encode(request) for request in step.requests], list(step.unknown_hosts)]
            ways = [list(step.leave_out), step.keep_layer, list(step.private_urls)]
            return ["run_bash", step.command, ways, working_dir, sorted(variables.items()), network]
        case EnvLock() | ServiceLock():
            raise TypeError(f"{type(step).__name__} makes no layer")
