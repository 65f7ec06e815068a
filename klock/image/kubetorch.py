"""Takes over a `kubetorch.Image`: the steps its user asked for, as klock's own.

Nothing of kubetorch is imported; what counts is what the object holds. Since 0.5 that is Dockerfile lines and a list of
copy operations, one for each COPY line; before, a list of steps with the arguments of their calls. Lines lose a little:

- Requirements of one call and of the next look the same. Those that follow each other become one `pip_install`, and
  variables one `set_env_vars`.
- `sync_package("./libs/x")` and `copy("./libs/x", "x")` look the same. It is the former when the folder is a Python
  package or project of that name, since the latter would make `x/x`.
- Paths have become absolute. Below the image file's folder and below the home they are made relative again, as a lock
  holds no path of one machine.

Where kubetorch's pods and its documentation disagree, klock's meaning is that of docs/image.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, Final

from klock.documents import read_json
from klock.errors import ImageError
from klock.image import arguments
from klock.image.call_site import call_site
from klock.image.contents import PIP_COMMAND
from klock.image.kubetorch_lines import ReadLines, read_line
from klock.image.local_packages import locate_package
from klock.image.steps import CopyFiles, Location, PipInstall, RunBash, SetEnvVars, Step, SyncPackage
from klock.values import dataclass

__all__ = ["KubetorchImage", "read_kubetorch"]

_FORCE: Final = " # force"
_NOT_ONE: Final = "give it a kubetorch.Image, as kubetorch 0.4 and 0.5 make them"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubetorchImage:
    """What a `kubetorch.Image` says, as `klock.Image` holds it."""

    name: str | None
    image_id: str | None
    python_path: str | None
    install_cmd: str | None
    docker_secret: str | None
    cmd: str | None
    entrypoint: str | None
    steps: tuple[Step, ...]
    location: Location


def read_kubetorch(image: object) -> KubetorchImage:
    """Raises ImageError (a ValueError) for another object, and for a step that klock cannot make."""
    where = call_site()
    file = Path(where.file)
    folder = file.absolute().parent if file.is_file() else Path.cwd()
    text = {name: _text(image, name) for name in ("name", "image_id", "python_path", "install_cmd")}
    lines, operations = getattr(image, "_dockerfile_contents", None), getattr(image, "copy_operations", None)
    steps: Iterable[Step]
    if isinstance(lines, list) and isinstance(operations, list):
        reader = _Lines(operations, install_cmd=text["install_cmd"], where=where, folder=folder)
        steps = reader.steps(lines)
    elif isinstance(setup_steps := getattr(image, "setup_steps", None), list):
        found = [_setup_step(step, where, folder) for step in setup_steps]
        steps = [step for step in found if not _is_empty(step)]
    else:
        raise ImageError(f"from_kubetorch: this is not a kubetorch.Image: {type(image).__name__}", hint=_NOT_ONE)
    return KubetorchImage(
        name=text["name"],
        image_id=text["image_id"],
        python_path=text["python_path"],
        install_cmd=text["install_cmd"],
        docker_secret=_text(image, "docker_secret"),
        cmd=_command(image, "_cmd"),
        entrypoint=_command(image, "_entrypoint"),
        steps=tuple(steps),
        location=where,
    )


def _text(image: object, name: str) -> str | None:
    return arguments.optional_text("from_kubetorch", name, getattr(image, name, None))


def _command(image: object, name: str) -> str | None:
    """CMD or ENTRYPOINT: shell text, and an empty list when there is none."""
    value = getattr(image, name, None)
    return arguments.text("from_kubetorch", name.lstrip("_"), value) if value else None


class _Lines:
    """Reads the Dockerfile lines of kubetorch 0.5."""

    def __init__(self, operations: Sequence[Any], *, install_cmd: str | None, where: Location, folder: Path) -> None:
        self._operations = iter(operations)
        self._installers = tuple(f"{command} " for command in (PIP_COMMAND, install_cmd) if command)
        self._where = where
        self._folder = folder

    def steps(self, lines: Sequence[Any]) -> Iterator[Step]:
        """Raises ImageError when the lines are not what kubetorch writes."""
        pending: Step | None = None
        for line in lines:
            for step in self._read(arguments.text("from_kubetorch", "a line of the image", line)):
                joined = _joined(pending, step) if pending else None
                if pending and joined is None:
                    yield pending
                pending = joined or step
        if pending:
            yield pending
        if next(self._operations, None) is not None:
            raise ImageError("from_kubetorch: the image has more copy operations than COPY lines", hint=_NOT_ONE)

    def _read(self, line: str) -> Sequence[Step]:
        if line.startswith("#"):
            return ()
        name, _, rest = line.partition(" ")
        match name.upper():
            case "RUN":
                return self._run(rest)
            case "ENV":
                return self._variables(rest)
            case "COPY":
                return self._copy(line, next(self._operations, None))
        raise ImageError(f"from_kubetorch: {name} is not an instruction of a kubetorch.Image", hint=_NOT_ONE)

    def _run(self, rest: str) -> Sequence[Step]:
        command, force = (rest.removesuffix(_FORCE), True) if rest.endswith(_FORCE) else (rest, False)
        installer = next((i for i in self._installers if command.startswith(i)), None)
        if installer is not None:
            requirements = arguments.requirements("pip_install", command.removeprefix(installer))
            if installer.startswith(PIP_COMMAND) or all(map(_is_requirement, requirements)):
                return [PipInstall(requirements=requirements, force=force, location=self._where)]
        if command.lstrip().startswith("--") or _is_exec_form(command):
            return self._instruction(f"RUN {rest}")
        return [RunBash(command=arguments.command("run_bash", command), force=force, location=self._where)]

    def _variables(self, rest: str) -> Sequence[Step]:
        """`NAME value`, the value as it stands; `A=1 B="x y"`, which only Dockerfiles have, by their rules."""
        name, _, value = rest.partition(" ")
        if "=" in name or not name:
            return self._instruction(f"ENV {rest}")
        return [SetEnvVars(variables=arguments.variables("set_env_vars", {name: value}), location=self._where)]

    def _copy(self, line: str, operation: Any) -> Sequence[Step]:
        if not isinstance(operation, Mapping) or not isinstance(operation.get("source"), str):
            raise ImageError(f"from_kubetorch: a COPY line has no copy operation: {line}", hint=_NOT_ONE)
        source = operation["source"]
        if not source.startswith("/"):  # kubetorch's own methods resolve it: this one is a Dockerfile's
            return self._instruction(line)
        if package := self._package(source, operation):
            return [replace(package, force=bool(operation.get("force")))]
        return [_copy_files(operation, self._where, self._folder)]

    def _package(self, source: str, operation: Mapping[str, Any]) -> SyncPackage | None:
        """The `sync_package` that makes this copy operation, if it is one."""
        dest = operation.get("dest")
        plain = not operation.get("contents") and not operation.get("filter_options")
        if not plain or not isinstance(dest, str) or "/" in dest:
            return None
        if _is_installed(Path(source), dest, self._folder):
            return SyncPackage(package=dest, path=source, location=self._where)
        if dest == PurePosixPath(source).name and _is_package(Path(source)):
            return SyncPackage(package=_relative(source, self._folder), path=source, location=self._where)
        return None

    def _instruction(self, line: str) -> Sequence[Step]:
        read = ReadLines()
        read_line(line, read, location=replace(self._where, file=str(self._folder / Path(self._where.file).name)))
        return read.steps


def _joined(first: Step, second: Step) -> Step | None:
    match first, second:
        case PipInstall(), PipInstall() if first.force == second.force:
            return replace(first, requirements=(*first.requirements, *second.requirements))
        case SetEnvVars(), SetEnvVars() if not {n for n, _ in first.variables} & {n for n, _ in second.variables}:
            return replace(first, variables=(*first.variables, *second.variables))
    return None


def _is_requirement(text: str) -> bool:
    """Whether what stands behind the installer's command is requirements, and not the rest of a shell command."""
    from klock.errors import RequirementError
    from klock.image.requirement_lines import parse_line

    try:
        parse_line(text, "pip_install")
    except RequirementError:
        return False
    return True


def _is_exec_form(command: str) -> bool:
    try:
        words = read_json(command)
    except ValueError:
        return False
    return isinstance(words, list)


def _is_installed(source: Path, name: str, folder: Path) -> bool:
    """Whether `sync_package(name)` finds that folder."""
    try:
        return locate_package(name, folder=folder) == source.resolve()
    except ImageError:
        return False


def _is_package(source: Path) -> bool:
    return any((source / file).is_file() for file in ("__init__.py", "pyproject.toml", "setup.py", "setup.cfg"))


def _copy_files(values: Mapping[str, Any], where: Location, folder: Path) -> CopyFiles:
    filters = values.get("filter_options") or None
    return CopyFiles(
        source=_relative(arguments.text("copy", "source", values.get("source")), folder).rstrip("/") or "/",
        root=str(folder),
        dest=arguments.destination("copy", values.get("dest")),
        contents=arguments.flag("copy", "contents", values.get("contents", False)),
        filter_options=arguments.optional_text("copy", "filter_options", filters),
        force=arguments.flag("copy", "force", values.get("force", False)),
        location=where,
    )


def _relative(source: str, folder: Path) -> str:
    """An absolute path as a project would write it: from the image file's folder, or from the home."""
    if not source.startswith("/"):
        return source
    roots = {
        os.path.realpath(Path.home()): "~/",
        str(Path.home()): "~/",
        os.path.realpath(folder): "./",
        str(folder): "./",
    }
    for root in sorted(roots, key=len, reverse=True):
        if root != "/" and source.startswith(f"{root}/"):
            return roots[root] + source.removeprefix(f"{root}/")
    return source


def _is_empty(step: Step) -> bool:
    return (isinstance(step, PipInstall) and not step.requirements) or (
        isinstance(step, SetEnvVars) and not step.variables
    )


def _setup_step(step: object, where: Location, folder: Path) -> Step:
    """A step of kubetorch before 0.5, which keeps the arguments of the call."""
    kind, values = getattr(step, "step_type", None), getattr(step, "kwargs", None)
    if not isinstance(values, Mapping):
        raise ImageError(f"from_kubetorch: this is not a step of a kubetorch.Image: {step!r}", hint=_NOT_ONE)
    name = kind.value if isinstance(kind, Enum) else kind
    force = bool(values.get("force", False))
    match name:
        case "pip_install":
            requirements = arguments.requirements("pip_install", values.get("reqs"))
            return PipInstall(requirements=requirements, force=force, location=where)
        case "set_env_vars":
            return SetEnvVars(variables=arguments.variables("set_env_vars", values.get("env_vars")), location=where)
        case "cmd_run":
            return RunBash(command=arguments.command("run_bash", values.get("command")), force=force, location=where)
        case "rsync":
            return _copy_files(values, where, folder)
        case "sync_package":
            package = arguments.text("sync_package", "package", values.get("package"))
            path = locate_package(package, folder=folder)
            return SyncPackage(package=package, path=str(path), force=force, location=where)
    known = re.sub(r"\s+", " ", str(name))
    raise ImageError(
        f"from_kubetorch: klock does not know the step {known!r}", hint="write it with klock's own methods"
    )
