"""Shell text of a command for a build or a pod, with each credential put in where it stands, never as text.

A build takes it from a secret of its own (`--secret id=NAME,env=NAME`) that no layer keeps, a pod from its own variable
NAME.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Final

from klock.pages.page import continued
from klock.secrets.userinfo import USERINFO

__all__ = ["BASH", "command_text", "word_of"]

BASH: Final = "$(command -v /bin/bash || echo /bin/sh)"
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


def command_text(command: str, secrets: Iterable[str], *, build: bool = True) -> str:
    """Shell text that runs `command` under bash, or sh without it."""
    names, hidden = frozenset(secrets), build and bool(secrets)
    if "\n" not in command and not hidden:
        return f"exec {BASH} -c {word_of(command, names, build=build)}"
    script = _SECRET_SCRIPT if hidden else _SCRIPT
    lines = [f"      {word_of(line, names, build=build)}" for line in command.split("\n")]
    before, after = ("umask 077 && ", "umask 022 && ") if hidden else ("", "")
    write = f"{before}printf '%s\\n'"
    return continued([write, *lines, f"      > {script}", f" && {after}{BASH} {script} && rm -f {script}"])


def word_of(text: str, secrets: Iterable[str], *, build: bool) -> str:
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
