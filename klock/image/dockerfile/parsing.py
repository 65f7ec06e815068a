"""A Dockerfile's text as instructions: directives, comments, continued lines, heredocs, flags, JSON and shell form.

The grammar is BuildKit's, by the package e2b-dockerfile-utils, which is a port of its parser and of its words. What is
klock's own is here: comments that begin with `# klock:` and hold for the instruction below, and errors with the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
from klock.image.conflicts import conflict_in
from klock.image.dockerfile.comments import KNOWN, options_in
from klock.image.steps import Location
from klock.values import dataclass
from klock.words import did_you_mean

__all__ = ["Instruction", "Text", "instructions_in", "triggered"]

_WHITE_SPACE: Final = re.compile(r"[\t\v\f\r ]+")
_ONBUILD: Final = re.compile(r"\s*ONBUILD(?=[ \t]+(?:ADD|COPY|RUN)[ \t])", re.IGNORECASE)
_UNKNOWN: Final = re.compile(r"unknown instruction: (\S+)")
_NAMES: Final = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
_SWITCHES: Final = ("keep-git-dir", "link", "parents", "unpack")
_LINE_OF_ERROR: Final = re.compile(r"Dockerfile parse error(?: on line \d+)?: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A heredoc: its delimiter, its lines, and whether variables in them are expanded."""

    name: str
    content: str
    expands: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """`name` in capitals; `words` as the parser cuts them, not expanded; `rest` is all behind the name, as written.

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
        """The values of the flags by name, `true` for a switch without one. Raises ImageError for another flag."""
        found: dict[str, list[str]] = {}
        for flag in self.flags:
            name, _, value = flag.removeprefix("--").partition("=")
            if name not in known:
                raise self.error(f"{self.name} has no flag --{name}", hint=_known_flags(self.name, known))
            if "=" not in flag and name not in _SWITCHES:
                raise self.error(f"the flag --{name} has no value", hint=f"write --{name}=VALUE, with no space")
            found.setdefault(name, []).append(value if "=" in flag else "true")
            if len(found[name]) > 1 and name not in several:
                raise self.error(f"{self.name} has the flag --{name} twice", hint="remove one of them")
        return found


def instructions_in(text: str, file: Path) -> list[Instruction]:
    """Raises ImageError, with the line, for what is not a Dockerfile."""
    if text.startswith("\udcff\udcfe") or text.startswith("\udcfe\udcff"):
        raise ImageError(f"{file.name} is written in UTF-16", hint="save it in UTF-8")
    if "\0" in text:
        raise ImageError(f"{file.name} is not a Dockerfile: it has a NUL byte", hint="name another file")
    lines = text.split("\n")
    try:
        bare, with_onbuild = _without_onbuild(lines) if "<<" in text else (text, frozenset[int]())
        parsed = parse_dockerfile_ast(bare)
    except DockerfileSyntaxError as error:
        if (conflict := conflict_in(text, file.name)) is not None:
            raise ImageError(conflict[0], hint=conflict[1]) from error
        place = file.name if error.line is None else f"{file.name}:{error.line}"
        what = _LINE_OF_ERROR.sub("", str(error))
        raise ImageError(f"{place}: {what}", hint=_way_out(what)) from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{file.name}: {error}", hint="fix the Dockerfile") from error
    found = [
        _instruction(each, parsed.escape_token, file, options=_options_above(each.start_line, lines, file))
        for each in parsed.instructions
    ]
    return [
        _for_later(each, parsed) if each.line in with_onbuild else each
        for each, parsed in zip(found, parsed.instructions, strict=True)
    ]


def triggered(text: str, at: Instruction) -> Instruction:
    """The instruction that an ONBUILD holds, as it stands where it is done, at `at`. Raises ImageError for one that it
    cannot hold."""
    try:
        found = instructions_in(text, at.file)
    except ImageError as error:
        raise at.error(f"ONBUILD {error.message.partition(': ')[2]}", hint=error.hint) from error
    if len(found) != 1 or found[0].name in ("ONBUILD", "FROM", "MAINTAINER"):
        what = found[0].name if len(found) == 1 else "several instructions" if found else "nothing"
        raise at.error(f"ONBUILD cannot hold {what}", hint="write one other instruction after it: ONBUILD RUN make")
    return replace(found[0], line=at.line)


def _without_onbuild(lines: Sequence[str]) -> tuple[str, frozenset[int]]:
    """The text with each `ONBUILD` before ADD, COPY and RUN blank, and the numbers of those lines: the parser knows no
    heredoc behind ONBUILD, as BuildKit's does."""
    bare, found = list(lines), set[int]()
    for number, line in enumerate(lines):
        match = _ONBUILD.match(line)
        if match is not None and _begins_instruction(bare[:number]):
            bare[number] = " " * match.end() + line[match.end() :]
            found.add(number + 1)
    return "\n".join(bare), frozenset(found)


def _begins_instruction(before: Sequence[str]) -> bool:
    """Whether the line below these is one of its own: no part of a heredoc, and of no continued line."""
    try:
        parsed = parse_dockerfile_ast("\n".join([*before, "FROM scratch"])).instructions
    except (ValueError, RecursionError):
        return False
    return parsed[-1].start_line == len(before) + 1


def _for_later(inner: Instruction, parsed: DockerfileInstruction) -> Instruction:
    """The ONBUILD that holds an instruction, as BuildKit writes it into the image's config."""
    texts = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in parsed.heredocs)
    rest = parsed.original.strip() + texts
    return replace(inner, name="ONBUILD", rest=rest, is_json=False, flags=(), texts=())


def _way_out(what: str) -> str:
    if match := _UNKNOWN.match(what):
        goes_on = "if it belongs to the line above, end that one in a backslash"
        return did_you_mean(match[1].upper(), _NAMES) or goes_on
    if what.endswith("must have two arguments"):
        return f"write {what.split(maxsplit=1)[0]} NAME=value"
    if what.endswith("Must be of the form: name=value"):
        return "write NAME=value for each; quote a value that has spaces"
    if what == "unterminated heredoc":
        return "end it with a line that holds nothing but its name; after <<-NAME, tabs may stand before it"
    return "fix the Dockerfile"


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
    return "".join(_WHITE_SPACE.split(parsed.original.strip(), maxsplit=1)[1:]).strip()


def _text(heredoc: DockerfileHeredoc) -> Text:
    content = chomp_heredoc_content(heredoc.content) if heredoc.chomp else heredoc.content
    return Text(name=heredoc.name, content=content, expands=heredoc.expand)


def _options_above(line: int, lines: Sequence[str], file: Path) -> dict[str, str]:
    """What the comments right above a line say to klock. Raises ImageError for what klock does not know."""
    found: dict[str, str] = {}
    for number in range(line - 2, -1, -1):
        if not lines[number].lstrip().startswith("#"):
            break
        try:
            for name, value in options_in(lines[number]):
                found[name] = f"{value} {found[name]}".strip() if name in found else value
        except ValueError as error:
            raise ImageError(
                f"{file.name}:{number + 1}: {error}", hint=f"`# klock:` above a RUN knows {KNOWN}"
            ) from None
    return found


def _known_flags(name: str, known: Sequence[str]) -> str:
    return f"{name} takes {', '.join(f'--{flag}' for flag in known)}" if known else f"{name} takes no flags"
