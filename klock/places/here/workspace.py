"""A workspace whose tree is the container's own root: what is done in it is done.

Commands run *isolated* where the container lets klock make namespaces: in the sandbox's confinement and network, only
over the real root instead of an overlay. Elsewhere they run *plainly*, as children of klock, with no confinement; that
is for klock's own tools at work on files that are here already, never for what an image brings (see `run`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from klock.digests import Digest
from klock.errors import EngineError
from klock.files.placed import PlacedFile
from klock.forks import Tally
from klock.places.here.changes import canonical_changes
from klock.places.here.step_paths import StepPaths
from klock.places.here.tree import Tree, on_disk, scan
from klock.workshop.overlay import Area, WritableLayer, make_mount_point
from klock.workshop.placing import place
from klock.workshop.protocol import SCRIPT, Command, Completed, Layer, TreeCopy, Uplink
from klock.workshop.regular_files import read_regular
from klock.workshop.searching import files_matching, hits
from klock.workshop.users import find_user
from klock.workshop.workspace import KEPT_OUTPUT, run_in_sandbox

__all__ = ["HereWorkspace", "not_isolated"]

_RUN: Final = Path(SCRIPT).parent


def not_isolated(what: str, why: str) -> EngineError:
    return EngineError(
        f"{what} must run in a sandbox, and this container does not let klock make one: {why}",
        hint="start it with user namespaces and an unmasked /proc, and with bubblewrap in it (podman: --security-opt "
        "seccomp=unconfined --security-opt unmask=ALL, docker: the same with systempaths=unconfined, Kubernetes: "
        "procMount: Unmasked); or make an image with `klock sync --engine podman`, or docker, and start that",
    )


class HereWorkspace:
    """`klock.workshop.protocol.Workspace` on `/`. `before` is the tree as it was, `without` what no scan looks at.

    What is outside of `own`, where that is known, is nobody's doing in this workspace.
    """

    known = None

    def __init__(
        self,
        before: Tree,
        *,
        without: Sequence[Path],
        scratch: Path,
        why_plain: str | None,
        ca_bundle: Path | None,
        own: StepPaths | None = None,
    ) -> None:
        """`why_plain` is None where commands can run isolated. `scratch` is an empty folder."""
        self._before = before
        self._without = tuple(without)
        self._scratch = scratch
        self._why_plain = why_plain
        self._ca_bundle = ca_bundle
        self._own = own
        self._runs = 0
        self.tree = before

    def run(self, command: Command, *, on_output: Callable[[bytes], None] | None = None) -> Completed:
        """See `klock.workshop.protocol.Workspace`. Raises EngineError for what must not run without a sandbox."""
        if self._why_plain is not None:
            if command.script is not None or isinstance(command.network, Uplink):
                raise not_isolated("a shell command of the image", self._why_plain)
            return self._run_plainly(command, on_output)
        status, output = self._run_isolated(command, None, on_output)
        assert status is not None
        return Completed(status=status, output=output)

    def run_service(self, command: Command, *, seconds: float = 0.5) -> Completed | None:
        """Starts a command and stops it after `seconds`; None when it was alive until then, or cannot be tried here."""
        if self._why_plain is not None:
            return None
        status, output = self._run_isolated(command, seconds, None)
        return None if status is None else Completed(status=status, output=output)

    def place(self, files: Sequence[PlacedFile], destination: str, *, owner: str = "", keep: bool = False) -> None:
        """Writes files below `destination`; see `klock.workshop.protocol.Workspace`."""
        here = os.getcwd()
        try:
            place("/", files, destination, owner=owner, keep=keep)
        finally:
            with suppress(OSError):
                os.chdir(here)

    def copy_from(self, wanted: TreeCopy) -> None:
        """The other tree is an image of its own, which is not made in a running container."""
        raise EngineError(
            f"files of {wanted.name} cannot be copied into a running container",
            hint="make an image with `klock sync --engine podman`, or docker, and start that",
        )

    def read(self, path: str) -> bytes | None:
        """The bytes of the file at an absolute path; None when there is no file."""
        return read_regular(path)

    def read_matching(self, patterns: Sequence[str]) -> Mapping[str, bytes]:
        """The files whose absolute paths match shell patterns, by path: the first 64 KiB of each."""
        return files_matching(patterns)

    def find(self, values: Sequence[bytes]) -> list[str]:
        """The absolute paths of what was written so far and holds one of `values`."""
        now = scan(self._before, without=self._without)
        written = [path for path in now if not now[path].is_as_before(self._before.get(path))]
        ours = [path for path in written if self._own is None or self._own.may_have(path)]
        return sorted(hits(values, [os.fsdecode(on_disk(path)) for path in ours]))

    def snapshot(
        self,
        *,
        leave_out: Sequence[str] = (),
        keep: Sequence[str] = (),
        tally: Tally | None = None,
        look: Callable[[Digest], None] | None = None,
    ) -> Layer:
        """What changed since the workspace was opened, in canonical form; `tree` is then the root as it is.

        What layers leave out is not scanned, so `keep` keeps nothing: see `klock.places.here.converging.refusing`.
        """
        now = scan(self._before, without=self._without)
        manifest, self.tree = canonical_changes(self._before, now, leave_out=leave_out, own=self._own)
        if look is not None:
            look(manifest.digest)
        return Layer(digest=manifest.digest, manifest=manifest)

    # -- commands

    def _run_isolated(
        self, command: Command, seconds: float | None, on_output: Callable[[bytes], None] | None
    ) -> tuple[int | None, bytes]:
        self._runs += 1
        folder = self._scratch / str(self._runs)
        folder.mkdir(mode=0o700)
        writable = WritableLayer.create(folder)
        area_path = folder / "area"
        area_path.mkdir()

        @contextmanager
        def mounted() -> Iterator[Area]:
            area = Area.create(str(area_path))
            area.show_root()
            # Certificates are found through variables alone: over the files of the real root nothing may be mounted,
            # or programs that replace them would fail.
            yield area

        try:
            return run_in_sandbox(mounted, writable, command, seconds, on_output, ca_bundle=self._ca_bundle)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _run_plainly(self, command: Command, on_output: Callable[[bytes], None] | None) -> Completed:
        user = find_user("/", command.user)
        with self._mounts_as_links(command):
            os.makedirs(command.working_dir, mode=0o755, exist_ok=True)
            kept = b""
            try:
                process = subprocess.Popen(
                    command.argv,
                    env=dict(command.environment),
                    cwd=command.working_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    user=user.uid,
                    group=user.gid,
                    extra_groups=user.groups,
                    umask=0o022,
                    start_new_session=True,
                )
            except FileNotFoundError:
                return Completed(status=127, output=f"no such program: {command.argv[0]}\n".encode())
            with process:
                assert process.stdout is not None
                while chunk := os.read(process.stdout.fileno(), 1 << 16):
                    kept = (kept + chunk)[-KEPT_OUTPUT:]
                    if on_output:
                        on_output(chunk)
            status = process.returncode
        return Completed(status=status if status >= 0 else 128 - status, output=kept)

    @contextmanager
    def _mounts_as_links(self, command: Command) -> Iterator[None]:
        """Without namespaces nothing can be mounted: a link in /run, which no layer holds, leads to the same files."""
        try:
            for mount in command.mounts:
                target = Path(mount.target)
                if not target.is_relative_to(_RUN):
                    raise EngineError(f"nothing can be mounted at {target} in this container")
                make_mount_point(str(target.parent), is_folder=True)
                target.unlink(missing_ok=True)
                target.symlink_to(mount.source.resolve())
            yield
        finally:
            shutil.rmtree(_RUN, ignore_errors=True)
