"""A synced environment: the lockfile's layers, and a writable layer that keeps what commands do to it.

    environments/<name>/record.json          what it is made of, and the folder of its writable layer
    environments/<name>/<random>/            a writable layer: upper, work, tmp

`replace` makes a new writable layer and then renames a new record into place: before that moment the environment is the
old one, after it the new one. Old writable layers go when no command uses them any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klock.documents import read_json
from klock.errors import EngineError, StoreError
from klock.places.protocol import OWN_STREAMS, Streams
from klock.places.records import folder_of, service_log
from klock.store import Store
from klock.temporary import make_private
from klock.workshop.namespace import in_namespace
from klock.workshop.overlay import Area, WritableLayer, area_in
from klock.workshop.scratch import among_all_files, bytes_of, file_lock, is_held, remove_trees

# Most commands find nothing to do, so modules that do the work are imported only when there is some.
if TYPE_CHECKING:
    from klock.digests import Digest
    from klock.forks import Tally
    from klock.layers.manifest import Manifest
    from klock.workshop.protocol import Command
    from klock.workshop.trees import Trees

__all__ = ["SandboxEnvironment"]


class SandboxEnvironment:
    def __init__(self, name: str, *, store: Store, trees: Trees, ca_bundle: Path | None) -> None:
        """`ca_bundle`: certificates that commands with the host's network trust."""
        self._name = name
        self._store = store
        self._trees = trees
        self._area = area_in(store)
        self._ca_bundle = ca_bundle
        self._folder = folder_of(store, "sandbox", name)

    @property
    def record(self) -> Mapping[str, object] | None:
        state = self._state()
        return None if state is None else state["record"]

    @property
    def is_in_use(self) -> bool:
        """Whether a command runs in it."""
        return any(is_held(folder) for folder in self._writable_folders())

    def files_behind(self) -> Iterator[Path]:
        """Files and folders whose stat changes when the environment does, and the trees that it is made of.

        Raises OSError for what this user may not look at.
        """
        state = self._existing()
        yield self._folder / "record.json"
        yield from (folder.parent for folder in self._trees.stack(state["base"], state["layers"]))
        yield from _all_below(self._folder / state["folder"] / "upper")

    def replace(self, layers: Sequence[Digest], *, base: str, record: Mapping[str, object]) -> None:
        """Makes the environment exactly base and layers; commands that still run in it keep the old one."""
        self._trees.stack(base, layers)
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with self._lock():
            folder = self._folder / os.urandom(8).hex()
            make_private(folder)
            WritableLayer.create(folder)
            state = {"base": base, "layers": list(layers), "folder": folder.name, "record": dict(record)}
            with self._store.temporary_file() as temporary:
                with open(temporary, "w", encoding="utf-8") as file:
                    json.dump(state, file, sort_keys=True)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._folder / "record.json")
            old = [found for found in self._writable_folders() if found != folder and not is_held(found)]
            remove_trees(old)

    def is_clean(self) -> bool:
        """Whether the writable layer changes nothing but what is never locked. True when there is no environment."""
        state = self._state()
        if state is None:
            return True
        if self.has_another_root:
            return False
        upper = self._folder / state["folder"] / "upper"
        if not any(upper.iterdir()):
            return True
        from klock.layers.canonical import holds_changes

        try:
            layers = self._trees.stack(state["base"], state["layers"])
        except StoreError:
            return False

        def task() -> bool:
            lower = Area.create(self._area).mount_to_read(layers)
            return not holds_changes(os.fsencode(upper), os.fsencode(lower))

        return in_namespace(task)

    @property
    def has_another_root(self) -> bool:
        """Whether the mode or owner of the root folder itself was changed, of which no manifest says anything."""
        status = (self._folder / self._existing()["folder"] / "upper").lstat()
        return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != (0o755, os.geteuid(), os.getegid())

    def changes(self) -> Manifest:
        """What commands have changed over base and layers since the sync. Reads nothing but the writable layer."""
        from klock.layers.manifest import Manifest

        state = self._existing()
        upper = self._folder / state["folder"] / "upper"
        if not any(upper.iterdir()):
            return Manifest()
        from klock.layers.changes import changes_in

        layers = self._trees.stack(state["base"], state["layers"])

        def task() -> bytes:
            lower = Area.create(self._area).mount_to_read(layers)
            return changes_in(os.fsencode(upper), os.fsencode(lower)).to_bytes()

        return Manifest.of_own(in_namespace(task))

    def observe(self, tally: Tally | None = None) -> Manifest:
        """The whole environment as it is now, every file read. `tally` counts paths."""
        from klock.layers.manifest import Manifest
        from klock.layers.scan import manifest_of_tree

        state = self._existing()
        layers = [*self._trees.stack(state["base"], state["layers"]), self._folder / state["folder"] / "upper"]

        def task() -> bytes:
            lower = Area.create(self._area).mount_to_read(layers)
            return manifest_of_tree(os.fsencode(lower), tally).to_bytes()

        return Manifest.of_own(in_namespace(task))

    def remove(self) -> int:
        """Removes it all; returns the bytes freed."""
        freed = among_all_files(lambda: bytes_of(self._folder)) if self._folder.exists() else 0
        with contextlib.suppress(FileNotFoundError):
            # From its name first: if this is ended now, there is no environment without its files.
            aside = self._store.temporary_path()
            self._folder.rename(aside)
            remove_trees([aside])
        return freed

    def execute(self, command: Command, *, services: Sequence[Command] = (), streams: Streams = OWN_STREAMS) -> int:
        """Runs a command in it; see `klock.places.protocol.Place`."""
        from klock.places.sandbox.execution import execute

        self._existing()
        log = service_log(self._store, "sandbox", self._name)
        return execute(
            command,
            services,
            opened=self._open,
            area=self._area,
            log=log,
            ca_bundle=self._ca_bundle,
            streams=streams,
        )

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[WritableLayer, Sequence[Path]]]:
        with self._lock():
            state = self._existing()
            layers = self._trees.stack(state["base"], state["layers"])
            yield WritableLayer(folder=self._folder / state["folder"]), layers

    # -- the record

    def _state(self) -> dict[str, Any] | None:
        try:
            state = read_json((self._folder / "record.json").read_bytes(), any_text=True)
        except (FileNotFoundError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def _existing(self) -> dict[str, Any]:
        state = self._state()
        if state is None:
            raise EngineError(f"there is no environment {self._name!r} yet", hint="run `klock sync`")
        return state

    def _writable_folders(self) -> list[Path]:
        try:
            return [found for found in self._folder.iterdir() if found.is_dir()]
        except FileNotFoundError:
            return []

    def _lock(self) -> AbstractContextManager[None]:
        """One process at a time starts a command or replaces the environment."""
        return file_lock(self._folder / "lock")


def _all_below(folder: Path) -> Iterator[Path]:
    waiting = [folder]
    while waiting:
        above = waiting.pop()
        yield above
        for child in os.scandir(above):
            if child.is_dir(follow_symlinks=False):
                waiting.append(Path(child.path))
            else:
                yield Path(child.path)
