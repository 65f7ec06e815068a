"""The project that a command line is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klock.api import Project
    from klock.progress import Progress

__all__ = ["open_project"]


def open_project(
    image: str | None,
    *,
    engine: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
    build_args: Mapping[str, str | None] | None = None,
    context: str | None = None,
) -> Project:
    """The project that the command line names. klock tells on stderr what it chooses for the user."""
    from klock.api import Project
    from klock.commands.terminal import Notes
    from klock.session import Options

    options = Options(offline=offline, progress=progress or Notes())
    if engine is not None:
        options["engine"] = engine
    if build_args:
        options["build_args"] = build_args
    if context is not None:
        options["context"] = context
    return Project(image, **options)
