"""Containers with klock inside, started by a real podman or docker, as a pod's are.

In a *plain* one, with the engine's defaults, no sandbox can be made; in an *open* one it can.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from tests.integration.container_engines import ContainerHost
from tests.integration.unprivileged import require_program

__all__ = ["Pod", "running_pod"]

_UNMASKED = {"podman": "unmask=ALL", "docker": "systempaths=unconfined"}


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A running container; `project` is the folder that commands run in, mounted at the same path."""

    host: ContainerHost
    name: str
    project: Path
    is_open: bool

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        variables = [word for name, value in (env or {}).items() for word in ("-e", f"{name}={value}")]
        argv = [self.host.engine, "exec", *variables, "-w", str(self.project), self.name, *command]
        return self.host.account.run(argv, cwd=self.host.account.folder, env=self.host.variables)

    def klock(self, *arguments: str, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        return self.run("python3", "-m", "klock", *arguments, env=env)


@contextmanager
def running_pod(
    host: ContainerHost, image: str, *, project: Path, mounts: Mapping[Path, str], store: Path, is_open: bool
) -> Iterator[Pod]:
    """Starts `image` with klock, its dependencies, the store and `mounts` mounted, and no network."""
    store.mkdir(mode=0o700, exist_ok=True)
    every = {**mounts, store: "/store", host.account.source: "/klock", Path(sys.prefix): "/venv"}
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
        yield Pod(host=host, name=name, project=project, is_open=is_open)
    finally:
        host.native("rm", "--force", *(["--time=0"] if host.engine == "podman" else []), name)
