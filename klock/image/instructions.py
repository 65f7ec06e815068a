"""The instructions of a Dockerfile, one by one: continuation lines, comments inside them, heredocs, exec form, quotes.

As the Dockerfile reference has it. What an instruction means is read by `klock.image.dockerfile`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from klock.documents import read_json
from klock.errors import ImageError
from klock.image.heredoc import Heredoc, heredocs_in
from klock.image.steps import Location

__all__ = ["Instruction", "instructions_in", "words_of"]

_SUPPORTED: Final = ("CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN")
_FORCE: Final = " # force"
_DIRECTIVE: Final = re.compile(r"#\s*(?P<name>[A-Za-z]+)\s*=\s*(?P<value>\S+)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """`name` in capitals, `rest` of its line after continuation lines were joined, and the heredocs below it."""

    name: str
    rest: str
    heredocs: tuple[Heredoc, ...]
    file: Path
    line: int

    @property
    def location(self) -> Location:
        return Location(file=str(self.file), line=self.line)

    def error(self, what: str, hint: str | None = None) -> ImageError:
        return ImageError(f"{self.file.name}: {what} at line {self.line}", hint=hint)

    def without_force(self) -> tuple[str, bool]:
        return (self.rest.removesuffix(_FORCE).rstrip(), True) if self.rest.endswith(_FORCE) else (self.rest, False)

    def without_flags(self, text: str) -> str:
        if match := re.match(r"--[\w-]+", text):
            raise self.error(f"{self.name} {match[0]} is not supported")
        return text

    def exec_form(self, text: str) -> list[str] | None:
        """The words of `["a", "b"]`; None for the shell form, which is also what Docker takes broken JSON for."""
        if not text.startswith("["):
            return None
        try:
            words = read_json(text)
        except ValueError:
            raise self.error(f"{self.name} is not valid JSON", hint='write the exec form as ["a", "b"]') from None
        if not words or not all(isinstance(word, str) for word in words):
            raise self.error(f"{self.name} is not a JSON list of strings")
        return [str(word) for word in words]


def instructions_in(text: str, path: Path) -> Iterator[Instruction]:
    lines = enumerate(text.splitlines(), 1)
    at_top = True
    for number, line in lines:
        stripped = line.strip()
        if at_top and (directive := _DIRECTIVE.fullmatch(stripped)):
            if directive["name"].lower() == "escape" and directive["value"] != "\\":
                raise ImageError(
                    f"{path.name}: an escape character other than a backslash is not supported at line {number}"
                )
            continue
        at_top = False
        if not stripped or stripped.startswith("#"):
            continue
        joined = line.lstrip()
        while re.search(r"\\[ \t]*$", joined):
            joined = re.sub(r"\\[ \t]*$", "", joined)
            for _, following in lines:
                if following.strip() and not following.lstrip().startswith("#"):
                    joined += following
                    break
        name, _, rest = joined.strip().partition(" ") if " " in joined else joined.strip().partition("\t")
        if name.upper() not in _SUPPORTED:
            raise ImageError(
                f"Unsupported Dockerfile instruction '{name.upper()}' at line {number}. "
                f"klock supports: {', '.join(_SUPPORTED)}.",
                hint="remove it, or build the image elsewhere and start from it with from_docker()",
            )
        if not rest.strip():
            raise ImageError(f"Invalid {name.upper()} instruction at line {number}: it says nothing")
        heredocs = (
            heredocs_in(rest, lines, where=f"{path.name} line {number}") if name.upper() in ("RUN", "COPY") else ()
        )
        yield Instruction(name=name.upper(), rest=rest.strip(), heredocs=heredocs, file=path, line=number)


def words_of(text: str, instruction: Instruction) -> list[str]:
    r"""`A=1 B="x y"` as `A=1`, `B=x y`. A `$` that Docker would not expand becomes `\$`, as `set_env_vars` has it."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    characters = iter(text)
    for character in characters:
        if character == "\\" and quote != "'":
            following = next(characters, "")
            if following == "\\":
                following = "\\"
            elif following == "$":
                following = r"\$"
            elif quote == '"' and following != '"':
                following = "\\" + following
            word = (word or "") + following
        elif quote:
            if character == quote:
                quote = ""
            else:
                word = (word or "") + (r"\$" if quote == "'" and character == "$" else character)
        elif character in "'\"":
            quote = character
            word = word or ""
        elif character.isspace():
            words += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + character
    if quote:
        raise instruction.error(f"{instruction.name} has a quote that is not closed")
    return words if word is None else [*words, word]
