"""Containers with klock inside, started by a real podman or docker, as a pod's are.

In a *plain* one, with the engine's defaults, no sandbox can be made; in an *open* one it can.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from tests.integration.container_engines import ContainerHost
from tests.integration.resident import KLOCK, Ended, Resident, starts_an_interpreter
from tests.integration.unprivileged import require_program

__all__ = ["Pod", "running_pod"]

_PATIENCE = 120.0
_UNMASKED = {"podman": "unmask=ALL", "docker": "systempaths=unconfined"}


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A running container; `project` is the folder that commands run in, mounted at the same path."""

    host: ContainerHost
    name: str
    project: Path
    is_open: bool
    resident: Resident

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        """Runs a command in the container, as the engine's `exec` does."""
        return self.resident.run(command, cwd=self.project, env=env or {}, keep_environment=True)

    def klock(self, *arguments: str, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        program = ("python3", "-m", "klock") if starts_an_interpreter(env or {}) else (KLOCK,)
        return self.run(*program, *arguments, env=env)

    def klock_killed_at(self, event: int, *arguments: str) -> Ended:
        """Runs klock until its `event`-th event (see `resident.py`); with 0 to its end."""
        argv = [KLOCK, *arguments]
        return self.resident.kill_at(event, argv, cwd=self.project, env={}, keep_environment=True)

    def execute(self, *command: str) -> CompletedProcess[str]:
        """Runs a command by the engine's own `exec`."""
        argv = [self.host.engine, "exec", "-w", str(self.project), self.name, *command]
        return self.host.account.run(argv, cwd=self.host.account.folder, env=self.host.variables)


@contextmanager
def running_pod(
    host: ContainerHost, image: str, *, project: Path, mounts: Mapping[Path, str], store: Path, is_open: bool
) -> Iterator[Pod]:
    """Starts `image` with klock, its dependencies, the store and `mounts` mounted, and no network."""
    store.mkdir(mode=0o700, exist_ok=True)
    sockets = Path(tempfile.mkdtemp(prefix="s", dir=host.account.folder))
    shared = {each.resolve().parent for each in store.glob("trees/diff-*") if each.is_symlink()}
    mounts = {**mounts, **{folder: str(folder) for folder in shared}}
    every = {
        **mounts,
        store: "/store",
        sockets: "/resident",
        host.account.source: "/klock:ro",
        Path(sys.prefix): "/venv:ro",
    }
    options = [word for source, target in every.items() for word in ("-v", f"{source}:{target}")]
    if is_open:
        bubblewrap = require_program("bwrap", package="bubblewrap")
        options += ["-v", f"{bubblewrap}:/usr/bin/bwrap:ro", "--security-opt", _UNMASKED[host.engine]]
        options += ["--security-opt", "seccomp=unconfined"]
    variables = {
        "PYTHONPATH": f"/klock:/venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages",
        "PYTHONDONTWRITEBYTECODE": "1",
        "KLOCK_CACHE_DIR": "/store",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    options += [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    options += ["--entrypoint", "sleep", "--user", "0"]
    name = host.native("run", "-d", "--network=none", *options, image, "infinity").strip()
    try:
        argv = [host.engine, "exec", name, "python3", "/klock/resident.py", "/resident/socket"]
        environment = host.account.environment | host.variables
        with (
            subprocess.Popen(argv, env=environment, **host.account.identity) as process,
            _connected(sockets / "socket", process) as wire,
        ):
            yield Pod(host=host, name=name, project=project, is_open=is_open, resident=Resident(wire))
    finally:
        host.native("rm", "--force", *(["--time=0"] if host.engine == "podman" else []), name)
        shutil.rmtree(sockets)


def _connected(path: Path, process: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"nobody listens at {path}"
        time.sleep(0.01)
    wire = socket.socket(socket.AF_UNIX)
    wire.connect(str(path))
    return wire
