"""Shell steps and services: the command line that runs a command under bash where the image has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from klock.lockfile.model import BaseLock, ServiceLock, ShellLock
from klock.workshop.protocol import SCRIPT, Command, Network, Uplink

__all__ = ["service_command", "shell_command"]

# The method is called run_bash, so bash where there is one; minimal images have only sh.
_CHOOSE: Final = f"for s in /bin/bash /usr/bin/bash; do [ -x $s ] && exec $s {SCRIPT}; done; exec /bin/sh {SCRIPT}"


def shell_command(
    step: ShellLock, command: str, *, base: BaseLock, variables: Mapping[str, str], network: Network | Uplink
) -> Command:
    """The step as a command; `command` is its text with secrets revealed."""
    return _command(command, base, variables, network)


def service_command(step: ServiceLock, command: str, *, base: BaseLock, variables: Mapping[str, str]) -> Command:
    """The service in the foreground: its final `&` is dropped, since klock itself watches it."""
    return _command(command.rstrip().removesuffix("&").rstrip(), base, variables, Network.HOST)


def _command(text: str, base: BaseLock, variables: Mapping[str, str], network: Network | Uplink) -> Command:
    return Command(
        argv=("/bin/sh", "-c", _CHOOSE),
        environment=variables,
        working_dir=base.working_dir,
        user=base.user,
        network=network,
        script=text + "\n",
    )
