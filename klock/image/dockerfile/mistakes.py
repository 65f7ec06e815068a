"""What a Dockerfile may say and rarely means, such as a stage's name with a slip, which docker takes for an image's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from klock.image.dockerfile.parsing import Instruction
from klock.image.dockerfile.stages import Stage, find_stage
from klock.words import did_you_mean

__all__ = ["likely_mistakes"]

_FROM: Final = re.compile(r"--from=(?P<name>[\w.-]+)|--mount=(?:\S*,)?from=(?P<mounted>[\w.-]+)(?:,\S*)?")
_SPACED: Final = re.compile(r"(?P<name>[\w.-]+)\s+(?P<value>=.*)")
_LIST: Final = re.compile(r"\[\s*['\"]")


def likely_mistakes(instructions: Sequence[Instruction], stages: Sequence[Stage]) -> Iterator[str]:
    """One sentence for each, with the file and the line."""
    for instruction in instructions:
        where = f"{instruction.file.name}:{instruction.line}"
        for name in _origins(instruction):
            names = [stage.name for stage in stages if stage.name]
            if find_stage(name, stages) is None and (meant := did_you_mean(name, names)):
                yield f"{where}: no stage is named {name}, so it is an image; {meant}"
        if (
            instruction.name in ("CMD", "ENTRYPOINT", "RUN")
            and not instruction.is_json
            and _LIST.match(instruction.rest)
        ):
            yield (
                f"{where}: {instruction.rest[:40]} is not a JSON list, so the shell runs it; "
                "such a list needs double quotes, commas and both brackets"
            )

        if instruction.name in ("ENV", "LABEL") and (match := _SPACED.match(instruction.rest)) is not None:
            name = match["name"]
            yield f"{where}: {name} is {match['value'][:40]!r}, with the equals sign; write {name}=... without spaces"


def _origins(instruction: Instruction) -> Iterator[str]:
    for flag in instruction.flags:
        if (match := _FROM.fullmatch(flag)) is not None:
            yield match["name"] or match["mounted"]
