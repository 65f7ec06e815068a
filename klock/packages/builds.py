"""Builds wheels from source inside an environment: offline, from locked build requirements, at a fixed path and time.

The same function builds at lock time, when the wheel's hash is locked, and at replay, when the store has lost the wheel
and the hash is compared. Compilers are those the image's earlier steps installed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from klock.documents import read_json
from klock.errors import FetchError, StepFailed
from klock.lockfile.model import LockedPackage, WheelArtifact
from klock.packages.archives import BROKEN, read_member
from klock.packages.build_failures import BuildFailed, essence, hint_for_build
from klock.packages.build_system import BuildSystem, read_build_system
from klock.packages.interpreter import python_environment
from klock.packages.reaching import strangers
from klock.packages.uv import GIT_VARIABLES, SOURCE_DATE_EPOCH, WORK, run_uv
from klock.packages.wheel_install import install_wheels
from klock.packages.wheels import wheel_of
from klock.recorder import Passes, Reach
from klock.secrets.masking import mask
from klock.store import Store
from klock.temporary import temporary_folder
from klock.values import dataclass
from klock.words import listed
from klock.workshop.handover import clear, empty_folder, hand_in, take_out
from klock.workshop.protocol import Command, Mount, Workspace

__all__ = ["Archive", "BuildRoom", "Folder", "Repository", "Source", "build_room"]

_SCRIPT: Final = Path(__file__).with_name("build_script.py")
_BUILD: Final = f"{WORK}/build"
_SOURCE: Final = "/run/klock/source"
_REQUEST, _RESULT, _PYPROJECT = "request.json", "result.json", "pyproject.toml"
_MOST: Final = 8 << 30
_MOST_ANSWER: Final = 16 << 20
"""Bytes of a wheel, and of what a backend says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A source distribution: a host file and its name."""

    path: Path
    name: str
    subdirectory: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A commit. git of the environment clones it."""

    url: str
    commit: str
    subdirectory: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A project at `path` inside the environment, or on the host when `host` is set. With `copy` it stays as it is."""

    path: str
    host: Path | None = None
    copy: bool = True


Source = Archive | Repository | Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRoom:
    """A place inside an environment to build one project in; its build requirements apart from it if `isolated`."""

    workspace: Workspace
    store: Store
    python: str
    variables: Mapping[str, str]
    source: Source
    system: BuildSystem
    isolated: bool
    work: Path

    def install(self, packages: Sequence[LockedPackage]) -> None:
        """Makes `packages` the whole of what the build can import. Their wheels are in the store."""
        if not self.isolated:
            return
        ended = run_uv(
            self.workspace,
            ["venv", "--clear", "--no-project", "--python", self.python, f"{WORK}/venv"],
            work=self.work,
            variables=self.variables,
        )
        if ended.status != 0:
            raise StepFailed(f"could not make a virtual environment to build in:\n{ended.output.strip()}")
        install_wheels(
            [(package.name, package.version, wheel_of(package)) for package in packages],
            python=f"{WORK}/venv/bin/python",
            workspace=self.workspace,
            store=self.store,
            variables=self.variables,
            work=self.work,
        )

    def extra_requirements(self, kind: str = "wheel") -> tuple[str, ...]:
        """What the backend wants besides `[build-system] requires`, which is installed already.

        No URLs: a backend that may make one up could tell a server what it has read here.
        """
        answer = self._call("requires", kind)
        if not isinstance(answer, list) or not all(isinstance(item, str) for item in answer):
            raise StepFailed(f"the build backend {self.system.backend} gives {answer!r} for its requirements")
        if urls := [item for item in answer if "://" in item or "@" in item]:
            raise StepFailed(
                f"the build backend {self.system.backend} asks for what comes from a URL:{listed(urls)}",
                hint="name it in [build-system] requires, or lock a version that has a wheel",
            )
        return tuple(answer)

    def metadata(self) -> bytes:
        """The METADATA of the wheel the project would make."""
        answer = self._call("metadata", "wheel")
        if str(answer).endswith(".whl"):
            content = self._made(str(answer))
            try:
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
                    return read_member(archive, name)
            except (StopIteration, *BROKEN) as error:
                raise StepFailed(f"{_title(self.source)} makes a wheel that cannot be read: {answer}") from error
        return self._made(f"{answer}/METADATA")

    def build(self, kind: str = "wheel", *, varied: bool = False) -> WheelArtifact:
        """Builds (kind `wheel` or `editable`) and puts the wheel into the store. `varied`: as on another machine."""
        name = self._call("build", kind, varied=varied)
        if not isinstance(name, str) or "/" in name or not name.endswith(".whl"):
            raise StepFailed(f"the build backend {self.system.backend} gives {name!r} for its wheel")
        content = self._made(name)
        digest = self.store.add_bytes(content, source=name)
        return WheelArtifact(name=name, url="", size=len(content), sha256=digest.removeprefix("sha256:"))

    def _made(self, name: str) -> bytes:
        content = take_out(self.work, f"out/{name}", most=_MOST)
        if content is None:
            raise StepFailed(
                f"the build backend {self.system.backend} says that it made {name!r}, and there is no such file"
            )
        return content

    def _call(self, hook: str, kind: str, *, varied: bool = False) -> Any:
        source, mounts, copy, subdirectory = self._source()
        for part in ("out", "tmp", "home"):
            if not (self.work / part).is_dir():
                empty_folder(self.work, part)
        clear(self.work, _RESULT)
        request = {
            "hook": hook,
            "kind": kind,
            "backend": self.system.backend,
            "backend_path": list(self.system.backend_path),
            "source": source,
            "copy": copy,
            "build": _BUILD,
            "subdirectory": subdirectory,
            "output": f"{WORK}/out",
            "result": f"{WORK}/{_RESULT}",
        }
        hand_in(self.work, _REQUEST, json.dumps(request).encode())
        python = f"{WORK}/venv/bin/python" if self.isolated else self.python
        environment = python_environment(self.variables)
        if self.isolated:
            environment["PATH"] = f"{WORK}/venv/bin:{environment['PATH']}"
        fixed = {"SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        ended = self.workspace.run(
            Command(
                argv=(python, "-B", "/run/klock/build_script.py", f"{WORK}/{_REQUEST}"),
                environment={**environment, **fixed, "TMPDIR": f"{WORK}/tmp"},
                mounts=(
                    Mount(source=_SCRIPT, target="/run/klock/build_script.py"),
                    Mount(source=self.work, target=WORK, read_only=False),
                    *mounts,
                ),
                varied=varied,
            )
        )
        answer = take_out(self.work, _RESULT, most=_MOST_ANSWER)
        if ended.status != 0 or not answer:
            words = ended.output.decode("utf-8", "replace").strip()
            raise BuildFailed(
                f"{_title(self.source)} does not build (exit status {ended.status}):\n{essence(words)}",
                hint=hint_for_build(words, _project(self.source)),
            )
        try:
            return read_json(answer)
        except ValueError as error:
            raise StepFailed(f"the build backend {self.system.backend} gives an answer that cannot be read") from error

    def _source(self) -> tuple[str, tuple[Mount, ...], bool, str | None]:
        source = self.source
        if isinstance(source, Archive):
            target = f"{_SOURCE}/{source.name}"
            return target, (Mount(source=source.path, target=target),), False, source.subdirectory
        if isinstance(source, Repository):
            return _BUILD, (), False, source.subdirectory
        if source.host is not None:
            return f"{_SOURCE}/project", (Mount(source=source.host, target=f"{_SOURCE}/project"),), True, None
        return source.path, (), source.copy, None

    def clone(self, passes: Passes) -> BuildSystem:
        """Brings a repository's commit, with its submodules, to where it is built. Returns its build system.

        git is the environment's: what an earlier step put in its place reaches no more than a shell step does, and
        finds no credential. Submodules are those of the repository's own server.
        Raises FetchError.
        """
        source = self.source
        assert isinstance(source, Repository)
        project = f"{_BUILD}/{source.subdirectory or '.'}/pyproject.toml"
        script = (
            'command -v git >/dev/null || { echo "git is not in the environment"; exit 1; }; rm -rf -- "$2" && '
            'git clone --quiet "$KLOCK_URL" "$2" && cd "$2" && git checkout --quiet --detach "$1" && '
            "git submodule --quiet update --init --recursive && "
            'rm -rf -- "$4" && if [ -f "$3" ]; then cat -- "$3" > "$4"; fi'
        )
        ended, report = replace(passes, reach=Reach(repositories=frozenset([source.url]))).run(
            lambda uplink: self.workspace.run(
                Command(
                    argv=("/bin/sh", "-c", script, "sh", source.commit, _BUILD, project, f"{WORK}/{_PYPROJECT}"),
                    environment={**python_environment(self.variables), **GIT_VARIABLES, "KLOCK_URL": source.url},
                    network=uplink,
                    mounts=(Mount(source=self.work, target=WORK, read_only=False),),
                )
            )
        )
        if ended.status != 0:
            words = mask(ended.output.decode("utf-8", "replace").strip(), passes.secrets)
            raise FetchError(
                f"cannot fetch commit {source.commit} of {source.url}: {words}" + listed(report.refused),
                hint="check the URL and the network; git itself must be installed in an earlier step"
                if not strangers(report.refused)
                else "submodules of other servers are not fetched: clone it in a run_bash step, and install the folder",
            )
        return read_build_system(take_out(self.work, _PYPROJECT, most=_MOST_ANSWER), where=source.url)


@contextmanager
def build_room(
    *,
    workspace: Workspace,
    store: Store,
    python: str,
    variables: Mapping[str, str],
    source: Source,
    system: BuildSystem,
    isolated: bool = True,
) -> Iterator[BuildRoom]:
    """A BuildRoom whose folder is removed at the end of the `with` block."""
    with temporary_folder("build", within=store.tmp) as work:
        yield BuildRoom(
            workspace=workspace,
            store=store,
            python=python,
            variables=variables,
            source=source,
            system=system,
            isolated=isolated,
            work=work,
        )


def _project(source: Source) -> str:
    """The name of the project, or what stands for it in a requirement."""
    return source.name.rpartition("-")[0] if isinstance(source, Archive) else _title(source)


def _title(source: Source) -> str:
    if isinstance(source, Archive):
        return source.name
    return source.url if isinstance(source, Repository) else source.path
