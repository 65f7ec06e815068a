"""A workshop and a place without files: trees are manifests in memory. They implement the same interfaces as the real
ones, so locking and replaying can be tested on thousands of images. What real commands do is tested with the real ones.

Its shell knows `write PATH TEXT`, `remove PATH`, `echo TEXT`, `count` (a file that differs at every run), `today` (one
that differs when the workshop's `day` does) and `false`, joined by `&&`. Nothing it does reaches a network: the
recorder at a command's uplink gets sockets, and no connection.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import socket
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from klock.digests import Digest, digest_of_bytes
from klock.errors import EngineError, HashMismatch
from klock.fetching.mirrors import Mirrors
from klock.files.placed import PlacedFile
from klock.forks import Tally
from klock.gpu.edits import ContainerEdits
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import matcher
from klock.observation import Observation
from klock.places.layered import apply_layers, locked_files
from klock.places.protocol import OWN_STREAMS, Applied, Evidence, Streams
from klock.progress import QUIET, Progress, Quiet
from klock.replay.goal import Goal
from klock.replay.plan import Plan, make_plan
from klock.steps.context import Context
from klock.store import Store
from klock.workshop.protocol import (
    BaseLayer,
    Command,
    Completed,
    FileTree,
    Layer,
    NewBase,
    TreeCopy,
    Uplink,
)

__all__ = ["MemoryPlace", "MemoryWorkshop", "file_entry", "memory_context"]


def file_entry(path: str, content: bytes = b"", mode: int = 0o644) -> Entry:
    return Entry(path=path, kind=Kind.FILE, mode=mode, size=len(content), digest=digest_of_bytes(content))


def memory_context(folder: Path) -> Context:
    """The context of a project in `folder` whose workshop is in memory, with its store beside it and no variables."""
    return Context(
        root=folder,
        mirrors=Mirrors(),
        store=Store(folder / "store"),
        workshop=MemoryWorkshop(),
        progress=Quiet(),
        environ={},
    )


@dataclass
class MemoryWorkshop:
    """`bases` and `layers` are what is in its store; `ran` lists the commands that were run, and `searches` counts how
    often all that a step wrote was searched."""

    bases: dict[str, Manifest] = field(default_factory=dict)
    layers: dict[Digest, Manifest] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    day: int = 1
    searches: int = 0
    is_still: bool = False
    is_shared: bool = False

    @property
    def by_notes(self) -> MemoryWorkshop:
        return self

    by_looking = by_notes

    def check(self) -> None: ...

    def has_base(self, base: str) -> bool:
        return base in self.bases

    def add_base(
        self,
        base: str,
        layers: Sequence[BaseLayer],
        *,
        manifest: Digest | None = None,
        fetch: Callable[[], None] | None = None,
        progress: Progress = QUIET,
    ) -> Manifest:
        if fetch is not None:
            fetch()
        self.bases[base] = Manifest([file_entry("etc/os-release", b"memory")])
        return self.bases[base]

    def make_base(self) -> contextlib.AbstractContextManager[NewBase]:
        raise EngineError("no base is made of packages here")

    def base_manifest(self, base: str) -> Manifest:
        return self.bases[base]

    def has_layer(self, layer: Digest) -> bool:
        return layer in self.layers

    def layer_manifest(self, layer: Digest) -> Manifest | None:
        return self.layers.get(layer)

    def shown_manifest(self, layer: Digest) -> Manifest | None:
        return self.layers.get(layer)

    def write_layer(self, layer: Digest, archive: Path, *, derived: bool = False) -> None:
        archive.write_bytes(self.layers[layer].to_bytes())

    def write_tree(
        self, base: str, layers: Sequence[Digest], archive: Path, *, manifest: Manifest, times_of: Container[str] = ()
    ) -> int:
        archive.write_bytes(manifest.to_bytes())
        return 0

    def find_trees(self, keys: Sequence[Digest]) -> Mapping[Digest, FileTree]:
        return {}

    def search_trees(self, keys: Sequence[Digest], values: Sequence[bytes]) -> list[str]:
        return []

    def keep_trees(self, trees: Sequence[FileTree], folders: Sequence[Path]) -> None: ...

    def add_composed_layer(
        self, manifest: Manifest, trees: Sequence[Digest], *, base: str, below: Sequence[Digest]
    ) -> Layer:
        self.layers[manifest.digest] = manifest
        return Layer(digest=manifest.digest, manifest=manifest)

    def add_layer(
        self,
        archive: Path,
        layer: Digest,
        *,
        media_type: str | None = None,
        limit: int | None = None,
        source: str | None = None,
    ) -> None:
        manifest = Manifest.from_bytes(archive.read_bytes())
        if manifest.digest != layer:
            raise HashMismatch(f"{archive.name} is not the layer {layer}")
        self.layers[layer] = manifest

    @contextlib.contextmanager
    def open(self, base: str, layers: Sequence[Digest], *, varied: bool = False) -> Iterator[MemoryWorkspace]:
        below = self.bases[base]
        for layer in layers:
            below = below.apply(self.layers[layer])
        yield MemoryWorkspace(workshop=self, below=below)

    @contextlib.contextmanager
    def without_hooks(self, edits: ContainerEdits, *, base: str, layers: Sequence[Digest]) -> Iterator[ContainerEdits]:
        assert not edits.hooks, "nothing runs here"
        yield edits

    def copy_out(self, wanted: TreeCopy, folder: Path) -> None:
        raise EngineError("nothing is copied out here")

    def write_base(self, base: str, archive: Path) -> None:
        archive.write_bytes(self.bases[base].to_bytes())

    def remove_unused(self, *, keep: Sequence[Digest] = ()) -> int:
        self.bases = {base: manifest for base, manifest in self.bases.items() if base in keep}
        self.layers = {layer: manifest for layer, manifest in self.layers.items() if layer in keep}
        return 0


@dataclass
class MemoryWorkspace:
    workshop: MemoryWorkshop
    below: Manifest
    entries: dict[str, Entry] = field(default_factory=dict)
    runs: int = 0
    known: None = None

    def run(self, command: Command, *, on_output: Callable[[bytes], None] | None = None) -> Completed:
        if isinstance(command.network, Uplink):
            _connect(command.network)
        text = (command.script or command.argv[-1]).rstrip("\n")
        self.workshop.ran.append(text)
        output = b""
        for part in text.split("&&"):
            words = part.split()
            match words:
                case ["write", path, *content]:
                    self._put(file_entry(path.lstrip("/"), " ".join(content).encode()))
                case ["remove", path]:
                    self._put(Entry(path=path.lstrip("/"), kind=Kind.WHITEOUT))
                case ["count"]:
                    self._put(file_entry("count", str(len(self.workshop.ran)).encode()))
                case ["today"]:
                    self._put(file_entry("today", str(self.workshop.day).encode()))
                case ["echo", *content]:
                    output += " ".join(content).encode() + b"\n"
                case ["sleep", _]:
                    pass
                case ["once"] if self.workshop.ran.count(text) == 1:
                    pass
                case _:
                    output += f"sh: {part.strip()}: not found\n".encode()
                    return Completed(status=127 if words != ["false"] else 1, output=output)
        if on_output:
            on_output(output)
        return Completed(status=0, output=output)

    def run_service(self, command: Command, *, seconds: float = 0.5) -> Completed | None:
        completed = self.run(command)
        return None if (command.script or "").startswith("sleep") else completed

    def place(self, files: Sequence[PlacedFile], destination: str, *, owner: str = "", keep: bool = False) -> None:
        for file in files:
            path = "/".join(part for part in (destination.strip("/"), file.path) if part)
            if file.source is not None:
                content = file.source.read_bytes()
                if digest_of_bytes(content) != file.digest:
                    raise HashMismatch(f"{file.source} is not what was locked")
                self._put(file_entry(path, content, file.mode))
            elif file.target is not None:
                self._put(Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=file.target))
            else:
                self._put(Entry(path=path, kind=Kind.FOLDER, mode=file.mode))

    def copy_from(self, wanted: TreeCopy) -> None:
        source = self.workshop.bases[wanted.base]
        for layer in wanted.layers:
            source = source.apply(self.workshop.layers[layer])
        for path in wanted.sources:
            entry = source[path.strip("/")]
            self._put(
                file_entry(wanted.destination.strip("/"), mode=entry.mode)
                if entry.digest is None
                else Entry(
                    path=wanted.destination.strip("/"),
                    kind=entry.kind,
                    mode=entry.mode,
                    size=entry.size,
                    digest=entry.digest,
                )
            )

    def read(self, path: str) -> bytes | None:
        return None

    def read_matching(self, patterns: Sequence[str]) -> Mapping[str, bytes]:
        """Empty files: their bytes are nowhere."""
        paths = [f"/{path}" for path in self.below]
        return {path: b"" for path in paths if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)}

    def find(self, values: Sequence[bytes]) -> list[str]:
        self.workshop.searches += 1
        known = {digest_of_bytes(value) for value in values}
        return sorted(f"/{path}" for path, entry in self.entries.items() if entry.digest in known)

    def snapshot(
        self,
        *,
        leave_out: Sequence[str] = (),
        keep: Sequence[str] = (),
        tally: Tally | None = None,
        look: Callable[[Digest], None] | None = None,
    ) -> Layer:
        is_unwanted = matcher(leave_out)
        manifest = Manifest(entry for path, entry in self.entries.items() if not is_unwanted(path))
        if look is not None:
            look(manifest.digest)
        self.workshop.layers[manifest.digest] = manifest
        return Layer(digest=manifest.digest, manifest=manifest)

    def _put(self, entry: Entry) -> None:
        if self.below.get(entry.path) == entry or (entry.kind is Kind.WHITEOUT and entry.path not in self.below):
            self.entries.pop(entry.path, None)
        else:
            self.entries[entry.path] = entry


def _connect(uplink: Uplink) -> None:
    """Gives the recorder what an uplink promises it: sockets of this machine's loopback that nobody knows of."""
    with contextlib.ExitStack() as stack:
        datagrams = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
        for each in datagrams:
            each.bind(("127.0.0.1", 0))
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in uplink.ports]
        message = json.dumps({"ports": list(uplink.ports), "loopback": []}).encode()
        socket.send_fds(uplink.channel, [message], [each.fileno() for each in (*datagrams, *listeners)])
        if not uplink.channel.recv(1):
            raise EngineError("the recorder ended before the command began")


@dataclass
class MemoryPlace:
    """`files` and `records` are what its environments hold, by name; `clean` is what it says of all of them."""

    workshop: MemoryWorkshop
    store: Store
    files: dict[str, Manifest] = field(default_factory=dict)
    records: dict[str, Mapping[str, object]] = field(default_factory=dict)
    clean: bool = True

    name: str = "memory"
    where: str = " in memory"
    has_containers: bool = False
    gives_devices: bool = True
    converges: bool = False

    def check(self) -> None: ...

    def plan(self, goal: Goal) -> Plan:
        record = self.records.get(goal.name)
        return make_plan(goal, workshop=self.workshop, store=self.store, record=record, clean=self.clean)

    def apply(self, goal: Goal, context: Context, *, force: bool = False) -> Applied:
        def replace() -> None:
            self.files[goal.name], _ = locked_files(goal.lock, self.workshop)
            self.records[goal.name] = goal.record
            self.clean = True

        return apply_layers(self, goal, context, replace=replace)

    def synced(self, name: str) -> Digest | None:
        record = self.records.get(name)
        return None if record is None else str(record["fingerprint"])

    def is_clean(self, name: str) -> bool:
        return self.clean

    def observe(
        self, goal: Goal, *, container: str | None = None, deep: bool = False, tally: Tally | None = None
    ) -> Observation:
        locked, layers = locked_files(goal.lock, self.workshop)
        return Observation(locked=locked, layers=tuple(layers), files=self.files[goal.name])

    def variables(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        return {}

    def execute(
        self,
        name: str,
        command: Command,
        *,
        services: Sequence[Command] = (),
        streams: Streams = OWN_STREAMS,
        takes_over: bool = False,
    ) -> int:
        return 0

    def launch(self, name: str, command: Command) -> str | None:
        return None

    def remove(self, name: str) -> int | None:
        return None if self.files.pop(name, None) is None else 0

    def remove_leftovers(self) -> int:
        return 0

    def environments(self) -> list[str]:
        return sorted(self.files)

    def evidence(self, name: str) -> Evidence | None:
        return None
