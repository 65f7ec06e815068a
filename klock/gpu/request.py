"""`--gpus all|N|none|vendor.com/class=name` and `--device`: from the words of a command line to what a command sees."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from klock.errors import EngineError, KlockError
from klock.gpu.cdi import FOLDERS, is_qualified, read_specifications
from klock.gpu.edits import NO_DEVICES, ContainerEdits, DeviceNode, Devices
from klock.gpu.host import edits_of_host

__all__ = ["devices_for", "named_devices", "refuse_missing", "specification_folders"]

_KIND: Final = "nvidia.com/gpu"


def specification_folders() -> tuple[Path, ...]:
    """Where the machine's CDI specifications are: what KLOCK_CDI_SPEC_DIRS says (with colons), or the usual places."""
    configured = os.environ.get("KLOCK_CDI_SPEC_DIRS")
    return tuple(Path(folder) for folder in configured.split(":") if folder) if configured else FOLDERS


def devices_for(text: str, *, folders: Iterable[Path] | None = None) -> Devices | None:
    """The devices that `text` asks for; None for `none` and `0`. Names may be several, with commas between them.

    `all` and numbers mean NVIDIA's GPUs: of the machine's CDI specification, or found on the machine when there is
    none. Raises KlockError for other words, EngineError for devices that are not there.
    """
    if text in ("none", "0"):
        return None
    folders = specification_folders() if folders is None else tuple(folders)
    if text != "all" and not text.isdecimal():
        names = tuple(text.split(","))
        if not all(map(is_qualified, names)):
            raise KlockError(f"--gpus {text!r} asks for no devices", hint="write all, none, a number, or CDI names")
        return Devices(names=names, edits=read_specifications(folders).edits_of(names))
    specifications = read_specifications(folders)
    there = specifications.names(_KIND)
    count = None if text == "all" else int(text)
    if not there:
        specifications.refuse_broken()
        return Devices(names=(), edits=edits_of_host(count))
    # nvidia-ctk names GPUs by number, unless it was told to name them by UUID; on WSL there is `all` alone.
    single = [name for name in there if name.isdigit()] or [name for name in there if name != "all"]
    if count is not None and len(single) < count:
        raise KlockError(
            f"--gpus {text}: this machine's CDI specification names only {len(single)}",
            hint="ask for fewer, or write --gpus all",
        )
    chosen = single[:count] if count is not None else ["all"] if "all" in there else there
    names = tuple(f"{_KIND}={name}" for name in chosen)
    return Devices(names=names, edits=specifications.edits_of(names))


def named_devices(texts: Iterable[str], *, folders: Iterable[Path] | None = None) -> ContainerEdits:
    """What a command needs for devices of any kind: qualified CDI names, device nodes, or folders of such nodes.

    A path may have another one behind it, at which the command sees it: `PATH:TARGET`. Raises KlockError for other
    words, EngineError for devices that are not there.
    """
    edits, names = NO_DEVICES, []
    for text in texts:
        if text.startswith("/"):
            edits += ContainerEdits(device_nodes=tuple(_nodes(text)))
        elif is_qualified(text):
            names.append(text)
        else:
            raise KlockError(
                f"--device {text!r} is not a device", hint="write /dev/NAME, /dev/NAME:TARGET, or vendor.com/class=name"
            )
    if names:
        folders = specification_folders() if folders is None else tuple(folders)
        edits += read_specifications(folders).edits_of(names)
    refuse_missing(edits)
    return edits


def _nodes(text: str) -> Iterator[DeviceNode]:
    source, _, target = text.partition(":")
    if not target and not posixpath.normpath(source).startswith("/dev/"):
        raise KlockError(f"--device {text!r} is not below /dev", hint="name a target below /dev: PATH:/dev/NAME")
    target = target or source
    if not posixpath.normpath(target).startswith("/dev/") or ":" in target:
        raise KlockError(f"--device {text!r}: {target!r} cannot hold a device", hint="choose one below /dev")
    found = False
    for path in _below(Path(source), text):
        if _is_device(path):
            found = True
            inside = posixpath.normpath(posixpath.join(target, os.path.relpath(path, source)))
            yield DeviceNode(path=inside, host_path=str(path))
    if not found:
        raise EngineError(
            f"--device {text!r}: {source} is not a device and has none in it",
            hint="show a file or a folder with --mount SOURCE:TARGET",
        )


def _below(path: Path, text: str) -> Iterator[Path]:
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise EngineError(
            f"--device {text!r}: klock cannot look at {path}: {error.strerror}",
            hint="see which devices this machine has: ls -lR /dev",
        ) from error
    if not is_folder:
        yield path
        return
    for above, folders, files in os.walk(path):
        folders.sort()
        yield from (Path(above, name) for name in sorted(files))


def _is_device(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:  # a symlink that leads nowhere
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def refuse_missing(edits: ContainerEdits) -> None:
    """Raises EngineError when the machine has not all that `edits` name: a specification may be older than a driver."""
    nodes = (node.host_path or node.path for node in edits.device_nodes)
    for path in (*nodes, *(mount.host_path for mount in edits.mounts), *(hook.path for hook in edits.hooks)):
        if not Path(path).exists():
            raise EngineError(
                f"the device's CDI specification names {path}, which is not on this machine",
                hint="generate the specification again with the vendor's tool; for NVIDIA: "
                "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
            )
