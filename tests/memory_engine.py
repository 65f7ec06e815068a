"""An engine without files: trees are manifests in memory. It implements the same interface as the real engines, so
locking and replaying can be tested on thousands of images; what real commands do is tested with the real engines.

Its shell knows `write PATH TEXT`, `remove PATH`, `echo TEXT`, `count` (a file that differs at every run) and `false`,
joined by `&&`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from klock.digests import Digest, digest_of_bytes
from klock.engines.protocol import BaseLayer, Command, Completed, Layer, PlacedFile
from klock.errors import HashMismatch
from klock.layers.manifest import Entry, Kind, Manifest

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

    @contextlib.contextmanager
    def open(self, base: str, layers: Sequence[Digest]) -> Iterator[MemoryWorkspace]:
        below = self.bases[base]
        for layer in layers:
            below = below.apply(self.layers[layer])
        yield MemoryWorkspace(engine=self, below=below)

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

    def snapshot(self) -> Layer:
        manifest = Manifest(self.entries.values())
        self.engine.layers[manifest.digest] = manifest
        return Layer(digest=manifest.digest, manifest=manifest)

    def _put(self, entry: Entry) -> None:
        if self.below.get(entry.path) == entry or (entry.kind is Kind.WHITEOUT and entry.path not in self.below):
            self.entries.pop(entry.path, None)
        else:
            self.entries[entry.path] = entry


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

    def replace(self, layers: Sequence[Digest], *, base: str, record: Mapping[str, object]) -> None:
        manifest = self.engine.bases[base]
        for layer in layers:
            manifest = manifest.apply(self.engine.layers[layer])
        self.manifest, self.made, self.clean = manifest, record, True

    def execute(self, command: Command, *, services: Sequence[Command] = ()) -> int:
        return 0

    def observe(self) -> Manifest:
        return self.manifest
