"""Instructions that say how later steps and containers run: USER, SHELL, CMD, LABEL, EXPOSE, HEALTHCHECK and others."""

from __future__ import annotations

import re
from typing import Final

from klock.image.dockerfile.parsing import Instruction, triggered
from klock.image.steps import Configure, HealthCheck

__all__ = ["SETTINGS", "configure"]

SETTINGS: Final = frozenset(
    {
        *("CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "SHELL", "STOPSIGNAL"),
        *("USER", "VOLUME"),
    }
)

_UNITS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART: Final = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)"
_DURATION: Final = re.compile(rf"\+?(?:(?:{_PART})+|0)", re.ASCII)
_SHORTEST: Final = 10**6
"""Nanoseconds. docker takes no interval below a millisecond."""
_RETRIES: Final = re.compile(r"\+?\d{1,9}|-0", re.ASCII)


def configure(instruction: Instruction, *, resets_command: bool) -> Configure:
    """`resets_command`: an ENTRYPOINT here takes away the CMD of the base. Raises ImageError."""
    if instruction.name != "HEALTHCHECK":
        instruction.only_flags()
    escape, where, words = instruction.escape, instruction.location, instruction.words
    may_be_empty = instruction.name in ("ONBUILD", "CMD", "ENTRYPOINT")
    if not words and not may_be_empty:
        raise instruction.error(f"{instruction.name} says nothing", hint="write what it is to set, or remove it")
    match instruction.name:
        case "USER":
            return Configure(escape=escape, user=instruction.rest, location=where)
        case "SHELL":
            if not instruction.is_json:
                raise instruction.error("SHELL takes the JSON form only", hint='write SHELL ["/bin/bash", "-c"]')
            return Configure(escape=escape, shell=words, location=where)
        case "CMD":
            shell = () if instruction.is_json else ("command",)
            return Configure(escape=escape, command=_in_its_form(instruction), in_shell=shell, location=where)
        case "ENTRYPOINT":
            shell = () if instruction.is_json else ("entrypoint",)
            return Configure(
                escape=escape,
                entrypoint=_in_its_form(instruction),
                command=() if resets_command else None,
                in_shell=shell,
                location=where,
            )
        case "LABEL":
            return Configure(escape=escape, labels=pairs_of(instruction), location=where)
        case "MAINTAINER":
            return Configure(escape=escape, author=instruction.rest, location=where)
        case "EXPOSE":
            return Configure(escape=escape, ports=words, location=where)
        case "VOLUME":
            volumes = tuple(word.strip() for word in words)
            if "" in volumes:
                raise instruction.error("VOLUME has an empty path", hint="write the path, or remove it")
            return Configure(escape=escape, volumes=volumes, location=where)
        case "STOPSIGNAL":
            return Configure(escape=escape, stop_signal=instruction.rest, location=where)
        case "ONBUILD":
            triggered(instruction.rest, instruction)
            return Configure(escape=escape, on_build=(instruction.rest,), location=where)
    return _health(instruction)


def _in_its_form(instruction: Instruction) -> tuple[str, ...]:
    """The words of CMD and ENTRYPOINT. Without any, the shell form is a command that does nothing."""
    return instruction.words if instruction.is_json else instruction.words or ("",)


def pairs_of(instruction: Instruction) -> tuple[tuple[str, str], ...]:
    """The names and values of ENV and LABEL, which the parser gives in threes, with what stands between."""
    words = instruction.words
    pairs = [(words[n], words[n + 1]) for n in range(0, len(words), 3)]
    if any(not name for name, _ in pairs):
        raise instruction.error(f"{instruction.name} has an empty name", hint="write NAME=value")
    return tuple(pairs)


def _health(instruction: Instruction) -> Configure:
    flags = instruction.only_flags("interval", "timeout", "start-period", "start-interval", "retries")
    kind, *command = instruction.words
    if kind.upper() == "NONE" and not command:
        test: tuple[str, ...] = ("NONE",)
    elif kind.upper() == "CMD" and command:
        test = ("CMD" if instruction.is_json else "CMD-SHELL", *command)
    else:
        meant = "HEALTHCHECK NONE" if kind.upper() in ("NONE", "CMD") else f"HEALTHCHECK CMD {instruction.rest}"[:80]
        raise instruction.error("HEALTHCHECK is neither CMD with a command nor NONE", hint=f"write {meant}")
    times = {name: _duration(flags[name][0], name, instruction) for name in flags if name != "retries"}
    retries = flags.get("retries", ["0"])[0] or "0"
    if not _RETRIES.fullmatch(retries):
        raise instruction.error(f"--retries={retries} is not a number", hint="write for example --retries=3")
    health = HealthCheck(
        test=test,
        interval=times.get("interval", 0),
        timeout=times.get("timeout", 0),
        start_period=times.get("start-period", 0),
        start_interval=times.get("start-interval", 0),
        retries=int(retries),
    )
    return Configure(escape=instruction.escape, health=health, location=instruction.location)


def _duration(text: str, name: str, instruction: Instruction) -> int:
    """Nanoseconds of a duration as Go writes it: `1m30s`."""
    if text and not _DURATION.fullmatch(text):
        raise instruction.error(f"--{name}={text} is not a duration", hint=f"write for example --{name}=30s")
    found = round(sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text)))
    if 0 < found < _SHORTEST:
        raise instruction.error(f"--{name}={text} is shorter than 1ms", hint=f"write for example --{name}=30s")
    return found
