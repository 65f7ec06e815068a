"""Shell steps and services: the command line that runs a command under bash where the image has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from klock.lockfile.model import ShellLock
from klock.workshop.protocol import SCRIPT, Command, Mount, Network, Uplink

__all__ = ["as_docker", "shell_command"]

_LONGEST: Final = 100_000

# The method is called run_bash, so bash where there is one; minimal images have only sh.
_CHOOSE: Final = f"for s in /bin/bash /usr/bin/bash; do [ -x $s ] && exec $s {SCRIPT}; done; exec /bin/sh {SCRIPT}"


def shell_command(
    text: str, *, working_dir: str, user: str, variables: Mapping[str, str], network: Network | Uplink
) -> Command:
    """Shell text, with secrets revealed, as a command in the working directory and by the user of the moment."""
    return Command(
        argv=("/bin/sh", "-c", _CHOOSE),
        environment=variables,
        working_dir=working_dir,
        user=user,
        network=network,
        script=text + "\n",
    )


def as_docker(
    command: Command, text: str, step: ShellLock, mounts: Sequence[Mount], *, secrets: Mapping[str, str]
) -> Command:
    """The same as a Dockerfile's RUN: by its own shell, or without one, and with what it sees besides the tree.

    A command line can be read by everybody and has an end, so a text that is secret, or long, is read from a file.
    """
    given = {m.variable: secrets[m.secret] for m in step.mounts if m.variable and m.secret in secrets}
    command = replace(
        command, environment={**command.environment, **given}, mounts=tuple(mounts), own_tmp=False, script=None
    )
    if step.words:
        return replace(command, argv=step.words)
    if step.is_script:
        return replace(command, argv=(*step.shell, SCRIPT), script=text)
    if step.secrets or len(text) > _LONGEST:
        return replace(command, argv=(*step.shell, f". {SCRIPT}"), script=text)
    return replace(command, argv=(*step.shell, text))
