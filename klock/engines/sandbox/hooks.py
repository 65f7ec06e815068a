"""Runs the hooks of container edits (OCI runtime-spec, config.md, "POSIX-platform Hooks") and says what they did.

A hook such as `nvidia-ctk hook update-ldcache` writes into the root of a container. Done to an environment that would
be drift, and the next machine's hooks write something else. So hooks run once, as for a container that is being
created, over a layer that is thrown away; what they wrote there becomes mounts, which go with the command.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from klock.engines.sandbox import linux
from klock.engines.sandbox.overlay import Area, WritableLayer, make_mount_point, resolve
from klock.errors import EngineError
from klock.gpu.edits import ContainerEdits, DeviceMount, Hook

__all__ = ["hooks_as_mounts"]

_AT_CREATION: Final = ("prestart", "createRuntime", "createContainer")
_PATIENCE: Final = 60
_READ_ONLY: Final = ("ro", "nosuid", "nodev")


def hooks_as_mounts(edits: ContainerEdits, stack: Sequence[Path], area: Area, folder: Path) -> ContainerEdits:
    """In a namespace process: `edits` without hooks, and with mounts of what they write over the folders of `stack`.

    Copies of what they wrote are kept in `folder`. Raises EngineError when a hook fails, or runs at another time.
    """
    for hook in edits.hooks:
        if hook.name not in _AT_CREATION:
            raise EngineError(
                f"klock cannot run a hook of the kind {hook.name}: {hook.path}",
                hint=f"only {', '.join(_AT_CREATION)} hooks are run; choose other devices",
            )
    writable = WritableLayer.create(folder)
    root = area.mount_to_write(stack, writable)
    targets: dict[str, str] = {}
    for mount in edits.mounts:
        inside = resolve(root, mount.container_path)
        make_mount_point(inside, is_folder=os.path.isdir(mount.host_path))
        linux.mount(mount.host_path, inside, None, flags=linux.MS_BIND)
        targets[inside] = mount.host_path
    bundle = folder / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps({"ociVersion": "1.0.2", "root": {"path": root}}), "utf-8")
    for hook in edits.hooks:
        _run(hook, bundle)
    made = list(_made(root, writable.upper, targets, folder / "made"))
    return replace(edits, hooks=(), mounts=(*edits.mounts, *made))


def _run(hook: Hook, bundle: Path) -> None:
    state = {"ociVersion": "1.0.2", "id": "klock", "status": "creating", "pid": os.getpid(), "bundle": str(bundle)}
    try:
        done = subprocess.run(
            hook.arguments or (hook.path,),
            executable=hook.path,
            env=dict(variable.split("=", 1) for variable in hook.environment if "=" in variable),
            cwd=bundle,
            input=json.dumps(state).encode(),
            capture_output=True,
            timeout=hook.timeout or _PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"the device's hook did not end in time: {hook.path}") from error
    except OSError as error:
        raise EngineError(f"the device's hook cannot be run: {hook.path}: {error.strerror}") from error
    if done.returncode != 0:
        words = (done.stderr + done.stdout).decode("utf-8", "replace").strip()
        raise EngineError(f"the device's hook failed with status {done.returncode}: {hook.path}\n{words[-2000:]}")


def _made(root: str, upper: Path, targets: dict[str, str], copies: Path) -> Iterator[DeviceMount]:
    """Mounts for the files that are in `upper`, and for the files that new symlinks lead to."""
    copies.mkdir()
    copies.chmod(0o755)
    for folder, _, names in os.walk(upper):
        for name in sorted(names):
            path = "/" + os.path.relpath(os.path.join(folder, name), upper)
            inside = root + path
            if inside in targets:
                continue  # a place to mount at, not something that a hook wrote
            try:
                status = os.lstat(inside)
            except FileNotFoundError:
                continue  # removed
            source = resolve(root, path) if stat.S_ISLNK(status.st_mode) else inside
            if source not in targets and not os.path.isfile(source):
                continue
            host_path = targets.get(source)
            if host_path is None:
                copy = copies / f"{len(os.listdir(copies))}-{os.path.basename(path)}"
                shutil.copyfile(source, copy)
                copy.chmod(stat.S_IMODE(os.stat(source).st_mode))
                host_path = str(copy)
            yield DeviceMount(host_path=host_path, container_path=path, options=_READ_ONLY)
