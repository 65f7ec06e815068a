"""Reads a Dockerfile with docker's meaning (the Dockerfile reference), as BuildKit reads it.

text -> instructions (`parsing`) -> stages (`stages`) -> steps (`reading`). Variables are expanded later, when the base
image and with it their values are known (`expansion`); only FROM's are expanded here. docs/dockerfile.md says what
klock does in another way, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from klock.errors import ImageError
from klock.image.dockerfile.arguments import PLATFORM, PREDEFINED
from klock.image.dockerfile.mistakes import likely_mistakes
from klock.image.dockerfile.parsing import Instruction, instructions_in, triggered
from klock.image.dockerfile.reading import ReadStage, read_stages
from klock.image.dockerfile.stages import stages_of, target_stage
from klock.values import dataclass

__all__ = ["ReadDockerfile", "read_dockerfile"]

_ANOTHER: Final = "linux/another"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadDockerfile:
    """`target` is the stage that becomes the image; `stages` are those it takes files from, in the file's order.
    `platform` is the one platform that its FROMs hold for; None if they name no platform. `notes` are about what is
    allowed, and often a mistake."""

    target: ReadStage
    stages: tuple[ReadStage, ...] = ()
    platform: str | None = None
    unused_arguments: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = ()


def read_dockerfile(
    path: Path,
    *,
    context: Path | None = None,
    stage: str | None = None,
    build_args: Mapping[str, str] | None = None,
    platform: str = "linux/amd64",
    triggers: Mapping[str, Sequence[str]] | None = None,
) -> ReadDockerfile:
    """`context` is the folder that COPY takes files from, by default the Dockerfile's own. `triggers` are the
    instructions that base images have for those who build on them (ONBUILD), by the bases' names.

    Raises FileNotFoundError, and ImageError with the line for what is not a Dockerfile or cannot be locked.
    """
    if not path.exists():
        raise FileNotFoundError(f"Dockerfile not found: {path}")
    try:
        # A comment may be in any encoding. Lines end in "\n" alone: what else stands there belongs to a heredoc's file.
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", hint="name a text file") from error
    given = dict(build_args or {})
    instructions = instructions_in(text, path)
    _require_utf8(instructions)
    stages = stages_of(instructions, path, given=given, platform=platform)
    wanted = target_stage(stage, stages, path)
    read = read_stages(
        wanted, stages, context=(context or path.parent).absolute(), given=given, triggers=triggers or {}
    )
    texts = [each.rest for each in instructions if each.name == "ONBUILD"]
    texts += [text for of_base in (triggers or {}).values() for text in of_base]
    at_builds = [triggered(text, instructions[0]) for text in texts]
    arguments = (each for each in (*instructions, *at_builds) if each.name == "ARG")
    declared = {word.partition("=")[0] for each in arguments for word in each.words}
    # BuildKit takes some for itself, such as BUILDKIT_INLINE_CACHE, which mean nothing here.
    unused = sorted(
        name for name in given.keys() - declared - {*PREDEFINED, *PLATFORM} if not name.startswith("BUILDKIT_")
    )
    names = [(each.base, each.elsewhere) for each in stages]
    return ReadDockerfile(
        target=read[-1],
        stages=tuple(read[:-1]),
        platform=platform if names != _bases_elsewhere(instructions, path, given) else None,
        unused_arguments=tuple(unused),
        notes=tuple(likely_mistakes(instructions, stages)),
    )


def _require_utf8(instructions: Sequence[Instruction]) -> None:
    for instruction in instructions:
        texts = (instruction.rest, *(text.content for text in instruction.texts), *instruction.options.values())
        if any("\udc80" <= character <= "\udcff" for text in texts for character in text):
            raise instruction.error(
                f"{instruction.name} is not written in UTF-8",
                hint="convert the file, as `iconv -f latin1 -t utf-8` does",
            )


def _bases_elsewhere(
    instructions: list[Instruction], path: Path, given: Mapping[str, str]
) -> list[tuple[str, str]] | None:
    """What the FROMs name on another platform; None if they do not hold there."""
    try:
        found = stages_of(instructions, path, given=given, platform=_ANOTHER)
        return [(each.base, each.elsewhere) for each in found]
    except ImageError:
        return None
