"""An image as Dockerfile text, for people to read. It is written from the steps; klock itself never reads it.

The text is the upstream builder's wherever that is a working Dockerfile. Requirements are quoted for the shell where
they must be (`'numpy>=1.20'`), a command of several lines is a heredoc, and a line break in a value, which a Dockerfile
cannot hold, shows as `\\n`. Credentials show as `***`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import PurePosixPath

from klock.image.steps import (
    AptInstall,
    Base,
    CopyFiles,
    DebianBase,
    LayoutBase,
    PipInstall,
    RegistryBase,
    RunBash,
    SetEnvVars,
    Step,
    SyncPackage,
)
from klock.secrets.masking import mask
from klock.secrets.values import is_secret, may_be_secret

__all__ = ["PIP_COMMAND", "base_text", "contents"]

PIP_COMMAND = "$KT_PIP_INSTALL_CMD"
"""Stands for the installer in the text when the image names none."""


def contents(base: Base | None, steps: Iterable[Step], *, python_path: str | None, install_cmd: str | None) -> str:
    lines = []
    if isinstance(base, DebianBase):
        lines.append(f"# FROM the Debian archive: {' with '.join(filter(None, (base.suite, ' '.join(base.packages))))}")
    elif base is not None:
        lines.append(f"FROM {base_text(base)}")
    if python_path:
        lines.append(f"ENV KT_PYTHON_PATH {python_path}")
    for step in steps:
        lines.extend(_lines(step, install_cmd or PIP_COMMAND))
    return mask("".join(f"{line}\n" for line in lines))


def base_text(base: Base) -> str | None:
    """A base as `from_docker` takes it; None for one that has no reference."""
    match base:
        case RegistryBase():
            return base.reference
        case LayoutBase():
            return f"oci:{base.path}" + (f":{base.tag}" if base.tag else "")
        case DebianBase():
            return None


def _lines(step: Step, install_cmd: str) -> list[str]:
    match step:
        case PipInstall():
            return [_forced(f"RUN {install_cmd} {_for_shell(r)}", step.force) for r in step.requirements]
        case AptInstall():
            packages = shlex.join(step.packages)
            command = f"RUN apt-get update && apt-get install -y --no-install-recommends {packages}"
            return [_forced(command, step.force)]
        case SetEnvVars():
            return [f"ENV {name} {_shown(name, value)}" for name, value in step.variables]
        case RunBash():
            return [_run(step)]
        case CopyFiles():
            dest = step.dest or ("." if step.contents else PurePosixPath(step.source).name)
            return [_forced(f"COPY {_copy_words(step.source, dest)}", step.force)]
        case SyncPackage():
            return [_forced(f"COPY {_copy_words(step.package, step.folder)}", step.force)]


def _shown(name: str, value: str) -> str:
    return "***" if is_secret(name, value) and may_be_secret(value) else value.replace("\n", "\\n")


def _forced(line: str, force: bool) -> str:
    return f"{line} # force" if force else line


def _for_shell(requirement: str) -> str:
    from klock.errors import RequirementError
    from klock.image.requirement_lines import words_of

    try:
        return shlex.join(words_of(requirement))
    except RequirementError:
        return shlex.quote(requirement)


def _run(step: RunBash) -> str:
    if "\n" not in step.command:
        return _forced(f"RUN {step.command}", step.force)
    delimiter = "EOF"
    while delimiter in step.command.splitlines():
        delimiter += "F"
    return f"{_forced(f'RUN <<{delimiter}', step.force)}\n{step.command.rstrip(chr(10))}\n{delimiter}"


def _copy_words(source: str, dest: str) -> str:
    if any(c.isspace() for c in source + dest):
        import json

        return json.dumps([source, dest], ensure_ascii=False)
    return f"{source} {dest}"
