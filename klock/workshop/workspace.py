"""A workspace: a base and layers with a writable layer on top, in which one step of an image is made or replayed.

Only folders on disk outlive a call. Every call enters a namespace of its own and mounts anew (about 20 ms).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from klock.digests import Digest
from klock.escaping import on_one_line
from klock.files.placed import PlacedFile
from klock.forks import Tally
from klock.layers.canonical import canonicalise
from klock.layers.manifest import Manifest
from klock.workshop import linux
from klock.workshop.commands import Sandbox
from klock.workshop.copying import copy_between
from klock.workshop.namespace import NamespaceProcess, in_namespace
from klock.workshop.overlay import Area, WritableLayer
from klock.workshop.placing import place
from klock.workshop.protocol import Command, Completed, Layer, Network, TreeCopy, Uplink
from klock.workshop.regular_files import open_regular
from klock.workshop.searching import files_matching, paths_with
from klock.workshop.started import NotStarted
from klock.workshop.trees import Trees
from klock.workshop.trust import TrustingLayer
from klock.workshop.users import find_owner, reading

__all__ = ["KEPT_OUTPUT", "SandboxWorkspace", "run_in_sandbox"]

T = TypeVar("T")

KEPT_OUTPUT: Final = 64 << 10
"""How many bytes of a command's output are kept, the last ones."""

_CHUNK: Final = 1 << 16
_NO_FILE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


class SandboxWorkspace:
    known = None

    def __init__(
        self,
        *,
        trees: Trees,
        area: str,
        folder: Path,
        stack: Sequence[Path],
        ca_bundle: Path | None,
        varied: bool = False,
    ) -> None:
        """`stack`: the folders of the base and the layers, the lowest first; `folder` is for unfinished work."""
        self._trees = trees
        self._area = area
        self._folder = folder
        self._stack = list(stack)
        self._ca_bundle = ca_bundle
        self._varied = varied
        self._snapshots = 0
        self._writable = self._fresh_layer()
        self._written = self._writable.upper

    def run(self, command: Command, *, on_output: Callable[[bytes], None] | None = None) -> Completed:
        """Runs a command to its end; see `klock.workshop.protocol.Workspace`."""
        status, output = self._run(command, None, on_output)
        assert status is not None
        return Completed(status=status, output=output)

    def run_service(self, command: Command, *, seconds: float = 0.5) -> Completed | None:
        """Starts a command and stops it after `seconds`; None when it was alive until then."""
        status, output = self._run(command, seconds, None)
        return None if status is None else Completed(status=status, output=output)

    def place(self, files: Sequence[PlacedFile], destination: str, *, owner: str = "", keep: bool = False) -> None:
        """Writes files below `destination`; see `klock.workshop.protocol.Workspace`."""
        in_namespace(lambda: place(self._mounted().merged, files, destination, owner=owner, keep=keep))

    def copy_from(self, wanted: TreeCopy) -> None:
        """Copies from another tree; see `klock.workshop.protocol.Workspace`."""
        stack = self._trees.stack(wanted.base, wanted.layers)

        def task() -> None:
            area = self._mounted()
            ids = find_owner(reading(area.merged), wanted.owner) if wanted.owner else None
            copy_between(area.mount_to_read(stack), area.merged, wanted, ids)

        in_namespace(task)

    def read(self, path: str) -> bytes | None:
        """The bytes of the file at an absolute path; None when there is no file."""

        def task() -> bytes | None:
            os.chroot(self._mounted().merged)
            try:
                file = open_regular(path)
            except OSError as error:
                if error.errno in _NO_FILE:
                    return None
                raise
            if file is None:
                return None
            with file:
                return file.read()

        return in_namespace(task)

    def read_matching(self, patterns: Sequence[str]) -> Mapping[str, bytes]:
        """The files whose absolute paths match shell patterns, by path: the first 64 KiB of each."""

        def task() -> Mapping[str, bytes]:
            os.chroot(self._mounted().merged)
            return files_matching(patterns)

        return in_namespace(task)

    def find(self, values: Sequence[bytes]) -> list[str]:
        """The absolute paths of what was written so far and holds one of `values`: in a file's content, a symlink's
        text, a name or an extended attribute."""
        upper = os.fspath(self._written)
        return in_namespace(lambda: paths_with(values, upper))

    def snapshot(
        self,
        *,
        leave_out: Sequence[str] = (),
        keep: Sequence[str] = (),
        tally: Tally | None = None,
        look: Callable[[Digest], None] | None = None,
    ) -> Layer:
        """Keeps what changed as a layer of the store. The workspace goes on, empty, over that layer."""
        made = self._writable.folder / "layer"
        made.mkdir(mode=0o700)

        def task() -> bytes:
            lower = Area.create(self._area).mount_to_read(self._stack)
            upper = os.fsencode(self._writable.upper)
            with linux.written_meanwhile(str(made)):
                layer = canonicalise(upper, os.fsencode(lower), leave_out=leave_out, keep=keep, tally=tally)
            manifest = layer.to_bytes()
            # No layer says anything of the root itself, so it is the same over all of them.
            os.chown(self._writable.upper, 0, 0)
            self._writable.upper.chmod(0o755)
            self._writable.upper.rename(made / "root")
            (made / "manifest").write_bytes(manifest)
            return manifest

        manifest = Manifest.of_own(in_namespace(task))
        layer = Layer(digest=manifest.digest, manifest=manifest)
        self._written = made / "root"
        if look is not None:
            look(layer.digest)
        self._trees.keep(made, self._trees.layer(layer.digest))
        self._stack.append(self._trees.layer(layer.digest) / "root")
        self._writable = self._fresh_layer()
        self._written = self._writable.upper
        return layer

    def _fresh_layer(self) -> WritableLayer:
        self._snapshots += 1
        folder = self._folder / str(self._snapshots)
        folder.mkdir(mode=0o700)
        # A draft: what is kept of it is on the disk before it gets its name (`Trees.keep`). Programs that wait for the
        # disk after each file, as dpkg and git do, would take a third of the time for it.
        return WritableLayer.create(folder, lasts=False)

    def _mounted(self) -> Area:
        area = Area.create(self._area)
        area.mount_to_write(self._stack, self._writable)
        return area

    @contextmanager
    def _trusted(self, area: Area, network: Network | Uplink) -> Iterator[list[Path]]:
        """The layers to mount below the writable one, for an uplink with one that trusts the recorder."""
        if not isinstance(network, Uplink):
            yield self._stack
            return
        trusting = TrustingLayer(area.trusting, area.mount_to_read(self._stack), network.certificate)
        try:
            yield [*self._stack, *([] if trusting.is_empty else [Path(area.trusting)])]
        finally:
            trusting.forget(self._writable.upper)

    def _run(
        self, command: Command, seconds: float | None, on_output: Callable[[bytes], None] | None
    ) -> tuple[int | None, bytes]:
        @contextmanager
        def mounted() -> Iterator[Area]:
            area = Area.create(self._area)
            with self._trusted(area, command.network) as layers:
                area.mount_to_write(layers, self._writable, mounts=command.mounts)
                yield area

        return run_in_sandbox(
            mounted, self._writable, command, seconds, on_output, ca_bundle=self._ca_bundle, varied=self._varied
        )


def run_in_sandbox(
    mounted: Callable[[], AbstractContextManager[Area]],
    writable: WritableLayer,
    command: Command,
    seconds: float | None,
    on_output: Callable[[bytes], None] | None,
    *,
    ca_bundle: Path | None,
    varied: bool = False,
) -> tuple[int | None, bytes]:
    """Runs a step's command in the area that `mounted` makes in a namespace of its own: its status and last output.

    With `seconds` it is ended then, and the status is None if it was still alive.
    """
    output, output_end = os.pipe()

    def task() -> int | None:
        with mounted() as area:
            sandbox = Sandbox(
                area, writable, [command], ca_bundle=ca_bundle, is_step=True, varied=varied or command.varied
            )
            try:
                nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                started = sandbox.start(command, stdio=(nothing, output_end, output_end), own_session=True)
                if isinstance(started, int):
                    return started
                if seconds is not None and not started.is_over(seconds):
                    started.kill()
                    return None
                return started.wait()
            finally:
                sandbox.close()

    try:
        with NamespaceProcess(task) as process:
            os.close(output_end)
            kept = _read_to_end(output, on_output)
            try:
                return process.result(), kept
            except NotStarted as error:
                said = on_one_line(kept.decode(errors="replace").strip().rpartition("\n")[2])
                raise NotStarted(f"{error.message}: {said}", hint=error.hint) from error
    finally:
        os.close(output)


def _read_to_end(descriptor: int, on_output: Callable[[bytes], None] | None) -> bytes:
    kept = b""
    while chunk := os.read(descriptor, _CHUNK):
        kept = (kept + chunk)[-KEPT_OUTPUT:]
        if on_output:
            on_output(chunk)
    return kept
