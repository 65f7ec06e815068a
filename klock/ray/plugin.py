"""The plugin that Ray's agent on each node asks: it makes the environment, and says how a worker starts in it.

What Ray calls, and when: ray._private.runtime_env.plugin, `RuntimeEnvPlugin` (Ray 2.60). `klock.ray.KlockPlugin` is
this class as Ray wants it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping
from logging import Logger
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from klock.digests import digest_of_bytes
from klock.errors import KlockError
from klock.ray.node import answer, command
from klock.ray.worker import Worker

__all__ = ["NAME", "OUTSIDE", "Plugin", "lockfile_of_node"]

NAME: Final = "klock"
OUTSIDE: Final = "none"
"""For a task or an actor that runs outside of the job's environment, in the node's own Python."""
_WORKING_DIR: Final = "RAY_RUNTIME_ENV_CREATE_WORKING_DIR"
_LAST: Final = 90


class Plugin:
    """`runtime_env={"klock": "kimage.lock"}`: workers run in the environment of that lockfile.

    The path is one of the runtime_env's `working_dir`, or absolute, and then the same on every node. `none` is for what
    runs outside.
    """

    name = NAME
    # After all other plugins: these may set variables of the worker, which must be known here.
    priority = _LAST

    def __init__(self) -> None:
        self._made: dict[str, dict[str, Any]] = {}

    @staticmethod
    def validate(runtime_env_dict: Mapping[str, Any]) -> None:
        """Raises ValueError for a runtime_env that klock cannot serve."""
        value = runtime_env_dict.get(NAME)
        if value == OUTSIDE:
            return
        if not isinstance(value, str) or not value.endswith(".lock"):
            raise ValueError(f'runtime_env["klock"] is {value!r}: write the path of a lockfile, such as "kimage.lock"')
        others = [key for key in ("pip", "uv", "conda", "image_uri", "container") if runtime_env_dict.get(key)]
        if others:
            raise ValueError(
                f'runtime_env has "klock" and "{others[0]}", which both say where packages come from: remove one'
            )

    def get_uris(self, runtime_env: Mapping[str, Any]) -> list[str]:
        """One for each content: if the lockfile or the working_dir changes, so does the URI."""
        value = runtime_env.get(NAME)
        if not isinstance(value, str) or value == OUTSIDE:
            return []
        if not value.startswith("/"):
            return [f"klock://{quote(str(runtime_env.get('working_dir') or ''), safe='')}/{quote(value)}"]
        try:
            digest = digest_of_bytes(Path(value).read_bytes())
        except OSError:
            digest = "missing"
        return [f"klock://{digest}{quote(value)}"]

    async def create(self, uri: str | None, runtime_env: Mapping[str, Any], context: Any, logger: Logger) -> float:
        """Makes the environment on this node, and returns its bytes. Raises KlockError."""
        if runtime_env[NAME] == OUTSIDE:
            return 0
        import ray

        lockfile = lockfile_of_node(runtime_env[NAME], os.environ.get(_WORKING_DIR))
        words = command("prepare", str(lockfile), platform.python_version(), ray.__version__)
        process = await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            stdout, stderr = await process.communicate()
        except asyncio.CancelledError:  # after the setup_timeout_seconds of the runtime_env
            process.kill()
            await process.wait()
            raise
        made = answer(process.returncode or 0, stdout, stderr)
        logger.info("klock: %s is %s, %s steps ran", lockfile, made["fingerprint"], made["ran"])
        self._made[uri or ""] = made
        return float(made["bytes"])

    def modify_context(self, uris: list[str], runtime_env: Mapping[str, Any], context: Any, logger: Logger) -> None:
        """Has the worker start in the environment."""
        if not uris:
            return
        made = self._made[uris[0]]
        worker = Worker(
            lockfile=made["lockfile"],
            image=made["image"],
            program=made["program"],
            fingerprint=made["fingerprint"],
            variables=tuple(sorted(context.env_vars)),
        )
        context.py_executable = shlex.join(worker.command())
        context.override_worker_entrypoint = made["worker"]

    def delete_uri(self, uri: str, logger: Logger) -> float:
        """Removes an environment that no job uses any more; returns the bytes that Ray counted for it. Its layers stay
        in klock's store until `klock cache prune`."""
        made = self._made.pop(uri, None)
        if made is None or any(other["lockfile"] == made["lockfile"] for other in self._made.values()):
            return 0
        done = subprocess.run(
            command("remove", made["lockfile"]), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        try:
            is_removed = answer(done.returncode, done.stdout, done.stderr)["is_removed"]
            why = "a worker is in it"
        except KlockError as error:
            is_removed, why = False, str(error)
        if not is_removed:
            logger.warning("klock: the environment of %s stays: %s", made["lockfile"], why)
            return 0
        return float(made["bytes"])


def lockfile_of_node(value: str, working_dir: str | None) -> Path:
    """Where on this node the lockfile of a runtime_env is. Raises KlockError."""
    if value.startswith("/"):
        return Path(value)
    if not working_dir:
        raise KlockError(
            f'runtime_env["klock"] is the relative path {value!r}, but the job has no working_dir',
            hint='send the project along, runtime_env={"working_dir": ".", "klock": "kimage.lock"}, '
            "or name a lockfile that every node has at the same absolute path",
        )
    folder = Path(working_dir)
    path = Path(os.path.normpath(folder / value))
    if not path.is_relative_to(folder):
        raise KlockError(f'runtime_env["klock"] is {value!r}, outside of the working_dir', hint="name a file in it")
    return path
