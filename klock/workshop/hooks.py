"""Runs the hooks of container edits (OCI runtime-spec, config.md, "POSIX-platform Hooks") and says what they did.

A hook such as `nvidia-ctk hook update-ldcache` writes into the root of a container. Done to an environment that would
be drift, and the next machine's hooks write something else. So hooks run once, as for a container that is being
created, over a layer that is thrown away; what they wrote there becomes mounts, which go with the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from klock.errors import EngineError
from klock.gpu.edits import ContainerEdits, DeviceMount, DeviceNode, Hook
from klock.workshop import linux
from klock.workshop.overlay import Area, WritableLayer, make_mount_point, resolve

__all__ = ["hooks_as_mounts"]

_AT_CREATION: Final = ("prestart", "createRuntime", "createContainer")
_PATIENCE: Final = 60
_SHOWN: Final = 2000
"""The last bytes of what a hook that failed said."""
_READ_ONLY: Final = ("ro", "nosuid", "nodev")


def hooks_as_mounts(edits: ContainerEdits, stack: Sequence[Path], area: Area, folder: Path) -> ContainerEdits:
    """In a namespace process: `edits` without hooks, and with mounts of what they write over the folders of `stack`.

    Copies of what they wrote are kept in `folder`. Hooks see what a container runtime shows them: the devices' nodes
    and mounts in place, and /proc, over which NVIDIA's mount. Raises EngineError when a hook fails, runs at another
    time, or mounts a folder.
    """
    for hook in edits.hooks:
        if hook.name not in _AT_CREATION:
            raise EngineError(
                f"klock cannot run a hook of the kind {hook.name}: {hook.path}",
                hint=f"only {', '.join(_AT_CREATION)} hooks are run; choose other devices",
            )
    writable = WritableLayer.create(folder)
    root = os.path.realpath(area.mount_to_write(stack, writable))
    # In a user namespace /proc cannot be shown without what is mounted in it.
    linux.mount("/proc", f"{root}/proc", None, flags=linux.MS_BIND | linux.MS_REC)
    mounts = {_show(root, mount.host_path, mount.container_path): mount.host_path for mount in edits.mounts}
    nodes = {_show(root, n.host_path or n.path, n.path): n for n in edits.device_nodes}
    before = _mounts_below(root)
    bundle = folder / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps({"ociVersion": "1.0.2", "root": {"path": root}}), "utf-8")
    linux.adopt_orphans()
    for hook in edits.hooks:
        _run(hook, bundle)
    copies = _Copies(folder / "copies")
    links, made = _made(root, writable.upper, mounts, nodes, copies)
    made += _mounted(root, before, copies)
    return replace(
        edits, hooks=(), mounts=(*edits.mounts, *made), device_nodes=tuple(dict.fromkeys((*edits.device_nodes, *links)))
    )


def _show(root: str, host_path: str, path: str) -> str:
    """Mounts what the host has at `host_path` at `path` in the tree, and returns where that is."""
    inside = resolve(root, path)
    make_mount_point(inside, is_folder=os.path.isdir(host_path))
    linux.mount(host_path, inside, None, flags=linux.MS_BIND)
    return inside


def _run(hook: Hook, bundle: Path) -> None:
    state = {"ociVersion": "1.0.2", "id": "klock", "status": "creating", "pid": os.getpid(), "bundle": str(bundle)}
    # Files and not pipes: a process that a hook leaves behind would keep those open.
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        told.write(json.dumps(state).encode())
        told.seek(0)
        try:
            done = subprocess.run(
                hook.arguments or (hook.path,),
                executable=hook.path,
                env=dict(variable.split("=", 1) for variable in hook.environment if "=" in variable),
                cwd=bundle,
                stdin=told,
                stdout=said,
                stderr=said,
                timeout=hook.timeout or _PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"the device's hook did not end in time: {hook.path}") from error
        except OSError as error:
            raise EngineError(f"the device's hook cannot be run: {hook.path}: {error.strerror}") from error
        finally:
            _end_what_is_left()
        if done.returncode != 0:
            said.seek(max(0, said.tell() - _SHOWN))
            words = said.read().decode("utf-8", "replace").strip()
            raise EngineError(f"the device's hook failed with status {done.returncode}: {hook.path}\n{words}")


def _end_what_is_left() -> None:
    """Kills all children of this process, which adopts those of a hook, until there is none."""
    while children := _children(os.getpid()):
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children(parent: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            # The name of a program, in parentheses, may hold anything (proc_pid_stat(5)).
            state, ppid = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()[:2]
            if int(ppid) == parent and state != b"X":
                found.append(int(name))
    return found


class _Copies:
    """Files that hooks made, in a folder that is there as long as the command runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        folder.chmod(0o755)

    def mount(self, source: str, path: str) -> DeviceMount:
        """A mount of a copy of `source` at `path` in the container."""
        copy = self._folder / f"{len(os.listdir(self._folder))}-{os.path.basename(path)}"
        shutil.copyfile(source, copy)
        copy.chmod(stat.S_IMODE(os.stat(source).st_mode))
        return DeviceMount(host_path=str(copy), container_path=path, options=_READ_ONLY)


def _made(
    root: str, upper: Path, mounts: Mapping[str, str], nodes: Mapping[str, DeviceNode], copies: _Copies
) -> tuple[list[DeviceNode], list[DeviceMount]]:
    """For the files that are in `upper`, and for what new symlinks lead to: further nodes, and mounts."""
    links: list[DeviceNode] = []
    made: list[DeviceMount] = []
    for folder, _, names in os.walk(upper):
        for name in sorted(names):
            path = "/" + os.path.relpath(os.path.join(folder, name), upper)
            inside = root + path
            if inside in mounts or inside in nodes:
                continue  # a mount point, not something that a hook wrote
            try:
                status = os.lstat(inside)
            except FileNotFoundError:
                continue  # removed
            source = resolve(root, path) if stat.S_ISLNK(status.st_mode) else inside
            if source in nodes:
                node = nodes[source]
                links.append(replace(node, path=path, host_path=node.host_path or node.path))
            elif source in mounts:
                made.append(DeviceMount(host_path=mounts[source], container_path=path, options=_READ_ONLY))
            elif os.path.isfile(source):
                made.append(copies.mount(source, path))
    return links, made


def _mounted(root: str, before: Mapping[str, str], copies: _Copies) -> list[DeviceMount]:
    """What hooks mounted over files. What they mounted in /run is their own: a command's /run is empty."""
    made = []
    for number, point in _mounts_below(root).items():
        path = point.removeprefix(root)
        if number in before or path.startswith("/run/"):
            continue
        if not os.path.isfile(point):
            raise EngineError(
                f"a device's hook mounted a folder, at {path}",
                hint="choose other devices with --gpus: klock supports only hooks that mount files",
            )
        made.append(copies.mount(point, path))
    return made


def _mounts_below(root: str) -> dict[str, str]:
    """Where something is mounted in the tree, by the mount's number (proc_pid_mountinfo(5))."""
    found = {}
    for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines():
        number, _, _, _, point, *_ = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
        if point.startswith(f"{root}/"):
            found[number] = point
    return found
