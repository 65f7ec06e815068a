"""What the rest of klock may ask of the workshop: bases, layers, and workspaces in which foreign programs run.

Nothing else starts a program of an image or of a package. Values here are what passes between the two sides.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from klock.forks import Tally
from klock.progress import QUIET, Progress
from klock.values import dataclass
from klock.workshop.command import RESOLVER, SCRIPT, Command, Mount, Network, Uplink

if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.files.placed import PlacedFile
    from klock.gpu.edits import ContainerEdits
    from klock.layers.manifest import Entry, Manifest

__all__ = [
    "RESOLVER",
    "SCRIPT",
    "BaseLayer",
    "Command",
    "Completed",
    "FileTree",
    "KnownFiles",
    "Layer",
    "Mount",
    "Network",
    "NewBase",
    "PackageFiles",
    "TreeCopy",
    "Uplink",
    "Workshop",
    "Workspace",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """`status`: the exit status, 128 + N for signal N. `output`: the end of stdout and stderr, at most 64 KiB."""

    status: int
    output: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCopy:
    """What to copy from another tree, a base with layers, whose `name` is for messages.

    `sources` are paths with wildcards, of folders the contents; `destination` is absolute, and a folder whatever is
    there if `into`. Owners and modes stay, unless `owner` or `chmod` (as for chmod(1)) says otherwise. `exclude` are
    patterns of moby's patternmatcher; with `parents` the folders above a source are kept.
    """

    name: str
    base: str
    layers: Sequence[Digest]
    sources: Sequence[str]
    destination: str
    into: bool = False
    owner: str | None = None
    chmod: str | None = None
    exclude: Sequence[str] = ()
    parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a workspace changed, in canonical form: `digest` is the manifest's. `notes` are what is to be said of it
    when it is locked."""

    digest: Digest
    manifest: Manifest
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTree:
    """A tree that composed layers share, such as what a wheel installs. All of it is root's; folders have mode 0755.

    `key` says what it was made of. `files` are locked with each layer that it goes into; what was `derived` of them
    here (compiled modules) is shown beside them, and can be made again of them.
    """

    key: Digest
    files: Manifest
    derived: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseLayer:
    """An archive of a base image: a tar file, compressed as `media_type` says (OCI image-spec, layer.md).

    `limit` are the bytes that it may have without that, where the digests of it are not locked. `size` is that of the
    file, which need not be there yet (`Workshop.add_base`)."""

    path: Path
    media_type: str
    diff_id: Digest
    limit: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFiles:
    """The files of a package: a tar archive, compressed as `media_type` says (it ends in `.tar`, `gzip`, `xz` or
    `zstd`), which is `size` bytes of the file `path` from `offset` on. `name` names the package in messages."""

    name: str
    path: Path
    offset: int
    size: int
    media_type: str


class KnownFiles(Protocol):
    """The files of a workspace in which nothing runs. Paths are relative to the root where nothing else is said."""

    def find(self, path: str) -> Entry | None:
        """What is at an absolute path, behind all symlinks."""

    def real(self, path: str) -> str:
        """Where an absolute path leads, without symlinks."""

    def paths(self) -> Iterable[str]:
        """All paths, in no order."""

    def read(self, paths: Sequence[str]) -> Mapping[str, bytes]:
        """The bytes of those of the files that can be had, by path. Slow: it is asked for many at once."""


class Workspace(Protocol):
    """A base and some layers with a writable layer on top. Closed without a snapshot it leaves nothing behind."""

    @property
    def known(self) -> KnownFiles | None:
        """Its files, where no program runs (`klock.workshop.still`); None in all other workspaces."""

    def run(self, command: Command, *, on_output: Callable[[bytes], None] | None = None) -> Completed:
        """Runs to the end and returns the status; a status other than 0 raises nothing. stdin is empty."""

    def run_service(self, command: Command, *, seconds: float = 0.5) -> Completed | None:
        """Starts a command, waits, and stops it: None if it was alive after `seconds`, else how it ended."""

    def place(self, files: Sequence[PlacedFile], destination: str, *, owner: str = "", keep: bool = False) -> None:
        """Writes files below the absolute folder `destination`, through the environment's symlinks, never out of it.

        Files, and folders that are made for them, belong to `owner` (as in an OCI config, by default root) and get
        exactly their mode. With a single file of path "" `destination` is the file itself. `keep`: they may lie where
        layers leave files out; such paths are for `snapshot` to keep.
        Raises HashMismatch when a source's bytes are not its digest's.
        """

    def copy_from(self, wanted: TreeCopy) -> None:
        """Copies from another tree, which is here. Raises ImageError for a source that is not there."""

    def read(self, path: str) -> bytes | None:
        """The bytes of a file at an absolute path, following the environment's symlinks; None when there is none."""

    def read_matching(self, patterns: Sequence[str]) -> Mapping[str, bytes]:
        """The files whose absolute paths match shell patterns (glob(7)), by path: the first 64 KiB of each."""

    def find(self, values: Sequence[bytes]) -> list[str]:
        """The absolute paths of files written since the workspace was opened that hold one of `values`, sorted."""

    def snapshot(
        self,
        *,
        leave_out: Sequence[str] = (),
        keep: Sequence[str] = (),
        tally: Tally | None = None,
        look: Callable[[Digest], None] | None = None,
    ) -> Layer:
        """Puts what changed since the workspace was opened into canonical form and keeps it in the store.

        `leave_out`: patterns of absolute paths, as in `klock.layers.normalisation`, that are dropped as well; `keep`:
        patterns of paths that are not, although layers leave them out. `tally` counts the files that are hashed.
        `look` is called with the layer's digest before it is kept, while `find` still finds what is in it.
        """


class NewBase(Workspace, Protocol):
    """A base in the making: a workspace over nothing. Closed before `keep` it leaves nothing behind."""

    def unpack(self, packages: Sequence[PackageFiles]) -> None:
        """Unpacks packages over what is there, in order; nothing of them runs.

        Raises FetchError, which names the package, for a hostile or broken archive.
        """

    def finish(self, tally: Tally | None = None) -> Manifest:
        """Brings the tree into canonical form, as layers are, and returns the manifest of all of it. Nothing else may
        be done to it afterwards."""

    def keep(self, base: str) -> None:
        """Keeps the finished tree as the base of this id."""


class Workshop(Protocol):
    """Makes bases and layers, and keeps them in its store under their digests."""

    @property
    def is_still(self) -> bool:
        """Whether no program runs in it, and no file is unpacked."""

    @property
    def is_shared(self) -> bool:
        """Whether what another process makes in it is here too."""

    @property
    def by_notes(self) -> Workshop:
        """The same workshop, which takes what it has for what is noted of it, and looks at no file. It is for who reads
        manifests: a file that somebody changed in the store is found when a tree is to be shown.

        Whoever opens a workspace asks `by_looking` for it.
        """

    @property
    def by_looking(self) -> Workshop:
        """The same workshop, in which what was changed in the store is not here any more."""

    def check(self) -> None:
        """Raises EngineError, with the way out, when this machine cannot run the workshop. Cheap."""

    # -- bases and layers

    def has_base(self, base: str) -> bool:
        """Whether the base of this id is here, unpacked."""

    def add_base(
        self,
        base: str,
        layers: Sequence[BaseLayer],
        *,
        manifest: Digest | None = None,
        fetch: Callable[[], None] | None = None,
        progress: Progress = QUIET,
    ) -> Manifest:
        """Unpacks a base under the id `base` (a digest) and returns the manifest of all of it, whose digest must be
        `manifest`, if that is given. `fetch` brings the files of `layers`, each by a rename; what it raises is raised
        here.

        Raises HashMismatch when an archive's uncompressed bytes are not its diff_id's, or the manifest is another one;
        FetchError for a hostile or broken archive. Nothing has the id then.
        """

    def make_base(self) -> AbstractContextManager[NewBase]:
        """A base to be made of packages, empty at first."""

    def base_manifest(self, base: str) -> Manifest:
        """The manifest that `add_base` or `NewBase.finish` returned."""

    def write_base(self, base: str, archive: Path) -> None:
        """Writes a base that is here as one tar archive; equal bases give equal files, modes, owners and times."""

    def has_layer(self, layer: Digest) -> bool: ...

    def layer_manifest(self, layer: Digest) -> Manifest | None:
        """What is locked of a layer; None when it is not here."""

    def shown_manifest(self, layer: Digest) -> Manifest | None:
        """What a layer shows: also what was derived of its trees here."""

    def write_layer(self, layer: Digest, archive: Path, *, derived: bool = False) -> None:
        """Writes a layer that is here as a tar archive (OCI image-spec, layer.md); equal layers give equal bytes.

        With `derived` all that it shows.
        """

    def write_tree(
        self, base: str, layers: Sequence[Digest], archive: Path, *, manifest: Manifest, times_of: Container[str] = ()
    ) -> int:
        """Writes those files of a base with layers that `manifest` names as one tar archive, without whiteouts.

        `times_of`: paths of the base that keep their times. Equal trees give equal bytes. Returns the latest time, in
        seconds since 1970. Raises StoreError when a file is not the manifest's.
        """

    def find_trees(self, keys: Sequence[Digest]) -> Mapping[Digest, FileTree]:
        """Those of the trees that are here."""

    def search_trees(self, keys: Sequence[Digest], values: Sequence[bytes]) -> list[str]:
        """The absolute paths of files in trees that are here and hold one of `values`, sorted."""

    def keep_trees(self, trees: Sequence[FileTree], folders: Sequence[Path]) -> None:
        """Takes finished trees from `folders`, on the store's disk, each with the tree itself in it as `root`."""

    def add_composed_layer(
        self, manifest: Manifest, trees: Sequence[Digest], *, base: str, below: Sequence[Digest]
    ) -> Layer:
        """Keeps a layer that is composed of trees, the lowest first, over a base and layers that are all here.

        `manifest`: see `klock.layers.composing`. No file is copied.
        """

    def add_layer(
        self,
        archive: Path,
        layer: Digest,
        *,
        media_type: str | None = None,
        limit: int | None = None,
        source: str | None = None,
    ) -> None:
        """Takes in what `write_layer` wrote, at most `limit` bytes. If it is compressed, `media_type` says how.

        `source` names the archive in messages. Raises HashMismatch when it is not the layer with this digest,
        FetchError when it is no archive, or holds more.
        """

    def remove_unused(self, *, keep: Sequence[Digest] = ()) -> int:
        """Removes all bases and layers but those in `keep` (base ids, layer digests); returns the bytes freed."""

    def copy_out(self, wanted: TreeCopy, folder: Path) -> None:
        """Copies what a base with layers holds into an empty folder of this machine, as root of a namespace owns it."""

    # -- workspaces

    def open(self, base: str, layers: Sequence[Digest], *, varied: bool = False) -> AbstractContextManager[Workspace]:
        """A workspace over a base and layers that are all here. Raises StoreError when one is not.

        `varied`: commands get other process ids and a CPU less than they usually do, as they may on another machine.
        """

    def without_hooks(
        self, edits: ContainerEdits, *, base: str, layers: Sequence[Digest]
    ) -> AbstractContextManager[ContainerEdits]:
        """`edits` with each hook's effect on a base and layers as mounts, which are there until the block ends.

        So the environment itself is left as it is. Raises EngineError when a hook fails, or cannot be run.
        """
