"""An image as Dockerfile text, for people to read. It is written from the steps; klock itself never reads it.

The text is the upstream builder's wherever that is a working Dockerfile. Requirements are quoted for the shell where
they must be (`'numpy>=1.20'`), a command of several lines is a heredoc, and a line break in a value, which a Dockerfile
cannot hold, shows as `\\n`. Credentials show as `***`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from klock.image.steps import (
    AddPython,
    AptInstall,
    Base,
    CondaInstall,
    Configure,
    CopyFiles,
    DebianBase,
    DeclareArguments,
    FromContext,
    HealthCheck,
    LayoutBase,
    PipInstall,
    RegistryBase,
    RunBash,
    RunCommand,
    RunMount,
    SetEnvVars,
    SetWorkingDir,
    Step,
    SyncPackage,
)
from klock.lockfile.model import HealthLock
from klock.secrets.masking import mask
from klock.secrets.values import is_secret, may_be_secret

__all__ = ["PIP_COMMAND", "base_text", "contents", "health_line", "shell_text"]

PIP_COMMAND = "$KT_PIP_INSTALL_CMD"
"""Stands for the installer in the text when the image names none."""


def contents(base: Base | None, steps: Iterable[Step], *, python_path: str | None, install_cmd: str | None) -> str:
    lines = []
    if isinstance(base, DebianBase):
        lines.append(f"# FROM the Debian archive: {' with '.join(filter(None, (base.suite, ' '.join(base.packages))))}")
    elif base is not None:
        lines.append(f"FROM {base_text(base)}")
    if python_path:
        lines.append(f"ENV KT_PYTHON_PATH {python_path}")
    for step in steps:
        lines.extend(_lines(step, install_cmd or PIP_COMMAND))
    return mask("".join(f"{line}\n" for line in lines))


def base_text(base: Base) -> str | None:
    """A base as `from_docker` takes it; None for one that has no reference."""
    match base:
        case RegistryBase():
            return base.reference
        case LayoutBase():
            return f"oci:{base.path}" + (f":{base.tag}" if base.tag else "")
        case DebianBase():
            return None


def _lines(step: Step, install_cmd: str) -> list[str]:
    match step:
        case PipInstall():
            return [_forced(f"RUN {install_cmd} {_for_shell(r)}", step.force) for r in step.requirements]
        case AptInstall():
            packages = shlex.join(step.packages)
            command = f"RUN apt-get update && apt-get install -y --no-install-recommends {packages}"
            return [_forced(command, step.force)]
        case SetEnvVars():
            return [f"ENV {name} {_shown(name, value)}" for name, value in step.variables]
        case RunBash():
            return [_run(step)]
        case CopyFiles():
            dest = step.dest or ("." if step.contents else PurePosixPath(step.source).name)
            return [_forced(f"COPY {_copy_words(step.source, dest)}", step.force)]
        case SyncPackage():
            return [_forced(f"COPY {_copy_words(step.package, step.folder)}", step.force)]
        case DeclareArguments():
            return [f"ARG {a.name}" if a.default is None else f"ARG {a.name}={a.default}" for a in step.arguments]
        case RunCommand():
            return _run_command(step)
        case FromContext():
            return _copy_in(step)
        case SetWorkingDir():
            return [f"WORKDIR {step.path}"]
        case Configure():
            return list(_configure(step))
        case CondaInstall():
            channels = " ".join(f"-c {shlex.quote(channel)}" for channel in step.channels)
            return [
                f"# conda create -p {step.prefix} {channels} {shlex.join(step.specs)}",
                f"ENV CONDA_PREFIX={step.prefix} PATH={step.prefix}/bin:$PATH",
            ]
        case AddPython():
            return [f"# add_python {step.version}", "ENV PATH=/opt/python/bin:$PATH"]


def shell_text(step: Configure, name: str) -> str:
    """The words of `entrypoint` or `command` as one line of shell."""
    words: tuple[str, ...] = getattr(step, name) or ()
    return words[0] if words and name in step.in_shell else shlex.join(words)


def _run_command(step: RunCommand) -> list[str]:
    flags = "--network=none " if step.without_network else ""
    flags += "".join(f"--mount={_mount(mount)} " for mount in step.mounts)
    lines = [f"# klock: leave-out={' '.join(step.leave_out)}"] if step.leave_out else []
    lines += ["# klock: keep-layer"] if step.keep_layer else []
    if step.words:
        return [*lines, f"RUN {flags}{json.dumps(list(step.words), ensure_ascii=False)}"]
    if "\n" not in step.command:
        return [*lines, f"RUN {flags}{step.command}"]
    delimiter = _delimiter(step.command)
    return [*lines, f"RUN {flags}<<{delimiter}", *step.command.rstrip("\n").split("\n"), delimiter]


def _mount(mount: RunMount) -> str:
    names = {"source": mount.source, "from": mount.stage, "id": mount.secret, "env": mount.variable}
    names |= {"target": mount.target, "mode": mount.mode, "rw": "true" if mount.writable else None}
    names |= {"required": "true" if mount.required else None}
    names |= {name: value for name, value in (("uid", mount.uid), ("gid", mount.gid)) if value != "0"}
    words = [f"type={mount.kind}", *(f"{name}={value}" for name, value in names.items() if value)]
    return ",".join(f'"{word}"' if "," in word else word for word in words)


def _copy_in(step: FromContext) -> list[str]:
    unpack = None if step.unpack is None else str(step.unpack).lower()
    keeps = None if step.keeps_git is None else str(step.keeps_git).lower()
    flags = {"from": step.stage, "chown": step.owner, "chmod": step.mode, "checksum": step.checksum, "unpack": unpack}
    flags["keep-git-dir"] = keeps
    options = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    options += [f"--exclude={pattern}" for pattern in step.exclude]
    options += ["--parents"] if step.parents else []
    texts = [f"<<{'' if text.expands else chr(39)}{text.name}{'' if text.expands else chr(39)}" for text in step.texts]
    words = [*step.sources, *texts, step.dest]
    if any(c.isspace() for word in words for c in word) and not texts:
        words = [json.dumps(words, ensure_ascii=False)]
    lines = [" ".join(["ADD" if step.unpacks else "COPY", *options, *words])]
    for text in step.texts:
        lines += [*text.content.removesuffix("\n").split("\n"), text.name]
    return lines


def _configure(step: Configure) -> Iterator[str]:
    if step.user is not None:
        yield f"USER {step.user}"
    if step.shell is not None:
        yield f"SHELL {json.dumps(list(step.shell), ensure_ascii=False)}"
    for name, words in (("ENTRYPOINT", step.entrypoint), ("CMD", step.command)):
        if words is not None and (words or name == "ENTRYPOINT"):
            in_shell = {"ENTRYPOINT": "entrypoint", "CMD": "command"}[name] in step.in_shell
            yield f"{name} {words[0] if in_shell else json.dumps(list(words), ensure_ascii=False)}"
    for name, value in step.labels:
        yield f"LABEL {name}={value}"
    if step.ports:
        yield f"EXPOSE {' '.join(step.ports)}"
    if step.volumes:
        yield f"VOLUME {json.dumps(list(step.volumes), ensure_ascii=False)}"
    if step.stop_signal is not None:
        yield f"STOPSIGNAL {step.stop_signal}"
    if step.author is not None:
        yield f"MAINTAINER {step.author}"
    for trigger in step.on_build:
        yield f"ONBUILD {trigger}"
    if step.health is not None:
        yield health_line(step.health)


def health_line(health: HealthCheck | HealthLock) -> str:
    """A health check as a line of a Dockerfile."""
    kind, *test = health.test
    if kind == "NONE":
        return "HEALTHCHECK NONE"
    times = {
        "interval": health.interval,
        "timeout": health.timeout,
        "start-period": health.start_period,
        "start-interval": health.start_interval,
    }
    flags = [f"--{name}={value}ns" for name, value in times.items() if value]
    flags += [f"--retries={health.retries}"] if health.retries else []
    command = test[0] if kind == "CMD-SHELL" else json.dumps(test, ensure_ascii=False)
    return " ".join(["HEALTHCHECK", *flags, "CMD", command])


def _shown(name: str, value: str) -> str:
    return "***" if is_secret(name, value) and may_be_secret(value) else value.replace("\n", "\\n")


def _forced(line: str, force: bool) -> str:
    return f"{line} # force" if force else line


def _for_shell(requirement: str) -> str:
    from klock.errors import RequirementError
    from klock.image.requirement_lines import words_of

    try:
        return shlex.join(words_of(requirement))
    except RequirementError:
        return shlex.quote(requirement)


def _run(step: RunBash) -> str:
    if "\n" not in step.command:
        return _forced(f"RUN {step.command}", step.force)
    delimiter = _delimiter(step.command)
    return f"{_forced(f'RUN <<{delimiter}', step.force)}\n{step.command.rstrip(chr(10))}\n{delimiter}"


def _delimiter(text: str) -> str:
    delimiter = "EOF"
    while delimiter in text.splitlines():
        delimiter += "F"
    return delimiter


def _copy_words(source: str, dest: str) -> str:
    if any(c.isspace() for c in source + dest):
        return json.dumps([source, dest], ensure_ascii=False)
    return f"{source} {dest}"
