"""Shell steps and services in a Dockerfile.

A command runs as in klock, under bash where the image has it. What it fetches no Dockerfile can pin. A credential is
never text here: a build takes it from a secret of its own (`--secret id=NAME,env=NAME`) that no layer keeps, a pod from
its own variable NAME.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Final

from klock.export.page import Form, Page, continued
from klock.lockfile.model import LockedVariable, ServiceLock, ShellLock
from klock.secrets.userinfo import USERINFO

__all__ = ["START", "start_script", "write_service", "write_shell_step"]

START: Final = "/usr/local/lib/klock/start"
"""The program that starts the services and then becomes the container's command."""

_BASH: Final = "$(command -v /bin/bash || echo /bin/sh)"
_SCRIPT: Final = "/tmp/klock-step"
_SECRET_SCRIPT: Final = "/dev/shm/klock-step"  # memory, so it cannot be forgotten in a layer
# What a credential must not have in a URL (RFC 3986, 3.2.1), percent-encoded as klock itself does it.
_ENCODE: Final = "sed " + " ".join(
    f"-e {shlex.quote(f's/{plain}/%{code:02X}/g')}"
    for plain, code in (
        ("%", 0x25),
        *((rf"\{c}" if c in r".[]\*^$/" else c, ord(c)) for c in ' "#/:<>?@[\\]^`{|}'),
    )
)


def write_shell_step(page: Page, step: ShellLock, *, variables: Mapping[str, LockedVariable]) -> None:
    """Adds a shell step; `variables` are those with credentials that it sees."""
    page.become(page.user)
    if step.requests:
        count = len(step.requests)
        page.comment(
            f"NOT PINNED HERE: {count} {'answer' if count == 1 else 'answers'} from the network that klock has locked"
        )
    names = sorted({*step.secrets, *(name for variable in variables.values() for name in variable.secrets)})
    if page.form is Form.KUBETORCH:
        page.run(_command(step.command, step.secrets, build=False))
        return
    mounts = "".join(f"--mount=type=secret,id={name},required=true " for name in names)
    exports = [f"export {v.name}={_words(v.value, v.secrets, build=True)}" for v in variables.values()]
    # podman gives an empty file for a secret that it cannot read.
    tests = [f"test -s /run/secrets/{name}" for name in names]
    commands = [*(f"{command} &&" for command in (*tests, *exports)), _command(step.command, step.secrets)]
    page.run(continued(commands), flags=mounts)


def write_service(page: Page, step: ServiceLock) -> None:
    """Adds a service where the reader starts it itself: kubetorch runs a command that ends in `&` in the background."""
    assert page.form is Form.KUBETORCH
    page.add(f"RUN {_command(_foreground(step.command), step.secrets, build=False)} &")


def start_script(services: Iterable[ServiceLock]) -> bytes:
    """A program that starts the services in the background and then runs its arguments in its own place."""
    lines = ["#!/bin/sh", f"shell={_BASH}"]
    for service in services:
        text = _words(_foreground(service.command), service.secrets, build=False)
        lines.append(f"$shell -c {text} </dev/null >/dev/null 2>&1 &")
    return "".join(f"{line}\n" for line in [*lines, 'exec "$@"']).encode()


def _foreground(command: str) -> str:
    return command.rstrip().removesuffix("&").rstrip()


def _command(command: str, secrets: Iterable[str], *, build: bool = True) -> str:
    """Shell text that runs `command` under bash, or sh without it."""
    names, hidden = frozenset(secrets), build and bool(secrets)
    if "\n" not in command and not hidden:
        return f"exec {_BASH} -c {_words(command, names, build=build)}"
    script = _SECRET_SCRIPT if hidden else _SCRIPT
    lines = [f"      {_words(line, names, build=build)}" for line in command.split("\n")]
    before, after = ("umask 077 && ", "umask 022 && ") if hidden else ("", "")
    write = f"{before}printf '%s\\n'"
    return continued([write, *lines, f"      > {script}", f" && {after}{_BASH} {script} && rm -f {script}"])


def _words(text: str, secrets: Iterable[str], *, build: bool) -> str:
    """`text` as one word of sh, with each credential that it names put in where it stands."""
    names = sorted(set(secrets))
    if not names:
        return shlex.quote(text)
    pattern = re.compile(rf"\$\{{({'|'.join(map(re.escape, names))})\}}")
    in_urls = [match.span("userinfo") for match in USERINFO.finditer(text)]
    parts, end = [], 0
    for match in pattern.finditer(text):
        if literal := text[end : match.start()]:
            parts.append(shlex.quote(literal))
        encoded = any(start <= match.start() < stop for start, stop in in_urls)
        parts.append(_value(match[1], build=build, encoded=encoded))
        end = match.end()
    if literal := text[end:]:
        parts.append(shlex.quote(literal))
    return "".join(parts) or "''"


def _value(name: str, *, build: bool, encoded: bool) -> str:
    if build:
        return f'"$({_ENCODE} /run/secrets/{name})"' if encoded else f'"$(cat /run/secrets/{name})"'
    return f'"$(printf %s "${name}" | {_ENCODE})"' if encoded else f'"${{{name}}}"'
