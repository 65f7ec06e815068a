"""Files that steps bring: from the project, from other images, from the network; and the mounts of a command."""

from __future__ import annotations

import posixpath
from typing import Final

from klock.digests import Digest
from klock.lockfile.model.layers import LayerLock
from klock.values import dataclass

__all__ = [
    "UNNAMED_TEXT",
    "CopiedFile",
    "CopiedText",
    "CopyLock",
    "DownloadedFile",
    "FetchedRepository",
    "FileEntry",
    "FilesLock",
    "MountLock",
]

UNNAMED_TEXT: Final = "EOF"
"""The name of nearly all heredocs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """`path` relative to the source; `mode` 0o644 or 0o755 for files; `digest` for files, `target` for symlinks."""

    path: str
    mode: int
    size: int = 0
    digest: Digest | None = None
    target: str | None = None

    @property
    def is_folder(self) -> bool:
        return self.digest is None and self.target is None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesLock:
    """Files that `rsync`, `copy` or `sync_package` place at `destination` (absolute).

    `owner` is `user:group` as the environment knows them, `chmod` what was asked of the entries' modes.
    For `sync_package`, `package` is its argument and `path_file` the absolute path of the `.pth` file, which holds
    `import_paths`, that makes it importable.
    """

    source: str
    destination: str
    entries: tuple[FileEntry, ...]
    tree: Digest
    layer: LayerLock
    dest: str | None = None
    contents: bool = False
    filter_options: str | None = None
    package: str | None = None
    path_file: str | None = None
    import_paths: tuple[str, ...] = ()
    force: bool = False
    owner: str | None = None
    chmod: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile:
    """A path that COPY places, relative to the destination, `""` for the destination itself: a file (`digest`), a
    symlink (`target`) or a folder. `source` is where in the build context it is, unless that is the same path.

    `archive`: the file is unpacked there.
    """

    path: str
    mode: int
    size: int = 0
    digest: Digest | None = None
    target: str | None = None
    source: str | None = None
    archive: bool = False

    @property
    def is_folder(self) -> bool:
        return self.digest is None and self.target is None

    @property
    def in_context(self) -> str:
        return self.path if self.source is None else self.source

    @property
    def own_name(self) -> str:
        """The file's name if the destination turns out to be a folder; `""` if that makes no difference."""
        return posixpath.basename(self.in_context) if self.digest and not self.path and not self.archive else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedText:
    """A file that stands in the Dockerfile, at `path` below the destination, or at the destination itself.

    `name` is its name if the destination turns out to be a folder, `""` for `UNNAMED_TEXT`.
    """

    path: str
    content: str
    mode: int = 0o644
    name: str = ""

    @property
    def own_name(self) -> str:
        return "" if self.path else self.name or UNNAMED_TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadedFile:
    """A file that was fetched, at `path` below the destination. `url` has no credentials. `pinned`: the image names the
    hash itself. `archive`: if it is a tar archive it is unpacked there."""

    url: str
    path: str
    sha256: str
    size: int = 0
    mode: int = 0o600
    pinned: bool = False
    archive: bool = False

    @property
    def own_name(self) -> str:
        return "" if self.path else posixpath.basename(self.url.partition("?")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedRepository:
    """The files of a commit of a git repository, placed in the destination.

    The image names the `url` (without credentials), and perhaps `wanted` (a branch, tag or commit), a `folder` of the
    tree, and a `checksum`, with which the commit begins. `keeps_git`: git's folder is there too; `submodules`: their
    files are. The server says the `commit`, the full name of the `reference` that led to it, and an annotated `tag` on
    the way. `sha256` and `size` (bytes) are of the archive that `klock.repositories` makes of all that.
    """

    url: str
    sha256: str
    size: int = 0
    wanted: str = ""
    checksum: str = ""
    folder: str = ""
    keeps_git: bool = False
    submodules: bool = True
    commit: str = ""
    reference: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLock:
    """COPY and ADD of a Dockerfile: files that go to `destination` (absolute).

    `sources` are as expanded. `into`: the destination is a folder whatever is there; else a single file goes into it
    only if it is one already. `owner` is `user:group` as the environment knows them, `stage` where files come from
    instead of the build context; they are then known by the layer alone.
    """

    sources: tuple[str, ...]
    destination: str
    layer: LayerLock
    into: bool = False
    owner: str | None = None
    chmod: str | None = None
    exclude: tuple[str, ...] = ()
    parents: bool = False
    stage: str | None = None
    files: tuple[CopiedFile, ...] = ()
    texts: tuple[CopiedText, ...] = ()
    downloads: tuple[DownloadedFile, ...] = ()
    repositories: tuple[FetchedRepository, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLock:
    """What a command sees at `target` (absolute) while it runs, and no layer has.

    bind: `source` of the build context, or of `stage`. cache and tmpfs: an empty folder.
    secret: the value of the process's variable `secret`, as a file, or as the variable `variable`; it may be missing
    unless `required`.
    """

    kind: str
    target: str
    source: str = ""
    stage: str | None = None
    secret: str = ""
    variable: str | None = None
    required: bool = False
    writable: bool = False
    mode: int = 0
    uid: int = 0
    gid: int = 0
