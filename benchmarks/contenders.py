"""The tools that are compared: for each, the call that does one operation, in a folder of its own for each round.

A round asks for the operations in the order of `Operation`: later ones find what earlier ones left.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from benchmarks.stopwatch import Call

__all__ = [
    "Contender",
    "Operation",
    "Subject",
    "docker",
    "klock",
    "on_docker",
    "on_podman",
    "podman",
    "podman_settings",
    "remove",
    "uv",
    "uv_with_bytecode",
]

_CHANGES: Final = ("tabulate", "humanize", "tqdm", "toolz", "click", "colorama", "zipp", "sortedcontainers", "wrapt")
"""A small requirement to add, another one in each round: no cache has it yet."""


class Operation(Enum):
    """What is measured, as the report calls it."""

    LOCK_COLD = "lock, nothing kept"
    LOCK_UNCHANGED = "lock again, nothing changed"
    LOCK_CHANGED = "lock again, one requirement more"
    SYNC_COLD = "sync, nothing kept"
    SYNC_DOWNLOADS_KEPT = "sync, downloads kept"
    SYNC_UNCHANGED = "sync again, nothing changed"
    SYNC_CHANGED = "sync again, one requirement more"
    CHECK = "check"
    RUN = "run `true`"

    @property
    def times(self) -> int:
        """How often in each round: what is quick is measured more often, since others' work disturbs it more."""
        many = (Operation.LOCK_UNCHANGED, Operation.SYNC_UNCHANGED, Operation.CHECK, Operation.RUN)
        return 5 if self in many else 1


class Contender(Protocol):
    """A tool in one round. None: it has no such operation."""

    def __call__(self, operation: Operation) -> Call | None:
        """Prepares an operation, untimed, and returns the call to time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What all tools work on: the example's folder, its requirements, the registry, and the Python of the base."""

    example: Path
    requirements: tuple[str, ...]
    registry: str
    image: str
    python: str = ""
    platform: str = ""


class _Klock:
    def __init__(self, subject: Subject, folder: Path, number: int, *, source: Path) -> None:
        self._subject = subject
        self._folder = folder
        self._more = _CHANGES[number % len(_CHANGES)]
        self._source = source
        self._project = folder / "project"
        shutil.copytree(subject.example, self._project)
        mirrors = f'registry-mirrors = {{"docker.io" = "http://{subject.registry}"}}'
        (self._project / "pyproject.toml").write_text(f"[tool.klock]\n{mirrors}\n", "utf-8")
        # What an installer makes of the entry point; `python -m` would look for modules to run first.
        self._program = folder / "klock"
        self._program.write_text("import sys\nfrom klock.entry import main\nsys.exit(main())\n", "utf-8")

    def __call__(self, operation: Operation) -> Call | None:
        match operation:
            case Operation.LOCK_COLD:
                return self._call("lock", "lock")
            case Operation.LOCK_UNCHANGED:
                return self._call("lock", "lock")
            case Operation.LOCK_CHANGED:
                return self._call("lock", "lock", cwd=self._changed_project())
            case Operation.SYNC_COLD:
                return self._call("sync", "sync")
            case Operation.SYNC_DOWNLOADS_KEPT:
                shutil.copytree(
                    self._store("sync") / "blobs", self._store("downloads") / "blobs", copy_function=os.link
                )
                return self._call("sync", "downloads")
            case Operation.SYNC_UNCHANGED:
                return self._call("sync", "sync")
            case Operation.SYNC_CHANGED:
                return self._call("sync", "sync", cwd=self._folder / "changed")
            case Operation.CHECK:
                return self._call("check", "sync")
            case Operation.RUN:
                return self._call("run", "sync", "--", "true")

    def export(self, folder: Path, *, changed: bool) -> None:
        """Writes the Dockerfile of what is locked, with what it copies, to `folder`. Not timed."""
        cwd = self._folder / "changed" if changed else self._project
        call = self._call("export", "sync", "dockerfile", "--output", str(folder), cwd=cwd)
        variables = {name: value for name, value in call.variables.items() if value is not None}
        subprocess.run(call.argv, cwd=call.cwd, env={**os.environ, **variables}, check=True, stderr=subprocess.DEVNULL)

    def on_engine(self, engine: str, operation: Operation, variables: Mapping[str, str | None]) -> Call | None:
        """What this klock has locked, on another engine, with a store of its own."""
        arguments = ("--engine", engine)
        call = None
        match operation:
            case Operation.SYNC_COLD | Operation.SYNC_UNCHANGED:
                call = self._call("sync", engine, *arguments)
            case Operation.SYNC_CHANGED:
                call = self._call("sync", engine, *arguments, cwd=self._folder / "changed")
            case Operation.CHECK:
                call = self._call("check", engine, *arguments)
            case Operation.RUN:
                call = self._call("run", engine, *arguments, "--", "true")
        return call and replace(call, variables={**call.variables, **variables})

    def _changed_project(self) -> Path:
        changed = self._folder / "changed"
        shutil.copytree(self._project, changed)
        image = changed / "kimage.py"
        last = f'"{self._subject.requirements[-1]}"'
        text = image.read_text("utf-8")
        assert text.count(last) == 1, f"{image} does not have {last} once"
        image.write_text(text.replace(last, f'{last}, "{self._more}"'), "utf-8")
        return changed

    def _store(self, name: str) -> Path:
        return self._folder / f"store-{name}"

    def _call(self, verb: str, store: str, *arguments: str, cwd: Path | None = None) -> Call:
        return Call(
            argv=(sys.executable, str(self._program), verb, *arguments),
            cwd=cwd or self._project,
            variables={
                "KLOCK_CACHE_DIR": str(self._store(store)),
                "PYTHONPATH": str(self._source),
                # Compiled modules are part of any installation.
                "PYTHONDONTWRITEBYTECODE": None,
            },
        )


class _Uv:
    def __init__(
        self, subject: Subject, folder: Path, number: int, *, program: str, options: tuple[str, ...] = ()
    ) -> None:
        folder.mkdir()
        self._subject = subject
        self._folder = folder
        self._more = _CHANGES[number % len(_CHANGES)]
        self._program = program
        self._options = options
        self._write("requirements.in", subject.requirements)
        self._write("changed.in", (*subject.requirements, self._more))

    def __call__(self, operation: Operation) -> Call | None:
        match operation:
            case Operation.LOCK_COLD | Operation.LOCK_UNCHANGED:
                return self._compile("requirements.in", "requirements.txt")
            case Operation.LOCK_CHANGED:
                shutil.copy(self._folder / "requirements.txt", self._folder / "changed.txt")
                return self._compile("changed.in", "changed.txt")
            case Operation.SYNC_COLD:
                return self._sync("sync", "target")
            case Operation.SYNC_DOWNLOADS_KEPT:
                return self._sync("sync", "other-target")
            case Operation.SYNC_UNCHANGED:
                return self._sync("sync", "target")
            case Operation.SYNC_CHANGED:
                return self._sync("sync", "target", "changed.txt")
            case Operation.CHECK | Operation.RUN:
                return None

    def _write(self, name: str, requirements: tuple[str, ...]) -> None:
        (self._folder / name).write_text("".join(f"{line}\n" for line in requirements), "utf-8")

    def _compile(self, requirements: str, output: str) -> Call:
        arguments = ("--generate-hashes", "--quiet", "--output-file", output, requirements)
        return self._call("compile", "compile", *arguments)

    def _sync(self, cache: str, target: str, requirements: str = "requirements.txt") -> Call:
        arguments = ("--require-hashes", *self._options, "--target", target, requirements)
        return self._call("sync", cache, *arguments)

    def _call(self, verb: str, cache: str, *arguments: str) -> Call:
        platform = ("--python-version", self._subject.python, "--python-platform", self._subject.platform)
        return Call(
            argv=(self._program, "pip", verb, "--no-config", "--python", sys.executable, *platform, *arguments),
            cwd=self._folder,
            variables={"UV_CACHE_DIR": str(self._folder / f"cache-{cache}")},
        )


class _UvWithBytecode:
    """Installs what `_Uv` has resolved, compiled: what klock and pip do without being asked."""

    def __init__(self, subject: Subject, folder: Path, number: int, *, program: str, resolved: Path) -> None:
        self._uv = _Uv(subject, folder, number, program=program, options=("--compile-bytecode",))
        self._folder = folder
        self._resolved = resolved

    def __call__(self, operation: Operation) -> Call | None:
        if operation not in (Operation.SYNC_COLD, Operation.SYNC_DOWNLOADS_KEPT):
            return None
        shutil.copy(self._resolved, self._folder / "requirements.txt")
        return self._uv(operation)


def podman_settings(folder: Path) -> dict[str, str | None]:
    """Variables that lead podman to storage of its own in `folder`, whose files are written."""
    # Limits that cannot be raised, and managers that need not be there, fail podman's defaults in small containers.
    limits = (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC))
    hard = [(name, resource.getrlimit(limit)[1]) for name, limit in limits]
    most = [(name, 32768 if limit == resource.RLIM_INFINITY else min(limit, 32768)) for name, limit in hard]
    ulimits = [f"{name}={limit}:{limit}" for name, limit in most]
    runtime = "runc" if shutil.which("runc") else "crun"
    configuration = f'[containers]\ndefault_ulimits = {json.dumps(ulimits)}\n[engine]\nruntime = "{runtime}"\n'
    configuration += 'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    (folder / "containers.conf").write_text(configuration, "utf-8")
    storage = f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(storage, "utf-8")
    return {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        # On a host that was started without systemd there is none.
        "DBUS_SESSION_BUS_ADDRESS": None,
    }


class _Podman:
    def __init__(self, subject: Subject, folder: Path, number: int, *, program: str) -> None:
        self._subject = subject
        self._folder = folder
        self._more = _CHANGES[number % len(_CHANGES)]
        self._program = program
        (folder / "context").mkdir(parents=True)
        self._write("Dockerfile", subject.requirements)
        self._write("Dockerfile.changed", (*subject.requirements, self._more))
        self._settings = podman_settings(folder)

    def __call__(self, operation: Operation) -> Call | None:
        match operation:
            case Operation.LOCK_COLD | Operation.LOCK_UNCHANGED | Operation.SYNC_UNCHANGED:
                return self._build("Dockerfile")
            case Operation.LOCK_CHANGED:
                return self._build("Dockerfile.changed")
            case Operation.SYNC_COLD | Operation.SYNC_DOWNLOADS_KEPT | Operation.SYNC_CHANGED | Operation.CHECK:
                return None
            case Operation.RUN:
                return self._call("run", "--rm", "--network=none", "localhost/example", "true")

    def _write(self, name: str, requirements: tuple[str, ...]) -> None:
        words = " ".join(f"'{requirement}'" for requirement in requirements)
        certificates = "PIP_CERT=/run/benchmark-ca.pem " if os.environ.get("SSL_CERT_FILE") else ""
        install = f"{certificates}pip install --break-system-packages --no-cache-dir --root-user-action=ignore {words}"
        text = f"FROM {self._subject.registry}/{self._subject.image}\nRUN {install}\n"
        (self._folder / name).write_text(text, "utf-8")

    def _build(self, file: str) -> Call:
        certificates = os.environ.get("SSL_CERT_FILE")
        volume = (f"--volume={Path(certificates).resolve()}:/run/benchmark-ca.pem:ro",) if certificates else ()
        tag = "localhost/example" if file == "Dockerfile" else "localhost/changed"
        options = ("--tls-verify=false", "--network=host", "--layers", *volume, "--tag", tag)
        return self._call("build", *options, "--file", str(self._folder / file), str(self._folder / "context"))

    def build_context(self, folder: Path) -> Call:
        """A build of a folder with a Dockerfile, in this storage."""
        options = ("--tls-verify=false", "--network=host", "--layers", "--tag", "localhost/exported")
        return self._call("build", *options, str(folder))

    def _call(self, verb: str, *arguments: str) -> Call:
        return Call(argv=(self._program, verb, *arguments), cwd=self._folder, variables=self.variables)

    @property
    def variables(self) -> dict[str, str | None]:
        """What leads podman, and klock on podman, to this storage."""
        return self._settings


class _Docker(_Podman):
    """The same Dockerfile, built by a dockerd whose socket is `host`."""

    def __init__(self, subject: Subject, folder: Path, number: int, *, program: str, host: str) -> None:
        super().__init__(subject, folder, number, program=program)
        self._host = host

    def _write(self, name: str, requirements: tuple[str, ...]) -> None:
        super()._write(name, requirements)
        if certificates := os.environ.get("SSL_CERT_FILE"):
            # Its builder mounts nothing of the host.
            shutil.copy(certificates, self._folder / "context/ca.pem")
            text = (self._folder / name).read_text("utf-8")
            text = text.replace("\nRUN", "\nCOPY ca.pem /run/benchmark-ca.pem\nRUN")
            (self._folder / name).write_text(text, "utf-8")

    def _build(self, file: str) -> Call:
        tag = "localhost/example" if file == "Dockerfile" else "localhost/changed"
        options = ("--network=host", "--tag", tag, "--file", str(self._folder / file))
        return self._call("build", *options, str(self._folder / "context"))

    def build_context(self, folder: Path) -> Call:
        return self._call("build", "--network=host", "--tag", "localhost/exported", str(folder))

    @property
    def variables(self) -> dict[str, str | None]:
        return {"DOCKER_HOST": self._host, "DOCKER_BUILDKIT": "0"}


class _Exported:
    """Builds the Dockerfiles that `locked` exports, with the program and storage of `builder`.

    It has no locking to measure: the first build in a storage that is empty is its cold sync.
    """

    def __init__(self, locked: _Klock, subject: Subject, builder: _Podman, folder: Path) -> None:
        self._locked = locked
        self._subject = subject
        self._builder = builder
        self._folder = folder

    def __call__(self, operation: Operation) -> Call | None:
        match operation:
            case Operation.SYNC_COLD:
                return self._build("export", changed=False, fresh=True)
            case Operation.SYNC_UNCHANGED:
                return self._build("export", changed=False, fresh=False)
            case Operation.SYNC_CHANGED:
                return self._build("export-changed", changed=True, fresh=True)
        return None

    def _build(self, name: str, *, changed: bool, fresh: bool) -> Call:
        context = self._folder / name
        if fresh:
            self._locked.export(context, changed=changed)
            dockerfile = context / "Dockerfile"
            text = dockerfile.read_text("utf-8").replace("FROM docker.io/", f"FROM {self._subject.registry}/")
            if certificates := os.environ.get("SSL_CERT_FILE"):
                shutil.copy(certificates, context / "ca.pem")
                trusted = r"\1\nCOPY ca.pem /run/benchmark-ca.pem\nARG PIP_CERT=/run/benchmark-ca.pem"
                text = re.sub(r"^(FROM .*)$", trusted, text, count=1, flags=re.MULTILINE)
            dockerfile.write_text(text, "utf-8")
        return self._builder.build_context(context)


class _OnEngine:
    def __init__(self, locked: _Klock, engine: str, variables: Mapping[str, str | None]) -> None:
        self._locked = locked
        self._engine = engine
        self._variables = variables

    def __call__(self, operation: Operation) -> Call | None:
        return self._locked.on_engine(self._engine, operation, self._variables)


def klock(subject: Subject, folder: Path, number: int, *, source: Path) -> _Klock:
    """klock of the folder `source`, by the interpreter this program runs in."""
    return _Klock(subject, folder, number, source=source)


def uv(subject: Subject, folder: Path, number: int, *, program: str) -> Contender:
    """uv, for the base's Python and platform, into a folder (`--target`)."""
    return _Uv(subject, folder, number, program=program)


def uv_with_bytecode(subject: Subject, folder: Path, number: int, *, program: str, resolved: Path) -> Contender:
    """uv's installer, told to compile; `resolved` is the hashed requirements file that uv has made in this round."""
    return _UvWithBytecode(subject, folder, number, program=program, resolved=resolved)


def podman(subject: Subject, folder: Path, number: int, *, program: str) -> Contender:
    """podman with storage of its own, and a Dockerfile that asks for the same packages on the same base.

    It knows no difference between locking and syncing: one cold build in a round stands for both.
    """
    return _Podman(subject, folder, number, program=program)


def docker(subject: Subject, folder: Path, number: int, *, program: str, host: str) -> Contender:
    """docker, whose daemon listens at `host`, with the same Dockerfile."""
    return _Docker(subject, folder, number, program=program, host=host)


def on_podman(locked: _Klock, subject: Subject, folder: Path, number: int, *, program: str) -> Contender:
    """What `locked` has locked, on podman with storage of its own."""
    return _OnEngine(locked, "podman", _Podman(subject, folder, number, program=program).variables)


def exported_on_podman(locked: _Klock, subject: Subject, folder: Path, number: int, *, program: str) -> Contender:
    """podman builds the Dockerfiles that `locked` exports, in storage of its own."""
    return _Exported(locked, subject, _Podman(subject, folder, number, program=program), folder)


def exported_on_docker(
    locked: _Klock, subject: Subject, folder: Path, number: int, *, program: str, host: str
) -> Contender:
    """docker, whose daemon listens at `host`, builds the Dockerfiles that `locked` exports."""
    return _Exported(locked, subject, _Docker(subject, folder, number, program=program, host=host), folder)


def on_docker(locked: _Klock, *, host: str) -> Contender:
    """What `locked` has locked, on the dockerd at `host`."""
    return _OnEngine(locked, "docker", {"DOCKER_HOST": host})


def remove(folder: Path) -> None:
    """Removes a round's folder. podman leaves its storage mounted on itself."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
    for mount in sorted(mounts, reverse=True):
        if mount.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)
