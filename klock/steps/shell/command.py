"""Shell steps and services: the command line that runs a command under bash where the image has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from klock.lockfile.model import BaseLock
from klock.workshop.protocol import SCRIPT, Command, Network, Uplink

__all__ = ["shell_command"]

# The method is called run_bash, so bash where there is one; minimal images have only sh.
_CHOOSE: Final = f"for s in /bin/bash /usr/bin/bash; do [ -x $s ] && exec $s {SCRIPT}; done; exec /bin/sh {SCRIPT}"


def shell_command(text: str, *, base: BaseLock, variables: Mapping[str, str], network: Network | Uplink) -> Command:
    """Shell text, with secrets revealed, as a command in the image's own working directory and by its user."""
    return Command(
        argv=("/bin/sh", "-c", _CHOOSE),
        environment=variables,
        working_dir=base.working_dir,
        user=base.user,
        network=network,
        script=text + "\n",
    )
