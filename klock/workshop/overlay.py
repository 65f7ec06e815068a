"""Mounts a stack of layers as one tree, inside a namespace process (the kernel's filesystems/overlayfs.rst).

All mounts are below one folder of the store, the *area*: every namespace process mounts a tmpfs of its own there, which
others do not see and which goes with it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.errors import EngineError
from klock.values import dataclass
from klock.workshop import linux
from klock.workshop.symlinks import MOST_SYMLINKS, follow

if TYPE_CHECKING:
    from klock.store import Store
    from klock.workshop.protocol import Mount

__all__ = ["Area", "WritableLayer", "area_in", "resolve"]

_SKELETON_FOLDERS: Final = ("dev", "proc", "sys", "run", "tmp", "etc")
_SKELETON_FILES: Final = ("etc/resolv.conf", "etc/hosts")


@dataclass(frozen=True, slots=True, kw_only=True)
class WritableLayer:
    """A folder on the store's disk: `upper` takes the changes, `work` is overlayfs' own, `tmp` is seen as /tmp.

    `lasts`: it may outlive a crash of the machine, so programs that wait until a file is on the disk (fsync(2)) do."""

    folder: Path
    lasts: bool = True

    @classmethod
    def create(cls, folder: Path, *, lasts: bool = True) -> WritableLayer:
        for name, mode in (("upper", 0o755), ("work", 0o700), ("tmp", 0o1777)):
            path = folder / name
            path.mkdir()
            path.chmod(mode)
        return cls(folder=folder, lasts=lasts)

    @property
    def upper(self) -> Path:
        return self.folder / "upper"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"


class Area:
    """The private folder of a namespace process, with the mounts made there."""

    def __init__(self, path: str) -> None:
        """The area at `path` as it is; see `create`."""
        self.path = path
        self.merged = f"{path}/merged"
        self.shared_memory = f"{path}/shm"
        self.trusting = f"{path}/trusting"

    @classmethod
    def create(cls, path: str) -> Area:
        area = cls(path)
        linux.mount("tmpfs", path, "tmpfs", flags=linux.MS_NOSUID | linux.MS_NODEV, options="mode=0700")
        for name in ("merged", "lower", "layers", "skeleton", "empty", "trusting", "shm"):
            os.mkdir(f"{path}/{name}", 0o755)
        os.chmod(area.shared_memory, 0o1777)
        return area

    def add_own_shared_memory(self, size: int) -> str:
        """Mounts memory of `size` bytes for one process's commands, and returns where. To be unmounted by it: the area
        may be that of other processes too."""
        where = f"{self.path}/shm-{os.getpid()}"
        os.mkdir(where)
        flags = linux.MS_NOSUID | linux.MS_NODEV
        linux.mount("tmpfs", where, "tmpfs", flags=flags, options=f"mode=1777,size={size}")
        return where

    def mount_to_read(self, layers: Sequence[Path]) -> str:
        """Mounts layers (the lowest first) and returns where they are seen as one tree."""
        if not layers:
            return f"{self.path}/empty"  # overlayfs wants two folders at least
        where = f"{self.path}/lower"
        self._mount([f"{self.path}/empty", *map(str, layers)], where, None)
        return where

    def mount_to_write(
        self,
        layers: Sequence[Path],
        writable: WritableLayer,
        *,
        mounts: Sequence[Mount] = (),
        folders: Sequence[str] = (),
    ) -> str:
        """Mounts layers (the lowest first) with a writable one on top and returns where they are seen as one tree.

        Below the lowest lies a skeleton of mount points and `folders`, so that those a base lacks exist without being
        written.
        """
        skeleton = f"{self.path}/skeleton"
        for name in (*_SKELETON_FOLDERS, *folders):
            os.makedirs(resolve(skeleton, name), exist_ok=True)
        for name in _SKELETON_FILES:
            Path(f"{skeleton}/{name}").touch()
        for mount in mounts:
            make_mount_point(resolve(skeleton, mount.target), is_folder=mount.source.is_dir())
        self._mount([skeleton, *map(str, layers)], self.merged, writable)
        return self.merged

    def show_root(self) -> None:
        """Shows the root of this process as the tree to write, with what is mounted in it."""
        linux.mount("/", self.merged, None, flags=linux.MS_BIND | linux.MS_REC)

    def _mount(self, lowest_first: Sequence[str], where: str, writable: WritableLayer | None) -> None:
        # overlayfs refuses a folder that is named twice (ELOOP), but two steps may make the same layer.
        # The topmost of two equal layers hides the other, so it is enough.
        lowest_first = list(dict.fromkeys(reversed(lowest_first)))[::-1]
        # Options must fit into a page: short relative names instead of long paths, which may hold commas and colons.
        folder = f"{self.path}/layers/{os.path.basename(where)}"
        os.mkdir(folder)
        os.chdir(folder)
        for number, layer in enumerate(reversed(lowest_first)):
            os.symlink(layer, str(number))
        options = "userxattr,lowerdir=" + ":".join(str(number) for number in range(len(lowest_first)))
        if writable:
            os.symlink(writable.upper, "u")
            os.symlink(writable.work, "w")
            options += ",upperdir=u,workdir=w"
            if not writable.lasts:
                import shutil

                options += ",volatile"
                # overlayfs' mark that files may be missing after a crash; after one nobody mounts this again.
                shutil.rmtree(writable.work / "work" / "incompat", ignore_errors=True)
        try:
            linux.mount("overlay", where, "overlay", options=options, flags=0 if writable else linux.MS_RDONLY)
        except OSError as error:
            raise _explained(error, len(lowest_first)) from error
        finally:
            os.chdir("/")


def area_in(store: Store) -> str:
    """The folder of a store below which namespace processes mount, each for itself."""
    path = store.root / "mnt"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(path)


def _explained(error: OSError, layers: int) -> Exception:
    if error.errno == errno.ENODEV:
        return EngineError("this kernel has no overlayfs", hint="as root: modprobe overlay")
    if error.errno == errno.EPERM:
        return EngineError(
            "this kernel does not let users mount overlayfs",
            hint="use Linux 5.11 or newer, or run klock as root",
        )
    if error.errno == errno.EINVAL:
        return EngineError(
            f"overlayfs cannot stack {layers} layers in the store: too many, or its disk cannot hold a writable layer",
            hint="set KLOCK_CACHE_DIR to a folder on ext4, xfs or btrfs (not NFS, not inside another container's root)",
        )
    return error


def resolve(root: str, path: str) -> str:
    """Where `path` leads in the tree at `root`: symlinks are followed, never out of it, and missing parts are kept."""

    def read_link(here: str, followed: int) -> str | None:
        try:
            target = os.readlink(f"{root}/{here}")
        except OSError:
            return None
        if followed == MOST_SYMLINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return target

    inside = follow(path, read_link)
    return f"{root}/{inside}" if inside else root


def make_mount_point(path: str, *, is_folder: bool) -> None:
    """Makes an empty folder or file at a resolved path, with the folders above it."""
    os.makedirs(path if is_folder else os.path.dirname(path), exist_ok=True)
    if not is_folder:
        Path(path).touch()
