"""A Dockerfile's stages: where each begins, what it builds on, and which of them a target needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from klock.errors import ImageError
from klock.image.dockerfile.arguments import global_arguments
from klock.image.dockerfile.expansion import Expansion
from klock.image.dockerfile.parsing import Instruction
from klock.values import dataclass

__all__ = ["Stage", "find_stage", "stages_of"]

_GAP: Final = re.compile(r"^[:/@]|(?<!:)//|[:@]{2}|[:/@]$")
"""In a reference that lacks a part."""
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]*")


@dataclass(slots=True, kw_only=True)
class Stage:
    """`base` is FROM's reference, expanded; `parent` the stage that it names, if it names one. `instructions` are those
    below FROM, `arguments` what was declared before all stages. `elsewhere` is another platform than the image's that
    FROM names: nobody may need the stage then."""

    number: int
    name: str | None
    base: str
    parent: Stage | None
    start: Instruction
    arguments: Mapping[str, str]
    elsewhere: str = ""
    is_shadowed: bool = False
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What no other stage is called: its name, or the number of one whose name a later stage has too."""
        return str(self.number) if self.name is None or self.is_shadowed else self.name


def stages_of(
    instructions: Sequence[Instruction], file: Path, *, given: Mapping[str, str], platform: str
) -> list[Stage]:
    """Raises ImageError."""
    first = next((n for n, each in enumerate(instructions) if each.name == "FROM"), None)
    if first is None:
        raise ImageError(f"{file.name} has no FROM", hint="begin it with FROM and an image")
    for instruction in instructions[:first]:
        if instruction.name != "ARG":
            raise instruction.error(f"{instruction.name} is before FROM", hint="only ARG may be there")
    arguments = global_arguments(list(instructions[:first]), given, platform=platform)
    stages: list[Stage] = []
    for instruction in instructions[first:]:
        if instruction.name == "FROM":
            new = _stage(instruction, stages, arguments, platform)
            for stage in stages:
                stage.is_shadowed = stage.is_shadowed or (stage.name is not None and stage.name == new.name)
            stages.append(new)
        else:
            stages[-1].instructions.append(instruction)
    return stages


def find_stage(name: str, stages: Sequence[Stage]) -> Stage | None:
    """The stage of that name, whatever its case, or with that number; the last of a name."""
    named = [stage for stage in stages if stage.name == name.lower()]
    if named:
        return named[-1]
    return stages[int(name)] if name.isdigit() and int(name) < len(stages) else None


def target_stage(name: str | None, stages: Sequence[Stage], file: Path) -> Stage:
    """The stage of an image: the last one, unless it is named. Raises ImageError."""
    if name is None:
        return stages[-1]
    found = find_stage(name, stages)
    if found is None:
        names = [stage.name for stage in stages if stage.name]
        hint = f"its stages are {', '.join(names)}" if names else "none of its stages has a name: FROM x AS name"
        raise ImageError(f"{file.name} has no stage {name!r}", hint=hint)
    return found


def _stage(instruction: Instruction, before: Sequence[Stage], arguments: Mapping[str, str], platform: str) -> Stage:
    expansion = Expansion(escape=instruction.escape, variables=arguments)
    flags = instruction.only_flags("platform")
    words = instruction.words
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise instruction.error("FROM takes an image, and perhaps AS and a name", hint=_from_that_was_meant(words))
    try:
        base = expansion.word(words[0])
        wanted = expansion.word(flags["platform"][0]) if "platform" in flags else platform
    except ImageError as error:
        raise instruction.error(error.message, hint=error.hint) from error
    if not base.strip() or ("$" in words[0] and _GAP.search(base)):
        raise instruction.error(
            f"FROM {words[0]} is {repr(base) if base.strip() else 'empty'}: its variable is not set",
            hint="give ARG a default before FROM, or a value: --build-arg NAME=value",
        )
    name = words[2].lower() if len(words) == 3 else None
    if name is not None and not _NAME.fullmatch(name):
        raise instruction.error(f"{words[2]!r} is not a valid stage name", hint="begin it with a letter")
    if not wanted:
        raise instruction.error(
            f"FROM --platform={flags['platform'][0]} is empty: its variable is not set", hint="remove --platform"
        )
    # A number is an image's name here.
    parent = None if base.isdigit() else find_stage(base, before)
    is_here = f"{wanted}/".startswith(f"{platform}/")
    return Stage(
        number=len(before),
        name=name,
        base=base,
        parent=parent,
        start=instruction,
        arguments=dict(arguments),
        elsewhere="" if is_here else wanted,
    )


def _from_that_was_meant(words: Sequence[str]) -> str:
    if len(words) != 2:
        return "write FROM python:3.12 AS name"
    image, name = words[0].rstrip(":"), words[1]
    has_tag = ":" in image.rpartition("/")[2]
    return f"write FROM {image} AS {name}" + ("" if has_tag else f" for a name, or {image}:{name} for a tag")
