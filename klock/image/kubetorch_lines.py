"""Lines of a Dockerfile as kubetorch reads them: RUN, ENV and COPY, each on one line.

Other than docker, and than `klock.image.dockerfile`: variables expand as in `set_env_vars`; in `ENV NAME value` the
value is kept as it stands, quotes too; a last word ` # force` of RUN or COPY means `force=True`; flags and defaults of
variables are refused.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import field
from pathlib import Path
from typing import Final

from klock.documents import read_json
from klock.errors import ImageError
from klock.image import arguments
from klock.image.contents import PIP_COMMAND
from klock.image.steps import CopyFiles, Location, PipInstall, RunBash, SetEnvVars, Step
from klock.values import dataclass

__all__ = ["ReadLines", "read_line"]

_PYTHON_PATH: Final = "KT_PYTHON_PATH"
_FORCE: Final = " # force"


@dataclass(slots=True, kw_only=True)
class ReadLines:
    """What the lines say."""

    steps: list[Step] = field(default_factory=list)
    python_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    name: str
    rest: str
    location: Location

    def error(self, what: str, hint: str | None = None) -> ImageError:
        return ImageError(f"{Path(self.location.file).name}: {what} at line {self.location.line}", hint=hint)

    def without_force(self) -> tuple[str, bool]:
        return (self.rest.removesuffix(_FORCE).rstrip(), True) if self.rest.endswith(_FORCE) else (self.rest, False)

    def without_flags(self, text: str) -> str:
        if match := re.match(r"--[\w-]+", text):
            raise self.error(f"{self.name} {match[0]} is not supported")
        return text

    def exec_form(self, text: str) -> list[str] | None:
        """The words of `["a", "b"]`; None for the shell form."""
        if not text.startswith("["):
            return None
        try:
            words = read_json(text)
        except ValueError:
            raise self.error(f"{self.name} is not valid JSON", hint='write the exec form as ["a", "b"]') from None
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise self.error(f"{self.name} is not a JSON list of strings")
        return [str(word) for word in words]


def read_line(line: str, read: ReadLines, *, location: Location) -> None:
    """Reads one instruction, its continuation lines joined, as if it stood at `location`. Raises ImageError."""
    name, _, rest = line.partition(" ")
    _READERS[name.upper()](_Line(name=name.upper(), rest=rest.strip(), location=location), read)


def _run(line: _Line, read: ReadLines) -> None:
    rest, force = line.without_force()
    line.without_flags(rest)
    if rest.startswith(f"{PIP_COMMAND} "):
        requirements = arguments.requirements("RUN", rest.removeprefix(PIP_COMMAND))
        read.steps.append(PipInstall(requirements=requirements, force=force, location=line.location))
        return
    words = line.exec_form(rest)
    command = rest if words is None else shlex.join(words)
    if not command.strip():
        raise line.error("RUN has an empty command")
    read.steps.append(RunBash(command=command, force=force, location=line.location))


def _env(line: _Line, read: ReadLines) -> None:
    first, _, value = line.rest.partition(" ")
    is_one = "=" not in first
    pairs = [(first, value.strip())] if is_one else [_pair(word, line) for word in _words_of(line.rest, line)]
    set_here: set[str] = set()
    for name, written in pairs:
        if re.search(r"(?<!\\)\$\{\w+:?[-+?]", written):
            raise line.error(f"${{NAME:-default}} in the value of {name} is not supported")
        used = {m[1] or m[2] for m in re.finditer(r"(?<!\\)\$(?:(\w+)|\{(\w+)\})", written, re.ASCII)}
        if clash := sorted(used & set_here):
            raise line.error(
                f"ENV uses ${clash[0]}, which the same instruction sets",
                hint="write two ENV instructions: in one, docker takes the old value",
            )
        set_here.add(name)
    where = f"{Path(line.location.file).name} line {line.location.line}: ENV"
    checked = arguments.variables(where, dict(pairs))
    for name, written in checked:
        if name == _PYTHON_PATH:
            read.python_path = written
    variables = tuple(v for v in checked if v[0] != _PYTHON_PATH)
    if variables:
        read.steps.append(SetEnvVars(variables=variables, location=line.location))


def _pair(word: str, line: _Line) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise line.error(f"ENV {word} has no '='", hint="write NAME=value for each variable")
    return name, value


def _copy(line: _Line, read: ReadLines) -> None:
    rest, force = line.without_force()
    line.without_flags(rest)
    words = line.exec_form(rest) or rest.split()
    if len(words) < 2:
        raise line.error("COPY needs a source and a destination")
    *sources, dest = words
    if "$" in rest:
        raise line.error("a variable in COPY is not supported", hint="write the path out")
    folder = Path(line.location.file).parent
    found = [path for source in sources for path in _matching(source, folder, line)]
    if len(found) > 1 and not dest.endswith("/"):
        raise line.error("COPY of several sources needs a destination that ends in '/'")
    for source in found:
        read.steps.append(
            CopyFiles(
                source=source.rstrip("/") or "/",
                root=str(folder.absolute()),
                dest=arguments.destination(f"{Path(line.location.file).name} line {line.location.line}: COPY", dest),
                contents=(folder / source).is_dir(),
                force=force,
                location=line.location,
            )
        )


def _matching(source: str, folder: Path, line: _Line) -> list[str]:
    """The files a pattern such as `*.py` means, a plain path as it is (whether it exists is found when it is read)."""
    if not re.search(r"[*?\[]", source):
        return [source]
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(source.replace("**", "*").lstrip("/")))
    if not found:
        raise line.error(f"COPY {source} matches no file")
    return found


def _words_of(text: str, line: _Line) -> list[str]:
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
        raise line.error(f"{line.name} has a quote that is not closed")
    return words if word is None else [*words, word]


_READERS: Final = {"COPY": _copy, "ENV": _env, "RUN": _run}
