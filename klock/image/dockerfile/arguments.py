"""Arguments of a build: those that were given, those declared before the first FROM, and the predefined ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from klock.image.dockerfile.expansion import Expansion
from klock.image.dockerfile.parsing import Instruction
from klock.image.steps import Argument

__all__ = ["PLATFORM", "PREDEFINED", "argument_of", "global_arguments", "platform_arguments"]

PREDEFINED: Final = frozenset(
    name
    for base in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (base, base.lower())
)
"""Arguments that need no ARG. klock's steps have a network of their own, so that a proxy means nothing to them."""

PLATFORM: Final = tuple(
    f"{where}{what}" for where in ("TARGET", "BUILD") for what in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
"""Arguments that FROM knows without an ARG, and a stage with one."""


def platform_arguments(platform: str) -> dict[str, str]:
    """Those of `linux/amd64`. An image is made where it will run, so the build's platform is the target's."""
    os, architecture, *variant = platform.split("/")
    values = {"PLATFORM": platform, "OS": os, "ARCH": architecture, "VARIANT": variant[0] if variant else ""}
    return {f"{where}{what}": value for where in ("TARGET", "BUILD") for what, value in values.items()}


def global_arguments(instructions: list[Instruction], given: Mapping[str, str], *, platform: str) -> dict[str, str]:
    """What ARG instructions before the first FROM declare, with their values; FROM may use them."""
    values = platform_arguments(platform)
    for instruction in instructions:
        for argument in argument_of(instruction, given):
            if argument.given is not None:
                values[argument.name] = argument.given
            elif argument.default is not None:
                expansion = Expansion(escape=instruction.escape, variables=values)
                values[argument.name] = expansion.word(argument.default)
    return values


def argument_of(instruction: Instruction, given: Mapping[str, str]) -> list[Argument]:
    """The arguments that an ARG declares. Raises ImageError."""
    instruction.only_flags()
    if not instruction.words:
        raise instruction.error("ARG names no argument", hint="write ARG NAME or ARG NAME=default")
    found = []
    for word in instruction.words:
        name, equals, default = word.partition("=")
        if not name:
            raise instruction.error(f"ARG {word} has no name", hint="write ARG NAME=default")
        found.append(Argument(name=name, default=default if equals else None, given=given.get(name)))
    return found
