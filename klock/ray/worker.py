"""Ray's worker in the environment: the raylet starts this program in place of Python, with what the worker is given.

`python -m klock.ray.worker HOW WORKER ARGUMENT...`: HOW is JSON, of `Worker`. The worker has the process ids and the
memory of the machine, since the raylet knows it by its id and hands it objects in /dev/shm; it sees Ray's folder, with
the sockets and the logs. When it ends, or this program does, klock ends what it left running.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from klock.digests import Digest
from klock.errors import KlockError
from klock.printing import say_error

__all__ = ["ENVIRONMENT", "Worker", "folders_of", "variables_of"]

_PATTERNS: Final = ("RAY_*", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "PYTHONUNBUFFERED")
_FOLDER: Final = "--temp-dir"
_SOCKETS: Final = ("--raylet-name", "--object-store-name")
_FILES: Final = ("RAY_AUTH_TOKEN_PATH", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
_TOKEN: Final = "~/.ray/auth_token"

ENVIRONMENT: Final = "KLOCK_ENVIRONMENT"
"""The variable by which a worker knows which environment it is in: the fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The environment of the copy `lockfile`, made of `image`; `program` is its Python. `variables` are the names of
    those that the user's runtime_env sets: their values may be secret, and are in the process's environment."""

    lockfile: str
    image: str | None
    program: str
    fingerprint: Digest
    variables: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """The command line, to which Ray adds the worker and its arguments."""
        return [sys.executable, "-E", "-P", "-m", "klock.ray.worker", json.dumps(asdict(self))]


def folders_of(arguments: Sequence[str]) -> list[Path]:
    """The folders that a worker with these arguments shares with its raylet: Ray's own, and those of its sockets."""
    folders = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name == _FOLDER and value:
            folders.append(Path(os.path.normpath(value)))
        elif name in _SOCKETS and value:
            folders.append(Path(os.path.normpath(value)).parent)
    there = [each for each in dict.fromkeys(folders) if each != Path("/") and each.is_dir()]
    return [each for each in there if not any(other in each.parents for other in there)]


def variables_of(worker: Worker, environ: Mapping[str, str]) -> dict[str, str]:
    """Those of Ray's, those that the user's runtime_env sets, and the environment's fingerprint."""
    from klock.launchers import matching

    asked = {name: environ[name] for name in worker.variables if name in environ}
    return {**matching(_PATTERNS, environ), **asked, ENVIRONMENT: worker.fingerprint}


def _files(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Files with Ray's own credentials, by variable, that the worker reads."""
    for name in _FILES:
        path = environ.get(name)
        if path is None and name == "RAY_AUTH_TOKEN_PATH" and environ.get("RAY_AUTH_MODE") == "token":
            path = _TOKEN
        if path is not None and (file := Path(path).expanduser().absolute()).is_file():
            yield name, file


def run(worker: Worker, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs the worker to its end. Raises KlockError."""
    from klock.ray.pinned import project_of

    project = project_of(Path(worker.lockfile), worker.image)
    files = dict(_files(environ))
    folders = folders_of(arguments)
    here = Path.cwd()
    done = project.run(
        [worker.program, *arguments],
        variables={**variables_of(worker, environ), **{name: str(file) for name, file in files.items()}},
        mounts=[*(f"{folder}:{folder}" for folder in folders), *(f"{file}:{file}:ro" for file in files.values())],
        working_dir=str(here) if any(here.is_relative_to(folder) for folder in folders) else None,
        host_pid=True,
        host_ipc=True,
        frozen=True,
    )
    return done.returncode


def main(how: str, *arguments: str) -> int:
    given = json.loads(how)
    try:
        return run(Worker(**{**given, "variables": tuple(given["variables"])}), arguments, os.environ)
    except KlockError as error:
        say_error(error.message, error.hint)
        return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
