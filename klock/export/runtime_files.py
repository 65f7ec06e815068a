"""What an image's config says, as files in it: a squashfs has no config, so runtimes of clusters read it there.

charliecloud reads /ch/environment (ch-run(1), `--set-env`), apptainer /.singularity.d (its user guide, "Environment and
Metadata"). No credential is in them.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Final

from klock.lockfile.model import TargetLock
from klock.places.containers.image import labels_of
from klock.places.containers.start_options import start_words
from klock.steps.service.export import START, start_script

__all__ = ["RuntimeFile", "runtime_files", "unsaid_variables"]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What a shell can set (POSIX, "Name")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFile:
    """`path` is absolute."""

    path: str
    content: bytes
    mode: int = 0o644


def runtime_files(lock: TargetLock) -> list[RuntimeFile]:
    """The files, sorted by path."""
    labels = json.dumps({**dict(lock.settings.labels), **labels_of(lock)}, sort_keys=True, indent=2)
    files = [
        RuntimeFile(path="/ch/environment", content=_of_charliecloud(lock)),
        RuntimeFile(path="/.singularity.d/env/10-klock.sh", content=_exports(lock), mode=0o755),
        RuntimeFile(path="/.singularity.d/runscript", content=_runscript(lock), mode=0o755),
        RuntimeFile(path="/.singularity.d/labels.json", content=labels.encode() + b"\n"),
    ]
    if lock.services:
        files.append(RuntimeFile(path=START, content=start_script(lock.services), mode=0o755))
    return sorted(files, key=lambda file: file.path)


def unsaid_variables(lock: TargetLock) -> list[str]:
    """Names of variables that charliecloud's file cannot hold: it has one line for each."""
    return [name for name, value in lock.public_environment.items() if "\n" in value]


def _of_charliecloud(lock: TargetLock) -> bytes:
    """ch-run takes the outer quotes away."""
    unsaid = unsaid_variables(lock)
    lines = [f"{name}='{value}'\n" for name, value in lock.public_environment.items() if name not in unsaid]
    return "".join(lines).encode("utf-8", "surrogateescape")


def _exports(lock: TargetLock) -> bytes:
    variables = {name: value for name, value in lock.public_environment.items() if _IDENTIFIER.fullmatch(name)}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    return "".join(lines).encode("utf-8", "surrogateescape")


def _runscript(lock: TargetLock) -> bytes:
    """What `apptainer run` starts: as docker does, arguments take the place of the command."""
    entrypoint, command = start_words(lock.settings)
    first = [START, *entrypoint] if lock.services else list(entrypoint)
    lines = [
        "#!/bin/sh",
        f"cd {shlex.quote(lock.working_dir)} || exit 1",
        *([f"[ $# -gt 0 ] || set -- {shlex.join(command)}"] if command else []),
        f"exec {shlex.join(first)} " + '"$@"' if first else 'exec "$@"',
    ]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
