"""README and docs as the tests read them: the console blocks with what they print, and the files that a page shows.

A console block is typed as it stands, in a terminal, and must print what it shows:

    ```console
    $ klock check
    stale-file: step 4 (kimage.py:8): data/readings.json changed
    1 finding
    ```

- A line that begins with `$ ` is a command. A backslash at its end, or `> ` before the next line, continues it.
- A line `...` stands for any number of lines. Within a line `...` stands for any text.
- What another day changes is compared by its form alone: VARYING lists it.
- A fenced block below a line that ends in "`NAME`:" is the file NAME, and is written before the next command runs.
- The commands and files of a page run in order, in one shell that starts in an empty folder. A page that says "The
  examples go on in the folder of" a link to another page starts in a copy of the folder that its commands leave.
- `<!-- not run: REASON -->` right above a console block says why no test can run it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["PAGES", "ROOT", "Block", "Command", "Page", "read_page", "same_output"]

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))

VARYING: Final = {
    "a digest, shortened to 12 digits or more": r"\b(sha256:)?[0-9a-f]{12,64}\b(\.\.\.)?",
    "the bytes of what upstream serves": r"\b\d+(\.\d+)? (B|kB|MB|GB)\b",
    "the number of what upstream serves": r"\b\d+ (entries|fetched|packages|requests|blobs)\b",
    "a time that passed": r"\b\d+(\.\d+)? (s|ms)\b",
    "how long ago something was": r"\bjust now\b|\b\d+ (minutes?|hours?|days?) ago\b",
    "a version, which upstream may have a newer one of": r"\b\d+\.\d+[\w.+~:-]*",
}
"""Patterns of text that is equal when its form is: `12.3 MB` and `12.4 MB`."""

_FENCE: Final = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN: Final = re.compile(r"<!-- not run: (?P<reason>.+) -->\n\Z")
_FILE_NAME: Final = re.compile(r"`(?P<name>[\w./-]+)`:\n\n?\Z")
_GOES_ON: Final = re.compile(r"^The examples go on in the folder of \[[^]]+\]\((?P<page>[^)#]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as it is typed, of one line or more, and the lines that it prints."""

    text: str
    output: tuple[str, ...]
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. `file` is the name of the file it shows, `not_run` the reason why a console block is not run."""

    language: str
    text: str
    place: str
    file: str | None = None
    not_run: str | None = None

    @property
    def is_console(self) -> bool:
        return self.language == "console"

    def commands(self) -> list[Command]:
        """The commands of a console block. Raises ValueError for output that no command printed."""
        lines = self.text.splitlines()
        if not lines or not lines[0].startswith("$ "):
            raise ValueError(f"{self.place}: a console block begins with a command")
        document, _, first = self.place.rpartition(":")
        commands: list[Command] = []
        number = 0
        while number < len(lines):
            place = f"{document}:{int(first) + 1 + number}"
            typed = [lines[number].removeprefix("$ ")]
            number += 1
            while number < len(lines) and (typed[-1].endswith("\\") or lines[number].startswith("> ")):
                typed.append(lines[number].removeprefix("> "))
                number += 1
            output = []
            while number < len(lines) and not lines[number].startswith("$ "):
                output.append(lines[number])
                number += 1
            commands.append(Command(text="\n".join(typed), output=tuple(output), place=place))
        return commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`begins_with` is the page whose folder this one goes on in, if any."""

    name: str
    blocks: tuple[Block, ...]
    begins_with: str | None

    @property
    def is_run(self) -> bool:
        return any(block.is_console and block.not_run is None for block in self.blocks)


def read_page(name: str) -> Page:
    """`name` is a path from the repository's root, one of PAGES."""
    text = (ROOT / name).read_text(encoding="utf-8")
    goes_on = _GOES_ON.search(text)
    begins_with = None if goes_on is None else os.path.normpath(Path(name).parent / goes_on["page"])
    return Page(name=name, blocks=tuple(_blocks(name, text)), begins_with=begins_with)


def _blocks(name: str, text: str) -> Iterator[Block]:
    for fence in _FENCE.finditer(text):
        above = text[: fence.start()]
        file, not_run = _FILE_NAME.search(above), _NOT_RUN.search(above)
        is_console = fence["language"] == "console"
        yield Block(
            language=fence["language"],
            text=fence["text"],
            place=f"{name}:{above.count(chr(10)) + 1}",
            file=file["name"] if file is not None and not is_console else None,
            not_run=not_run["reason"] if not_run is not None else None,
        )


def same_output(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether a command printed what its page shows."""
    parts = [".*\n" if line == "..." else _line_pattern(line) + "\n" for line in shown]
    pattern = "".join(f"(?:{part})*" if line == "..." else part for line, part in zip(shown, parts, strict=True))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def _line_pattern(line: str) -> str:
    """What varies matches its own kind, `...` matches any text, all else itself."""
    varying = re.compile("|".join(f"(?P<v{n}>{pattern})" for n, pattern in enumerate(VARYING.values())))
    patterns, done = [], 0
    for found in varying.finditer(line):
        kind = next(pattern for n, pattern in enumerate(VARYING.values()) if found[f"v{n}"] is not None)
        patterns += [_literal(line[done : found.start()]), f"(?:{kind})"]
        done = found.end()
    return "".join([*patterns, _literal(line[done:])])


def _literal(text: str) -> str:
    return ".*".join(map(re.escape, text.split("...")))
