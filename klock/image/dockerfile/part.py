"""The part of an image that comes from a Dockerfile. The builder begins with it, and adds its own steps.

klock reads the same text again if it then means something else: on another platform, or once klock knows the triggers
of a base (ONBUILD).
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
"""The triggers of bases (ONBUILD), by the bases' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a Dockerfile is read. By default `context` is its own folder, `stage` is the last one, and `platform` is this
    machine's."""

    path: Path
    context: Path | None = None
    stage: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
    triggers: Triggers = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfilePart:
    """What `reading` gave.

    If a FROM names a platform, `platform` is the only one that the image is for. `context` is relative to the
    Dockerfile's folder, None if it is that folder. `build_args` are those that an ARG asks for, also an ARG in a base's
    trigger; `unused` names the others. `notes` are about what is allowed, but often a mistake.
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
        """The same for a platform. Raises ImageError if it cannot be made there."""
        return read_part(replace(self.reading, platform=platform))

    def with_triggers(self, triggers: Triggers) -> DockerfilePart:
        """The same with the triggers of its bases. Raises ImageError."""
        return read_part(replace(self.reading, triggers=triggers))


def read_part(reading: Reading) -> DockerfilePart:
    """Reads a Dockerfile. Raises FileNotFoundError, and ImageError with the line of what klock cannot read or lock."""
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
