"""The trees that wheels install, each made once and kept in the store: its files, and the bytecode of its modules.

A wheel's files are a function of the wheel and the scheme, so layers are locked by them. Bytecode is derived from the
locked sources by the locked Python, and is not locked: nobody could lock for a platform whose Python does not run here.
So it is kept beside the files, and is made again where it is lost. It is made by a process that imports nothing of what
is installed, so no package has a say in another one's bytes.
"""

from __future__ import annotations

import functools
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import field
from pathlib import Path
from typing import Final, TypeAlias

from klock.digests import Digest, digest_of_bytes, digest_of_json
from klock.errors import FetchError, StepFailed
from klock.forks import Tally, map_in_forks
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import MTIME, matcher
from klock.layers.rewriting.bytecode import source_of
from klock.layers.scan import digests_of_files
from klock.lockfile.model import WheelArtifact
from klock.packages.interpreter import python_environment
from klock.packages.scheme import Scheme
from klock.progress import Progress, Quiet
from klock.store import Store
from klock.temporary import temporary_folder
from klock.values import dataclass
from klock.workshop.linux import written_meanwhile
from klock.workshop.protocol import Command, FileTree, Mount, Workshop, Workspace

__all__ = ["WheelTrees", "files_of_wheels"]

_KIND: Final = "wheel-files"
_TESTS: Final = "/tests/"
"""klock compiles no modules below such folders: hardly anybody imports a package's own tests, and of pandas and numpy
they are half of all modules."""
_MUCH: Final = 32 << 20
"""Bytes: the disk takes less in a moment."""
_SCRIPT: Final = Path(__file__).with_name("compile_script.py")
_AT: Final = "/run/klock/compiling"
_DONE: Final = b"\0"
"""What the script prints for each module."""

NamedWheel: TypeAlias = tuple[str, WheelArtifact]
"""A wheel with the name of its distribution."""


def files_of_wheels(
    wheels: Sequence[NamedWheel], scheme: Scheme, *, store: Store, leave_out: Sequence[str] = ()
) -> list[Manifest]:
    """What each wheel, which is in the store, installs. Nothing is written but that.

    Raises FetchError for a wheel that is broken or hostile.
    """
    keys = [_key(artifact, scheme, leave_out) for _, artifact in wheels]
    known = {key: found for key in keys if (found := _read(key, store)) is not None}
    missing = [(key, artifact) for key, (_, artifact) in zip(keys, wheels, strict=True) if key not in known]

    if not missing:
        return [known[key] for key in keys]
    from klock.packages.wheel_layout import lay_out  # here, before the forks

    def read(item: tuple[Digest, WheelArtifact]) -> bytes:
        artifact = item[1]
        return lay_out(_blob(artifact, store), artifact, scheme, root=None, leave_out=leave_out).to_bytes()

    for (key, _), content in zip(missing, map_in_forks(read, missing, cost=lambda item: item[1].size), strict=True):
        known[key] = _note(key, Manifest.of_own(content), store)
    return [known[key] for key in keys]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelTrees:
    """The trees of wheels for one Python. `compiled_by` says all that its bytecode depends on."""

    scheme: Scheme
    compiled_by: Sequence[object]
    store: Store
    workshop: Workshop
    variables: Mapping[str, str]
    leave_out: tuple[str, ...] = ()
    progress: Progress = field(default_factory=Quiet)

    def get(self, wheels: Sequence[NamedWheel], open_below: OpenBelow) -> list[FileTree]:
        """The trees of wheels, which are in the store; those that are missing are made.

        `open_below` opens a workspace where the Python is. Raises FetchError for a wheel that is broken or hostile,
        StepFailed when the Python fails.
        """
        keys = [self._key(artifact) for _, artifact in wheels]
        found = dict(self.workshop.find_trees(keys))
        missing = {key: wheel for key, wheel in zip(keys, wheels, strict=True) if key not in found}
        if missing:
            with temporary_folder("wheels", within=self.store.tmp) as folder:
                made = self.make(list(missing.values()), open_below, folder)
                with self.progress.stage("flush to disk"):
                    self.workshop.keep_trees([tree for tree, _ in made], [root.parent for _, root in made])
            found.update((tree.key, tree) for tree, _ in made)
        return [found[key] for key in keys]

    def make(self, wheels: Sequence[NamedWheel], open_below: OpenBelow, folder: Path) -> list[tuple[FileTree, Path]]:
        """Makes the trees of wheels anew in `folder`, which is empty; the root of each is there."""
        from klock.packages.wheel_layout import lay_out  # here, before the forks

        items = [(folder / str(number) / "root", artifact) for number, (_, artifact) in enumerate(wheels)]
        tally = Tally("wheels", len(items), parts=len(items))

        def lay_out_one(item: tuple[Path, WheelArtifact]) -> bytes:
            root, artifact = item
            root.mkdir(parents=True)
            root.chmod(0o755)
            blob = _blob(artifact, self.store)
            made = lay_out(blob, artifact, self.scheme, root=root, leave_out=self.leave_out).to_bytes()
            tally.add(part=int(root.parent.name))
            return made

        with self.progress.stage("lay out", tally):
            contents = map_in_forks(lay_out_one, items, cost=lambda item: item[1].size)
        files = [Manifest.of_own(content) for content in contents]
        for (_, artifact), manifest in zip(items, files, strict=True):
            _note(_key(artifact, self.scheme, self.leave_out), manifest, self.store)
        derived = self._compile([root for root, _ in items], files, open_below, folder)
        return [
            (FileTree(key=self._key(artifact), files=locked, derived=more), root)
            for (root, artifact), locked, more in zip(items, files, derived, strict=True)
        ]

    def _key(self, artifact: WheelArtifact) -> Digest:
        return digest_of_json(
            [_key(artifact, self.scheme, self.leave_out), *self.compiled_by, _script_digest(), _TESTS]
        )

    def _compile(
        self, roots: Sequence[Path], files: Sequence[Manifest], open_below: OpenBelow, folder: Path
    ) -> list[Manifest]:
        """Compiles the modules below `roots` into them. What was written, for each."""
        modules = [
            [f"/{path}" for path in manifest if path.endswith(".py") and _TESTS not in path] for manifest in files
        ]
        if not any(modules):
            return [Manifest() for _ in roots]
        out = folder / "out"
        out.mkdir()
        request = folder / "request.json"
        request.write_text(json.dumps([[root.parent.name, paths] for root, paths in zip(roots, modules, strict=True)]))
        sources = [Mount(source=root, target=f"{_AT}/sources/{root.parent.name}") for root in roots]
        argv = (self.scheme.python, "-I", "-S", "-B", f"{_AT}/script.py")
        tally = Tally("modules", sum(map(len, modules)))
        is_much = sum(entry.size for manifest in files for entry in manifest.values()) > _MUCH
        writing = written_meanwhile(str(folder)) if is_much else nullcontext()
        with self.progress.stage("compile", tally), writing, open_below() as workspace:
            ended = workspace.run(
                Command(
                    argv=(*argv, f"{_AT}/request.json", f"{_AT}/sources", f"{_AT}/out"),
                    environment={**python_environment(self.variables), "PYTHONHASHSEED": "0"},
                    mounts=(
                        Mount(source=_SCRIPT, target=f"{_AT}/script.py"),
                        Mount(source=request, target=f"{_AT}/request.json"),
                        Mount(source=out, target=f"{_AT}/out", read_only=False),
                        *sources,
                    ),
                ),
                on_output=lambda printed: tally.add(printed.count(_DONE)),
            )
        if ended.status != 0:
            words = ended.output.replace(_DONE, b"").decode("utf-8", "replace").strip()[-2000:]
            raise StepFailed(
                f"the environment's Python at {self.scheme.python} could not compile modules "
                f"(exit status {ended.status}):\n{words}"
            )
        is_unwanted = matcher(self.leave_out)

        def move(item: tuple[Path, Manifest]) -> bytes:
            root, manifest = item
            return _move_bytecode(out / root.parent.name, root, manifest, is_unwanted).to_bytes()

        with self.progress.stage("hash the compiled modules"):
            contents = map_in_forks(move, list(zip(roots, files, strict=True)), cost=lambda item: len(item[1]))
        return [Manifest.of_own(content) for content in contents]


@functools.cache
def _script_digest() -> Digest:
    """What compiles has a part in the bytes: which texts it knows already."""
    return digest_of_bytes(_SCRIPT.read_bytes())


OpenBelow: TypeAlias = "Callable[[], AbstractContextManager[Workspace]]"


def _key(artifact: WheelArtifact, scheme: Scheme, leave_out: Sequence[str]) -> Digest:
    return digest_of_json(["wheel", artifact.sha256, artifact.name, scheme.key(), list(leave_out)])


def _blob(artifact: WheelArtifact, store: Store) -> Path:
    blob = store.find_blob(f"sha256:{artifact.sha256}")
    if blob is None:
        raise FetchError(f"{artifact.name} is not in the store", hint="run `klock sync` without --offline to fetch it")
    return blob


def _read(key: Digest, store: Store) -> Manifest | None:
    """The manifest that was noted for a wheel, if it is still whole."""
    match store.read_record(_KIND, key):
        case [str(digest), str(text)] if text.isascii() and digest_of_bytes(content := text.encode("ascii")) == digest:
            return Manifest.of_own(content)
    return None


def _note(key: Digest, manifest: Manifest, store: Store) -> Manifest:
    store.write_record(_KIND, key, [manifest.digest, manifest.to_bytes().decode("ascii")])
    return manifest


def _move_bytecode(out: Path, root: Path, files: Manifest, is_unwanted: Callable[[str], bool]) -> Manifest:
    """Moves what the environment's Python wrote to where it belongs: it is not trusted, so nothing but bytecode of the
    tree's own modules is taken."""
    moved: list[tuple[str, bytes, int]] = []
    for where in _files_below(os.fsencode(out)) if not out.is_symlink() else ():
        path = os.fsdecode(where[len(os.fsencode(out)) + 1 :])
        status = os.lstat(where)
        if source_of(path) not in files or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            continue
        if is_unwanted(path):
            continue
        final = os.fsencode(root) + b"/" + os.fsencode(path)
        folder = os.path.dirname(final)
        if not os.path.isdir(folder):
            os.mkdir(folder)
            os.chmod(folder, 0o755)
        os.rename(where, final)
        if stat.S_IMODE(status.st_mode) != 0o644:
            os.chmod(final, 0o644)
        os.utime(final, (MTIME, MTIME))
        moved.append((path, final, status.st_size))
    digests = digests_of_files([(final, size) for _, final, size in moved])
    return Manifest(
        Entry(path=path, kind=Kind.FILE, mode=0o644, size=size, digest=digest)
        for (path, _, size), digest in zip(moved, digests, strict=True)
    )


def _files_below(folder: bytes) -> Iterator[bytes]:
    for above, _, names in os.walk(folder):
        for name in names:
            yield above + b"/" + name
