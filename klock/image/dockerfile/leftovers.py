"""What of /tmp and /var/tmp lasts after an instruction: in an environment these folders are empty, and layers leave
them out, but a Dockerfile may hand on a file there to a later instruction, of its own stage or of another one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

from klock.image.dockerfile.parsing import Instruction
from klock.image.dockerfile.stages import Stage, find_stage
from klock.image.steps import SetWorkingDir, Step

__all__ = ["Later"]

_PLACES: Final = ("/tmp", "/var/tmp")
_KEPT_PLACES: Final = re.compile(r"(?<![\w.-])/(?:var/)?tmp/[^\s'\"`;&|<>()]*")
_TEMPORARY: Final = re.compile(r"(?P<place>/(?:var/)?tmp)(?:/(?P<first>[^/$]+)(?:/[^$]*)?)?")
_STOP: Final = re.compile(r"[$\\{}]")
# What is only mounted at or removed need not be there: a mount hides it, and `rm -f` does without it.
_NO_USE: Final = re.compile(r"--mount=\S+|\brm[ \t]+(?:-\S+[ \t]+)*-(?:\w*f\w*|-force)(?=[ \t])[^;&|\n]*")
_ENTERED: Final = re.compile(r"\b(?:cd|pushd)[ \t]+(?P<place>/(?:var/)?tmp)/?(?=[\s;&|)]|$)")
_WORD: Final = re.compile(r"[^\s;&|()<>\"'`=]+")
_VARIABLE: Final = re.compile(r"\$(?:\{(?P<braced>\w+)[^}]*\}|(?P<plain>\w+))")
_ORIGIN: Final = re.compile(r"(?:^|,)from=([^,]+)")
_SOURCE: Final = re.compile(r"(?:^|,)(?:source|src)=([^,]+)")


class Later:
    """What comes after the instructions of a stage, as far as it may find files of theirs: the rest of the stage, the
    stages that begin with it, and what any stage copies or mounts from one of these."""

    def __init__(self, stage: Stage, stages: Sequence[Stage], instructions: Sequence[Instruction]) -> None:
        above = [each for each in stages if stage in _parents(each)]
        family = {each.number for each in (stage, *above)}
        self._instructions = instructions
        self._known = _variables([*_before(stage), *instructions], stage.arguments)
        self._elsewhere = [*_taken_by(stages, family)]
        for each in above:
            self._elsewhere += _texts(each.instructions, _variables_of(each))
        self._runs_above = any(each.name == "RUN" for other in above for each in other.instructions)

    def kept(self, number: int, before: Iterable[Step]) -> tuple[str, ...]:
        """Patterns of what lasts in /tmp and /var/tmp after the instruction of that number, behind the steps `before`:
        what is named later, and what a later command finds where it begins (WORKDIR)."""
        found = set(self._begun_in(number, before))
        texts = [*_texts(self._instructions[number + 1 :], self._known), *self._elsewhere]
        for path in (path for text in texts for path in _KEPT_PLACES.findall(text)):
            place = "/var/tmp" if path.startswith("/var/") else "/tmp"
            first = path.removeprefix(f"{place}/").partition("/")[0]
            known = _STOP.split(first)[0]
            found.add(posixpath.join(place, first if known == first else f"{known}*"))
        return tuple(sorted(pattern for pattern in found if pattern.rpartition("/")[2]))

    def _begun_in(self, number: int, before: Iterable[Step]) -> Iterator[str]:
        here = "/"
        for step in before:
            if isinstance(step, SetWorkingDir):
                here = posixpath.normpath(posixpath.join(here, step.path))
        match = _TEMPORARY.fullmatch(here)
        runs = self._runs_above or any(each.name == "RUN" for each in self._instructions[number + 1 :])
        if match is not None and runs:
            yield f"{match['place']}/{match['first'] or '*'}"


def _parents(stage: Stage) -> list[Stage]:
    """The stages that it begins with, the nearest first."""
    return [] if stage.parent is None else [stage.parent, *_parents(stage.parent)]


def _before(stage: Stage) -> list[Instruction]:
    """The instructions of the stages that it begins with."""
    return [instruction for each in reversed(_parents(stage)) for instruction in each.instructions]


def _variables_of(stage: Stage) -> Mapping[str, str]:
    return _variables([*_before(stage), *stage.instructions], stage.arguments)


def _variables(instructions: Iterable[Instruction], arguments: Mapping[str, str]) -> Mapping[str, str]:
    """The values that names have somewhere in a stage, as far as the text says."""
    found = dict(arguments)
    for instruction in instructions:
        words = instruction.words
        pairs: Iterable[tuple[str, str]] = ()
        if instruction.name == "ENV":
            pairs = zip(words[::3], words[1::3], strict=False)
        elif instruction.name == "ARG":
            pairs = ((name, value) for name, equals, value in (word.partition("=") for word in words) if equals)
        found.update({name: _expanded(value.strip("'\""), found) for name, value in pairs})
    return found


def _texts(instructions: Iterable[Instruction], known: Mapping[str, str]) -> Iterator[str]:
    """What instructions say, as written and with the values of variables."""
    for instruction in instructions:
        for text in (instruction.rest, *(text.content for text in instruction.texts)):
            used = _NO_USE.sub("", text)
            expanded = _expanded(used, known)
            yield from {used, expanded}
            yield from _entered(expanded)


def _entered(text: str) -> Iterator[str]:
    """What a command that begins with `cd /tmp` seems to name there: files, by how they look, and folders by `cd`."""
    if (match := _ENTERED.search(text)) is None:
        return
    before = ""
    for word in _WORD.findall(text):
        path = word.removeprefix("./")
        is_named = path != word or "." in path[1:] or "/" in path or "*" in path or before in ("cd", "pushd")
        if is_named and "://" not in path and re.match(r"[\w*?]", path):
            yield posixpath.join(match["place"], path)
        before = word


def _expanded(text: str, known: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: known.get(match["braced"] or match["plain"], match[0]), text)


def _taken_by(stages: Sequence[Stage], family: Container[int]) -> Iterator[str]:
    """The paths that stages copy and mount from those of these numbers."""
    for stage in stages:
        for instruction in stage.instructions:
            for name, paths in _origins(instruction):
                found = find_stage(name, stages[: stage.number])
                if found is None or found.number not in family:
                    continue
                known = _variables_of(stage)
                for path in (_expanded(path, known) for path in paths):
                    here = posixpath.normpath(posixpath.join("/", path.strip("'\"")))
                    yield f"{here}/*" if here in _PLACES else here


def _origins(instruction: Instruction) -> Iterator[tuple[str, Sequence[str]]]:
    """The name of a stage or an image that an instruction takes files from, and their paths there."""
    for flag in instruction.flags:
        name, _, value = flag.partition("=")
        if name == "--from":
            yield value, instruction.words[:-1]
        elif name == "--mount" and (match := _ORIGIN.search(value)):
            yield match[1], _SOURCE.findall(value)
