"""What every engine says of a working directory that somebody asked for and that is not there."""

from __future__ import annotations

from klock.errors import EngineError

__all__ = ["missing_working_dir"]


def missing_working_dir(path: str) -> EngineError:
    return EngineError(
        f"there is no folder {path} in the environment to work in",
        hint=f"make it in a step of the image, or show one there: --mount ./FOLDER:{path}",
    )
