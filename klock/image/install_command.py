"""`Image(install_cmd=...)`: the options of the user's own installer hold for every requirement.

The locked files are installed by uv in any case; what an install command can change is what gets locked: its indexes,
pre-releases, builds. `uv pip install --system --pre` makes each line of `pip_install` begin with `--system --pre`.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from klock.errors import ImageError
from klock.image.steps import PipInstall, Step

__all__ = ["with_install_options"]


def with_install_options(steps: tuple[Step, ...], install_cmd: str | None) -> tuple[Step, ...]:
    """The steps, each requirement line with the options of `install_cmd` before it. Raises ImageError."""
    options = _options(install_cmd) if install_cmd else ""
    if not options:
        return steps
    return tuple(
        replace(step, requirements=tuple(f"{options} {line}" for line in step.requirements))
        if isinstance(step, PipInstall)
        else step
        for step in steps
    )


def _options(install_cmd: str) -> str:
    hint = "write for example install_cmd='uv pip install --system'"
    try:
        words = shlex.split(install_cmd)
    except ValueError as error:
        raise ImageError(f"install_cmd: a quote is not closed: {install_cmd!r}", hint=hint) from error
    if "install" not in words:
        raise ImageError(f"install_cmd is not an install command: {install_cmd!r}", hint=hint)
    return shlex.join(words[words.index("install") + 1 :])
