"""The part of an image that a Dockerfile says: what the builder begins with, and adds its own steps to.

It is read again where the same text says something else: on another platform, or once it is known what a base has for
those who build on it (ONBUILD).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from klock.image import arguments
from klock.image.dockerfile import read_dockerfile
from klock.image.dockerfile.reading import ReadStage
from klock.image.steps import Base, ImageStage, Step
from klock.targets import Target
from klock.values import dataclass, field, replace

__all__ = ["DockerfilePart", "Reading", "Triggers", "read_part"]

Triggers = Mapping[str, tuple[str, ...]]
"""The instructions that bases have for those who build on them (ONBUILD), by the bases' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a Dockerfile is read: with which build context, by default its own folder, up to which stage, by default the
    last, with which values of its ARGs, and for which platform, by default this machine's."""

    path: Path
    context: Path | None = None
    stage: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
    triggers: Triggers = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfilePart:
    """What `reading` gave.

    `platform` is the only one that it holds for, if a FROM names one. `context` is relative to the Dockerfile's folder,
    None if it is that folder. `build_args` are those that an ARG asks for, also one that a base has for it (ONBUILD),
    and `unused` are the names of the others. `notes` tell of what is allowed, and often a mistake.
    """

    reading: Reading
    base: Base
    steps: tuple[Step, ...]
    stages: tuple[ImageStage, ...]
    platform: str | None
    context: str | None
    build_args: Mapping[str, str]
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    def on_platform(self, platform: str) -> DockerfilePart:
        """Raises ImageError where it cannot be made there."""
        return read_part(replace(self.reading, platform=platform))

    def with_triggers(self, triggers: Triggers) -> DockerfilePart:
        """Raises ImageError."""
        return read_part(replace(self.reading, triggers=triggers))


def read_part(reading: Reading) -> DockerfilePart:
    """Raises FileNotFoundError, and ImageError with the line for what is not a Dockerfile or cannot be locked."""
    read = read_dockerfile(
        reading.path,
        context=reading.context,
        stage=reading.stage,
        build_args=reading.build_args,
        platform=reading.platform or Target.of_this_machine().platform,
        triggers=reading.triggers,
    )
    folder, context = reading.path.parent.resolve(), (reading.context or reading.path.parent).resolve()
    given = reading.build_args.items()
    return DockerfilePart(
        reading=reading,
        base=_base(read.target),
        steps=tuple(read.target.steps),
        stages=tuple(ImageStage(name=stage.name, base=_base(stage), steps=tuple(stage.steps)) for stage in read.stages),
        platform=read.platform,
        context=None if context == folder else os.path.relpath(context, folder),
        build_args={name: value for name, value in given if name not in read.unused_arguments},
        unused=read.unused_arguments,
        notes=read.notes,
    )


def _base(stage: ReadStage) -> Base:
    return arguments.base("FROM", stage.base, stage.location, keeps_settings=True)
