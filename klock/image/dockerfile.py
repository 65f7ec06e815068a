"""Reads a Dockerfile into steps: FROM, RUN, ENV, COPY, CMD and ENTRYPOINT; an error with the line for anything else.

`klock.image.instructions` takes the text apart. Three differences are the upstream builder's. Variables expand as in
`set_env_vars`. In `ENV NAME value` the value is kept as it stands, quotes too. A last word ` # force` of RUN or COPY
means `force=True`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from klock.errors import ImageError
from klock.image import arguments
from klock.image.contents import PIP_COMMAND
from klock.image.heredoc import Heredoc
from klock.image.instructions import Instruction, instructions_in, words_of
from klock.image.steps import CopyFiles, Location, PipInstall, RunBash, SetEnvVars, Step

__all__ = ["ReadDockerfile", "read_dockerfile", "read_line"]


@dataclass(slots=True, kw_only=True)
class ReadDockerfile:
    """What a Dockerfile says. `base` is FROM's reference and where it stands; `cmd` and `entrypoint` are shell text."""

    base: tuple[str, Location] | None = None
    steps: list[Step] = field(default_factory=list)
    python_path: str | None = None
    cmd: str | None = None
    entrypoint: str | None = None


_PYTHON_PATH: Final = "KT_PYTHON_PATH"


def read_dockerfile(path: Path) -> ReadDockerfile:
    """Raises FileNotFoundError, and ImageError for what cannot be read."""
    if not path.exists():
        raise FileNotFoundError(f"Dockerfile not found: {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"cannot read {path}: {error}") from error
    read = ReadDockerfile()
    for instruction in instructions_in(text, path):
        _READERS[instruction.name](instruction, read)
    return read


def read_line(line: str, read: ReadDockerfile, *, location: Location) -> None:
    """Reads one instruction, its continuation lines joined, as if it stood at `location`. Raises ImageError."""
    name, _, rest = line.partition(" ")
    instruction = Instruction(
        name=name.upper(), rest=rest.strip(), heredocs=(), file=Path(location.file), line=location.line
    )
    _READERS[instruction.name](instruction, read)


def _from(instruction: Instruction, read: ReadDockerfile) -> None:
    words = instruction.without_flags(instruction.rest).split()
    if read.base is not None:
        raise instruction.error("a second FROM (a multi-stage build) is not supported")
    if "$" in instruction.rest:
        raise instruction.error("a variable in FROM is not supported", hint="write the reference out")
    if words[0] == "scratch":
        raise instruction.error("FROM scratch is not supported", hint="klock.images.from_debian() needs no registry")
    if len(words) != 1 and not (len(words) == 3 and words[1].upper() == "AS"):
        raise instruction.error("FROM takes one image reference")
    read.base = (words[0], instruction.location)


def _run(instruction: Instruction, read: ReadDockerfile) -> None:
    rest, force = instruction.without_force()
    instruction.without_flags(rest)
    if rest.startswith(f"{PIP_COMMAND} "):
        requirements = arguments.requirements("RUN", rest.removeprefix(PIP_COMMAND))
        read.steps.append(PipInstall(requirements=requirements, force=force, location=instruction.location))
        return
    words = instruction.exec_form(rest) if not instruction.heredocs else None
    command = rest if words is None else shlex.join(words)
    if instruction.heredocs:
        first = instruction.heredocs[0]
        if len(instruction.heredocs) == 1 and rest == first.opening:
            command = _script(instruction, first)
        else:
            command = "\n".join([rest, *(h.text for h in instruction.heredocs)])
    if not command.strip():
        raise instruction.error("RUN has an empty command")
    read.steps.append(RunBash(command=command, force=force, location=instruction.location))


def _script(instruction: Instruction, heredoc: Heredoc) -> str:
    """The body of a heredoc that is the whole command: a shell script, unless its first line says otherwise."""
    first_line = heredoc.body.partition("\n")[0]
    if first_line.startswith("#!") and not re.search(r"/(env\s+)?(ba|da)?sh\s*$", first_line):
        interpreter = first_line[2:].strip().split()[-1].rpartition("/")[2]
        raise instruction.error(
            f"a heredoc for {first_line} is not supported", hint=f"write RUN {interpreter} <<{heredoc.delimiter}"
        )
    return heredoc.body


def _env(instruction: Instruction, read: ReadDockerfile) -> None:
    first, _, value = instruction.rest.partition(" ")
    if "=" not in first:
        pairs = [(first, value.strip())]
    else:
        pairs = [_pair(word, instruction) for word in words_of(instruction.rest, instruction)]
    set_here: set[str] = set()
    for name, written in pairs:
        if re.search(r"(?<!\\)\$\{\w+:?[-+?]", written):
            raise instruction.error(f"${{NAME:-default}} in the value of {name} is not supported")
        used = {m[1] or m[2] for m in re.finditer(r"(?<!\\)\$(?:(\w+)|\{(\w+)\})", written, re.ASCII)}
        if clash := sorted(used & set_here):
            raise instruction.error(
                f"ENV uses ${clash[0]}, which the same instruction sets",
                hint="write two ENV instructions: in one, docker takes the old value",
            )
        set_here.add(name)
    checked = arguments.variables(f"{instruction.file.name} line {instruction.line}: ENV", dict(pairs))
    for name, written in checked:
        if name == _PYTHON_PATH:
            read.python_path = written
    variables = tuple(v for v in checked if v[0] != _PYTHON_PATH)
    if variables:
        read.steps.append(SetEnvVars(variables=variables, location=instruction.location))


def _pair(word: str, instruction: Instruction) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise instruction.error(f"ENV {word} has no '='", hint="write NAME=value for each variable")
    return name, value


def _copy(instruction: Instruction, read: ReadDockerfile) -> None:
    rest, force = instruction.without_force()
    if instruction.heredocs:
        raise instruction.error("a heredoc in COPY is not supported", hint="keep the text in a file of its own")
    instruction.without_flags(rest)
    words = instruction.exec_form(rest) or rest.split()
    if len(words) < 2:
        raise instruction.error("COPY needs a source and a destination")
    *sources, dest = words
    if "$" in rest:
        raise instruction.error("a variable in COPY is not supported", hint="write the path out")
    found = [path for source in sources for path in _matching(source, instruction)]
    if len(found) > 1 and not dest.endswith("/"):
        raise instruction.error("COPY of several sources needs a destination that ends in '/'")
    for source in found:
        if (instruction.file.parent / source).is_dir():
            _refuse_dockerignore(instruction)
        read.steps.append(
            CopyFiles(
                source=source.rstrip("/") or "/",
                root=str(instruction.file.parent.absolute()),
                dest=arguments.destination(f"{instruction.file.name} line {instruction.line}: COPY", dest),
                contents=(instruction.file.parent / source).is_dir(),
                force=force,
                location=instruction.location,
            )
        )


def _refuse_dockerignore(instruction: Instruction) -> None:
    """Its rules are other than git's; what it names, secrets perhaps, must not be copied without a word."""
    folder = instruction.file.parent
    names = (f"{instruction.file.name}.dockerignore", ".dockerignore")
    found = next((name for name in names if (folder / name).exists()), None)
    if found is not None and not (folder / ".klockignore").exists():
        raise instruction.error(
            f"COPY of a folder would copy what {found} leaves out",
            hint=f"klock does not read {found}: write its patterns into a .klockignore beside it, in git's syntax, "
            "or leave that file empty to copy everything",
        )


def _matching(source: str, instruction: Instruction) -> list[str]:
    """The files a pattern such as `*.py` means, a plain path as it is (whether it exists is found when it is read)."""
    if not re.search(r"[*?\[]", source):
        return [source]
    folder = instruction.file.parent
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(source.replace("**", "*").lstrip("/")))
    if not found:
        raise instruction.error(f"COPY {source} matches no file")
    return found


def _cmd(instruction: Instruction, read: ReadDockerfile) -> None:
    words = instruction.exec_form(instruction.rest)
    read.cmd = instruction.rest if words is None else shlex.join(words)


def _entrypoint(instruction: Instruction, read: ReadDockerfile) -> None:
    words = instruction.exec_form(instruction.rest)
    read.entrypoint = instruction.rest if words is None else shlex.join(words)


_READERS: Final = {"CMD": _cmd, "COPY": _copy, "ENTRYPOINT": _entrypoint, "ENV": _env, "FROM": _from, "RUN": _run}
