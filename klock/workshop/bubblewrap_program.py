"""Where bubblewrap is."""

from __future__ import annotations

import os

from klock.errors import EngineError
from klock.workshop.way_out import WAY_OUT

__all__ = ["find_bubblewrap"]


def find_bubblewrap() -> str:
    """The path of the program. Raises EngineError when it is not installed."""
    # Like shutil.which, but importing that takes longer than bubblewrap does.
    for folder in os.get_exec_path():
        program = os.path.join(folder, "bwrap")
        if os.access(program, os.X_OK) and os.path.isfile(program):
            return program
    raise EngineError(
        "bubblewrap (bwrap) is not installed",
        hint=f"run `apt-get install bubblewrap`, or use --here to change the container that klock runs in, {WAY_OUT}",
    )
