"""A Dockerfile's text as instructions: directives, comments, continued lines, heredocs, flags, JSON and shell form.

The grammar is BuildKit's, by the package e2b-dockerfile-utils, which is a port of its parser and of its words. What is
klock's own is here: comments that begin with `# klock:` and hold for the instruction below, and errors with the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from e2b_dockerfile_utils import (
    DockerfileHeredoc,
    DockerfileInstruction,
    DockerfileSyntaxError,
    chomp_heredoc_content,
    parse_dockerfile_ast,
)

from klock.errors import ImageError
from klock.image.steps import Location
from klock.values import dataclass

__all__ = ["Instruction", "Text", "instructions_in", "triggered"]

_COMMENT: Final = re.compile(r"\s*#\s*klock:\s*(?P<text>.*?)\s*")
_LINE_OF_ERROR: Final = re.compile(r"Dockerfile parse error(?: on line \d+)?: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A heredoc: its delimiter, its lines, and whether variables in them are expanded."""

    name: str
    content: str
    expands: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """`name` in capitals; `words` as the parser cuts them, not expanded; `rest` is all behind the flags, as written.

    `is_json`: the exec form. `options` are what a comment above says to klock, such as `leave-out`, by name.
    """

    name: str
    words: tuple[str, ...]
    rest: str
    is_json: bool
    flags: tuple[str, ...]
    texts: tuple[Text, ...]
    escape: str
    file: Path
    line: int
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def location(self) -> Location:
        return Location(file=str(self.file), line=self.line)

    def error(self, what: str, hint: str | None = None) -> ImageError:
        return ImageError(f"{self.file.name}:{self.line}: {what}", hint=hint)

    def only_flags(self, *known: str, several: Sequence[str] = ()) -> dict[str, list[str]]:
        """The values of the flags by name, `""` for a flag without one. Raises ImageError for another flag."""
        found: dict[str, list[str]] = {}
        for flag in self.flags:
            name, _, value = flag.removeprefix("--").partition("=")
            if name not in known:
                raise self.error(f"{self.name} has no flag --{name}", hint=_known_flags(self.name, known))
            found.setdefault(name, []).append(value)
            if len(found[name]) > 1 and name not in several:
                raise self.error(f"{self.name} has the flag --{name} twice", hint="remove one of them")
        return found


def instructions_in(text: str, file: Path) -> list[Instruction]:
    """Raises ImageError, with the line, for what is no Dockerfile."""
    if "\0" in text:
        raise ImageError(f"{file.name} is no Dockerfile: it has a NUL byte", hint="name another file")
    try:
        parsed = parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        place = file.name if error.line is None else f"{file.name}:{error.line}"
        raise ImageError(f"{place}: {_LINE_OF_ERROR.sub('', str(error))}", hint="mend the Dockerfile") from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{file.name}: {error}", hint="mend the Dockerfile") from error
    lines = re.split(r"\n", text)
    return [
        _instruction(each, parsed.escape_token, file, options=_options_above(each.start_line, lines, file))
        for each in parsed.instructions
    ]


def triggered(text: str, at: Instruction) -> Instruction:
    """The instruction that an ONBUILD holds, as it stands where it is done, at `at`. Raises ImageError for one that it
    cannot hold."""
    inner = next(iter(instructions_in(text, at.file)), None)
    if inner is None or inner.name in ("ONBUILD", "FROM", "MAINTAINER"):
        what = inner.name if inner else "nothing"
        raise at.error(f"ONBUILD cannot hold {what}", hint="write the instruction for those who build on it")
    return replace(inner, line=at.line)


def _instruction(parsed: DockerfileInstruction, escape: str, file: Path, *, options: Mapping[str, str]) -> Instruction:
    return Instruction(
        name=parsed.name,
        words=tuple(parsed.args),
        rest=_rest(parsed),
        is_json=parsed.json,
        flags=tuple(parsed.flags),
        texts=tuple(map(_text, parsed.heredocs)),
        escape=escape,
        file=file,
        line=parsed.start_line,
        options=options,
    )


def _rest(parsed: DockerfileInstruction) -> str:
    _, _, rest = parsed.original.strip().partition(" ") if " " in parsed.original.strip() else ("", "", "")
    return rest.strip()


def _text(heredoc: DockerfileHeredoc) -> Text:
    content = chomp_heredoc_content(heredoc.content) if heredoc.chomp else heredoc.content
    return Text(name=heredoc.name, content=content, expands=heredoc.expand)


def _options_above(line: int, lines: Sequence[str], file: Path) -> dict[str, str]:
    """What the comments right above a line say to klock. Raises ImageError for what klock does not know."""
    found: dict[str, str] = {}
    for number in range(line - 2, -1, -1):
        if not lines[number].lstrip().startswith("#"):
            break
        if (match := _COMMENT.fullmatch(lines[number])) is None:
            continue
        for name, value in _options_of(match["text"]):
            if name not in ("leave-out", "keep-layer") or (name == "keep-layer") == bool(value):
                raise ImageError(
                    f"{file.name}:{number + 1}: klock does not know {name}{'=' if value else ''}{value}",
                    hint="write `# klock: leave-out=/path /other/*` or `# klock: keep-layer` above a RUN",
                )
            found[name] = f"{value} {found[name]}".strip() if name in found else value
    return found


def _options_of(text: str) -> Iterator[tuple[str, str]]:
    """`leave-out=/a /b` as its name and value; several are divided by commas or stand in comments of their own."""
    for part in re.split(r",\s*(?=[a-z-]+(?:=|,|$))", text):
        name, _, value = part.partition("=")
        yield name.strip(), value.strip()


def _known_flags(name: str, known: Sequence[str]) -> str:
    return f"{name} takes {', '.join(f'--{flag}' for flag in known)}" if known else f"{name} takes no flags"
