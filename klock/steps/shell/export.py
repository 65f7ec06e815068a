"""A shell step in a Dockerfile: a command that runs as in klock. What it fetches no Dockerfile can pin."""

from __future__ import annotations

from collections.abc import Mapping

from klock.lockfile.model import LockedVariable, ShellLock
from klock.pages.page import Form, Page, continued
from klock.pages.shell_text import command_text, word_of
from klock.words import counted

__all__ = ["write_shell_step"]


def write_shell_step(page: Page, step: ShellLock, *, variables: Mapping[str, LockedVariable]) -> None:
    """Adds a shell step; `variables` are those with credentials that it sees."""
    page.become(page.user)
    if step.requests:
        count = len(step.requests)
        page.comment(f"NOT PINNED HERE: {counted(count, 'answer')} from the network that klock has locked")
    names = sorted({*step.secrets, *(name for variable in variables.values() for name in variable.secrets)})
    if page.form is Form.KUBETORCH:
        page.run(command_text(step.command, step.secrets, build=False))
        return
    mounts = "".join(f"--mount=type=secret,id={name},required=true " for name in names)
    exports = [f"export {v.name}={word_of(v.value, v.secrets, build=True)}" for v in variables.values()]
    # podman gives an empty file for a secret that it cannot read.
    tests = [f"test -s /run/secrets/{name}" for name in names]
    commands = [*(f"{command} &&" for command in (*tests, *exports)), command_text(step.command, step.secrets)]
    page.run(continued(commands), flags=mounts)
