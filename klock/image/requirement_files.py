"""Reads all that a `pip_install` step asks for, with the requirements and constraints files it names, nested ones too.

The format is pip's ("Requirements File Format"), its lines joined and comments removed by pip-requirements-parser. As
in pip, options in a file hold for everything that its `-r` brings in. Unlike in pip, an option beside a requirement
(`--pre torch`) holds for that requirement, in files as well as in entries.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from klock.digests import Digest, digest_of_bytes
from klock.errors import RequirementError
from klock.image.conflicts import conflict_in
from klock.image.pip_options import OWN, PipOptions
from klock.image.project_files import is_project_file, read_project_file, settings_of_project
from klock.image.requirement_lines import parse_line
from klock.image.requirements import (
    FileReference,
    PackageRequirement,
    ParsedLine,
    ParsedRequirement,
    PathRequirement,
    ProjectParts,
    Steering,
    UrlRequirement,
    lacks_hash,
)
from klock.image.steps import PipInstall
from klock.values import dataclass

__all__ = ["ReadFile", "RequirementInputs", "logical_lines", "read_requirements"]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ReadFile:
    """A file that was read: its path relative to the image's folder, with `/`, and the digest of its bytes."""

    path: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementInputs:
    """What a step asks for, in the order written. `variables` are the names of the variables of this process that it
    uses. `left_out` are local packages in other tools' locks, which klock does not install. `steering` is what projects
    say of all that is resolved, `notes` are what the user should know."""

    requirements: tuple[ParsedRequirement, ...] = ()
    constraints: tuple[ParsedRequirement, ...] = ()
    files: tuple[ReadFile, ...] = ()
    variables: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    steering: tuple[Steering, ...] = ()
    notes: tuple[str, ...] = ()


def read_requirements(
    step: PipInstall, folder: Path, environ: Mapping[str, str], *, locks: bool = True
) -> RequirementInputs:
    """Reads a step of an image in `folder` (absolute). Without `locks`, what pyproject.toml and other tools' locks ask
    for is left out. Raises RequirementError, naming the file and line to fix."""
    requirements: list[ParsedRequirement] = []
    constraints: list[ParsedRequirement] = []
    files: set[ReadFile] = set()
    variables: set[str] = set()
    left_out: list[str] = []
    steering: list[Steering] = []
    notes: list[str] = []
    place = _place(step, folder)
    lines = [parse_line(entry, f"{place}pip_install", environ) for entry in step.requirements]
    of_all = PipOptions()
    for line in lines:  # options alone are for the whole call, as on a command line
        of_all = of_all if line.requirements or line.files else line.options.over(of_all)
    for line in lines:
        requirements += (replace(r, options=r.options.over(of_all)) for r in map(_on_its_own, line.requirements))
        variables.update(line.variables)
        for reference in line.files:
            tree = _Tree(folder=folder, environ=environ, locks=locks)
            tree.read(reference, base=folder, constraint=reference.constraint, including=())
            tree.check_hashes()
            found = tree.requirements(over=reference.options.over(of_all))
            requirements += found[0]
            constraints += found[1]
            files |= tree.files
            variables |= tree.variables
            left_out += tree.left_out
            steering += tree.steering
            notes += tree.notes
    return RequirementInputs(
        requirements=tuple(requirements),
        constraints=tuple(constraints),
        files=tuple(sorted(files)),
        variables=tuple(sorted(variables)),
        left_out=tuple(left_out),
        steering=tuple(steering),
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(slots=True, kw_only=True)
class _Tree:
    """One file with all it includes."""

    folder: Path
    environ: Mapping[str, str]
    locks: bool = True
    files: set[ReadFile] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    steering: list[Steering] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _lines: list[tuple[bool, ParsedLine]] = field(default_factory=list)
    _from_projects: list[tuple[bool, ParsedLine]] = field(default_factory=list)
    _options: PipOptions = field(default_factory=PipOptions)

    def read(self, reference: FileReference, *, base: Path, constraint: bool, including: tuple[Path, ...]) -> None:
        path = _path_of(reference, base)
        if path in including:
            raise RequirementError(f"{reference.where}: {self._name(path)} includes itself")
        content = _content(path, reference, self._name(path))
        self._add_file(path, content)
        if is_project_file(path.as_posix()):
            self._read_project(path, content, reference, constraint=constraint)
            return
        if reference.parts != ProjectParts():
            raise RequirementError(
                f"{reference.where}: {self._name(path)} has no groups and extras to choose from",
                hint="they are in a pyproject.toml or a uv.lock",
            )
        for number, text in logical_lines(content, self._name(path)):
            where = f"{self._name(path)}:{number}"
            line = parse_line(text, where, self.environ, several=False)
            self.variables.update(line.variables)
            self._lines.append((constraint, line))
            if not line.requirements:
                self._options = line.options.over(self._options)
            if constraint and not all(map(_may_constrain, line.requirements)):
                raise RequirementError(
                    f"{where}: a constraint is a name with a version or a URL, without extras or a path"
                )
            for nested in line.files:
                self.read(
                    nested, base=path.parent, constraint=constraint or nested.constraint, including=(*including, path)
                )

    def _read_project(self, path: Path, content: bytes, reference: FileReference, *, constraint: bool) -> None:
        project, of_project = path, content
        if path.name == "uv.lock":
            project = path.with_name("pyproject.toml")
            of_project = _content(project, replace(reference, path="pyproject.toml"), self._name(project))
            self._add_file(project, of_project)
        settings = None
        if project.name == "pyproject.toml":
            settings = settings_of_project(project, of_project, self._name(project))
            for file in settings.files:
                self._add_file(file, _content(file, replace(reference, path=file.name), self._name(file)))
        if self.locks:
            found = read_project_file(path, content, reference.parts, self._name(path), settings)
            self._from_projects.append((constraint, ParsedLine(requirements=found.requirements)))
            self._from_projects.append((True, ParsedLine(requirements=found.constraints)))
            self.left_out += [f"{self._name(path)}: {name}" for name in found.left_out]
            self.steering += [found.steering] if found.steering is not None else []
            self.notes += found.notes

    def _add_file(self, path: Path, content: bytes) -> None:
        self.files.add(ReadFile(path=self._name(path), digest=digest_of_bytes(content)))

    def check_hashes(self) -> None:
        """As in pip: a file that has one hash, or says --require-hashes, must have a hash for each requirement that
        counts. Which ones do is known later, where markers decide."""
        lines = [line for constraint, line in self._lines if not constraint]
        if not any(line.require_hashes or any(r.hashes for r in line.requirements) for line in lines):
            return
        for number, (constraint, line) in enumerate(self._lines):
            if not constraint:
                marked = tuple(map(_marked_without_hash, line.requirements))
                self._lines[number] = (constraint, replace(line, requirements=marked))

    def requirements(self, *, over: PipOptions) -> tuple[list[ParsedRequirement], list[ParsedRequirement]]:
        """Requirements and constraints, each with the options of its line, the files, and the entry."""
        wider = self._options.over(over)
        found: tuple[list[ParsedRequirement], list[ParsedRequirement]] = ([], [])
        of_lines = [(constraint, _on_its_own(r)) for constraint, line in self._lines for r in line.requirements]
        of_projects = [(constraint, r) for constraint, line in self._from_projects for r in line.requirements]
        for constraint, requirement in [*of_lines, *of_projects]:
            found[constraint].append(replace(requirement, options=requirement.options.over(wider)))
        return found

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()


_CODING: Final = re.compile(rb"coding[:=]\s*([-\w.]+)")
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def _on_its_own(requirement: ParsedRequirement) -> ParsedRequirement:
    """With `--no-binary` and the like beside a requirement `:all:` is that requirement; for a whole file it is all."""
    own = [OWN, *([requirement.name] if requirement.name else [])]

    def named(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for value in values for name in (own if value == ":all:" else [value]))

    options = requirement.options
    if ":all:" not in (*options.no_binary, *options.only_binary):
        return requirement
    changed = replace(options, no_binary=named(options.no_binary), only_binary=named(options.only_binary))
    return replace(requirement, options=changed)


def _marked_without_hash(requirement: ParsedRequirement) -> ParsedRequirement:
    if requirement.hashes or (isinstance(requirement, UrlRequirement) and requirement.fragment_hashes):
        return requirement
    if requirement.marker is None or isinstance(requirement, PathRequirement):
        raise lacks_hash(str(requirement), requirement.where)
    return replace(requirement, lacks_hash=True)


def _may_constrain(requirement: ParsedRequirement) -> bool:
    match requirement:
        case PackageRequirement() | UrlRequirement(editable=False, name=str()):
            return not requirement.extras
        case _:
            return False


def _path_of(reference: FileReference, base: Path) -> Path:
    written = reference.path
    if re.match(r"(https?|ftp)://", written, re.IGNORECASE):
        raise RequirementError(
            f"{reference.where}: a requirements file must be a local file, not {written}",
            hint="download it into the project, so that it is reviewed and locked",
        )
    if written.lower().startswith("file:"):
        written = unquote(urlsplit(written).path)
    return Path(os.path.normpath(base / Path(written).expanduser()))


def _content(path: Path, reference: FileReference, name: str) -> bytes:
    option = "-c" if reference.constraint else "-r"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RequirementError(f"{reference.where}: {option} {reference.path}: there is no file {name}") from error
    except OSError as error:
        raise RequirementError(
            f"{reference.where}: {option} {reference.path}: cannot read {name}: {error.strerror}"
        ) from error
    if b"<<<<<<< " in content and (conflict := conflict_in(content.decode("utf-8", "replace"), name)) is not None:
        raise RequirementError(conflict[0], hint=conflict[1])
    return content


def logical_lines(content: bytes, name: str) -> list[tuple[int, str]]:
    """Numbers and texts of the lines that say something. The encoding is the file's own, never the locale's."""
    from pip_requirements_parser import CommentLine, preprocess

    text = _decoded(content, name)
    return [(line.line_number, line.line) for line in preprocess(text) if not isinstance(line, CommentLine)]


def _decoded(content: bytes, name: str) -> str:
    encoding = "utf-8"
    for bom, encoding_of_bom in _BOMS:
        if content.startswith(bom):
            content, encoding = content[len(bom) :], encoding_of_bom
            break
    else:
        for line in content.split(b"\n")[:2]:  # PEP 263, as pip has it
            if line.startswith(b"#") and (match := _CODING.search(line)):
                encoding = match[1].decode("ascii", "replace")
    try:
        return content.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise RequirementError(f"{name}: not a text in {encoding}: {error}", hint="save the file as UTF-8") from error


def _place(step: PipInstall, folder: Path) -> str:
    """The step's location for a message, by its path from the image's folder."""
    if step.location is None:
        return ""
    return f"{os.path.relpath(step.location.file, folder)}:{step.location.line}: "
