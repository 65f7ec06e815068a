"""An engine without files: trees are manifests in memory. It implements the same interface as the real engines, so
locking and replaying can be tested on thousands of images; what real commands do is tested with the real engines.

Its shell knows `write PATH TEXT`, `remove PATH`, `echo TEXT`, `count` (a file that differs at every run), `today` (one
that differs when the engine's `day` does) and `false`, joined by `&&`. Nothing it does reaches a network: the recorder
at a command's uplink gets sockets, and no connection.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from klock.digests import Digest, digest_of_bytes
from klock.errors import EngineError, HashMismatch
from klock.gpu.edits import ContainerEdits
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import matcher
from klock.workshop.protocol import BaseLayer, Command, Completed, ImageConfig, Layer, PlacedFile, Uplink

__all__ = ["MemoryEngine", "file_entry"]


def file_entry(path: str, content: bytes = b"", mode: int = 0o644) -> Entry:
    return Entry(path=path, kind=Kind.FILE, mode=mode, size=len(content), digest=digest_of_bytes(content))


@dataclass
class MemoryEngine:
    """`bases`, `layers` and `environments` are what is in its store; `ran` lists the commands that were run."""

    name: str = "memory"
    bases: dict[str, Manifest] = field(default_factory=dict)
    layers: dict[Digest, Manifest] = field(default_factory=dict)
    environments: dict[str, MemoryEnvironment] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    day: int = 1

    def check(self) -> None: ...

    def has_base(self, base: str) -> bool:
        return base in self.bases

    def add_base(self, base: str, layers: Sequence[BaseLayer]) -> Manifest:
        self.bases[base] = Manifest([file_entry("etc/os-release", b"memory")])
        return self.bases[base]

    def base_manifest(self, base: str) -> Manifest:
        return self.bases[base]

    def has_layer(self, layer: Digest) -> bool:
        return layer in self.layers

    def layer_manifest(self, layer: Digest) -> Manifest | None:
        return self.layers.get(layer)

    def write_layer(self, layer: Digest, archive: Path) -> None:
        archive.write_bytes(self.layers[layer].to_bytes())

    def add_layer(self, archive: Path, layer: Digest) -> None:
        manifest = Manifest.from_bytes(archive.read_bytes())
        if manifest.digest != layer:
            raise HashMismatch(f"{archive.name} is not the layer {layer}")
        self.layers[layer] = manifest

    @contextlib.contextmanager
    def open(self, base: str, layers: Sequence[Digest]) -> Iterator[MemoryWorkspace]:
        below = self.bases[base]
        for layer in layers:
            below = below.apply(self.layers[layer])
        yield MemoryWorkspace(engine=self, below=below)

    @contextlib.contextmanager
    def without_hooks(self, edits: ContainerEdits, *, base: str, layers: Sequence[Digest]) -> Iterator[ContainerEdits]:
        assert not edits.hooks, "nothing runs here"
        yield edits

    def environment(self, name: str) -> MemoryEnvironment:
        return self.environments.setdefault(name, MemoryEnvironment(engine=self))

    def remove_all(self, *, keep: Sequence[str] = ()) -> int:
        self.bases.clear()
        self.layers.clear()
        return 0


@dataclass
class MemoryWorkspace:
    engine: MemoryEngine
    below: Manifest
    entries: dict[str, Entry] = field(default_factory=dict)
    runs: int = 0

    def run(self, command: Command, *, on_output: Callable[[bytes], None] | None = None) -> Completed:
        if isinstance(command.network, Uplink):
            _connect(command.network)
        text = (command.script or command.argv[-1]).rstrip("\n")
        self.engine.ran.append(text)
        output = b""
        for part in text.split("&&"):
            words = part.split()
            match words:
                case ["write", path, *content]:
                    self._put(file_entry(path.lstrip("/"), " ".join(content).encode()))
                case ["remove", path]:
                    self._put(Entry(path=path.lstrip("/"), kind=Kind.WHITEOUT))
                case ["count"]:
                    self._put(file_entry("count", str(len(self.engine.ran)).encode()))
                case ["today"]:
                    self._put(file_entry("today", str(self.engine.day).encode()))
                case ["echo", *content]:
                    output += " ".join(content).encode() + b"\n"
                case ["sleep", _]:
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

    def place(self, files: Sequence[PlacedFile], destination: str) -> None:
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

    def read(self, path: str) -> bytes | None:
        return None

    def find(self, values: Sequence[bytes]) -> list[str]:
        known = {digest_of_bytes(value) for value in values}
        return sorted(f"/{path}" for path, entry in self.entries.items() if entry.digest in known)

    def snapshot(self, *, leave_out: Sequence[str] = ()) -> Layer:
        is_unwanted = matcher(leave_out)
        manifest = Manifest(entry for path, entry in self.entries.items() if not is_unwanted(path))
        self.engine.layers[manifest.digest] = manifest
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
        message = json.dumps({"ports": list(uplink.ports)}).encode()
        socket.send_fds(uplink.channel, [message], [each.fileno() for each in (*datagrams, *listeners)])
        if not uplink.channel.recv(1):
            raise EngineError("the recorder ended before the command began")


@dataclass
class MemoryEnvironment:
    engine: MemoryEngine
    manifest: Manifest = field(default_factory=Manifest)
    made: Mapping[str, object] | None = None
    clean: bool = True

    @property
    def record(self) -> Mapping[str, object] | None:
        return self.made

    def is_clean(self) -> bool:
        return self.clean

    def replace(
        self, layers: Sequence[Digest], *, base: str, record: Mapping[str, object], config: ImageConfig | None = None
    ) -> None:
        manifest = self.engine.bases[base]
        for layer in layers:
            manifest = manifest.apply(self.engine.layers[layer])
        self.manifest, self.made, self.clean = manifest, record, True

    def execute(self, command: Command, *, services: Sequence[Command] = ()) -> int:
        return 0

    def observe(self) -> Manifest:
        return self.manifest
