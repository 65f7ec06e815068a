"""Makes a pip step's layer: the union of what its wheels install, composed of their manifests.

No resolver, no network and no code of a package has a part in it, unless a wheel has to be built first.

    wheels -> their files -> one manifest, whose digest is locked
           -> their trees, with bytecode -> what the workshop mounts
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klock.digests import Digest
from klock.errors import LockfileError, StepFailed
from klock.files.placed import PlacedFile
from klock.layers.composing import Clash, Part, compose
from klock.layers.manifest import Kind, Manifest
from klock.lockfile.model import Interpreter, LockedPackage, PipLock, WheelArtifact
from klock.packages.python_parts import compiled_by
from klock.packages.replaced import find_installed, paths_to_remove
from klock.packages.scheme import Scheme
from klock.packages.wheel_trees import WheelTrees, files_of_wheels
from klock.packages.wheels import wheel_of
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.values import dataclass
from klock.workshop.protocol import Command, FileTree, Layer, Mount, Workspace

if TYPE_CHECKING:
    from klock.steps.pip.building import WheelMaker

__all__ = ["Composition"]


@dataclass(frozen=True, kw_only=True)
class Composition:
    """A pip step while its layer is composed. What it fetches is in the store."""

    at: StepAt[PipLock]
    context: Context
    varied: bool = False
    _keys: dict[Digest, bool] = field(default_factory=dict)

    @cached_property
    def interpreter(self) -> Interpreter:
        if self.at.lock.interpreter is None:
            raise LockfileError("the lockfile has a pip step and no python table", hint="run `klock lock`")
        return self.at.lock.interpreter

    @cached_property
    def scheme(self) -> Scheme:
        return Scheme.of(self.interpreter)

    @cached_property
    def packages(self) -> list[LockedPackage]:
        by_pin = self.at.lock.packages_by_pin
        return [by_pin[pin] for pin in self.at.step.packages]

    @cached_property
    def variables(self) -> dict[str, str]:
        """What builds and the environment's Python see."""
        return self.at.open_variables(self.context.environ)

    @cached_property
    def maker(self) -> WheelMaker:
        """What builds wheels. Most steps have none to build."""
        from klock.packages.passes import passes_with
        from klock.steps.pip.building import WheelMaker
        from klock.steps.pip.credentials import index_credentials

        at, context = self.at, self.context
        passes = passes_with(
            index_credentials([at], context),
            store=context.store,
            ca_bundle=context.mirrors.ca_bundle,
            local_hosts=context.local_hosts,
        )
        return WheelMaker.of(
            at.lock, self.interpreter, context.store, self.variables, None if context.offline else passes
        )

    # -- in the workshop

    def layer(self) -> Layer:
        """The step's layer, which is in the workshop then. Raises StepFailed, FetchError, HashMismatch."""
        self.make_wheels()
        wheels = [*_named(self.packages), *self._projects()]
        return self._composed(wheels)

    def clashes(self) -> list[Clash]:
        """What the locked wheels, which are in the store, bring with different bytes: the first path of each two."""
        wheels = _named(self.packages)
        files = files_of_wheels(wheels, self.scheme, store=self.context.store, leave_out=self.at.step.leave_out)
        parts = [Part(name=name, manifest=manifest) for (name, _), manifest in zip(wheels, files, strict=True)]
        return compose(parts)[1]

    def find(self, values: Sequence[bytes]) -> list[str]:
        """The absolute paths of what was built for the step, not fetched, and holds one of `values`."""
        built = [key for key, is_built in self._keys.items() if is_built]
        return self.context.workshop.search_trees(built, values)

    def make_wheels(self) -> None:
        """Makes the wheels of the step's packages that the store has lost."""
        store = self.context.store
        missing = [p for p in self.packages if store.find_blob(f"sha256:{wheel_of(p).sha256}") is None]
        if not missing:
            return
        last = [package for package in missing if _needs_environment(package)]
        with self._open_below() as workspace:
            self.maker.make([package for package in missing if package not in last], workspace)
        if last:  # built against the environment, so after the rest is in it
            rest = self._composed(_named(package for package in self.packages if package not in last))
            lock = self.at.lock
            with self.context.workshop.open(lock.base.id, [*self.at.below, rest.digest]) as workspace:
                self.maker.make(last, workspace)

    def _projects(self) -> list[tuple[str, WheelArtifact]]:
        if not self.at.step.projects:
            return []
        with self._open_below(varied=self.varied) as workspace:
            return self.maker.build_projects(self.at.step.projects, workspace)

    def _composed(self, wheels: Sequence[tuple[str, WheelArtifact]]) -> Layer:
        at, context = self.at, self.context
        if context.workshop.is_still:
            files = files_of_wheels(wheels, self.scheme, store=context.store, leave_out=at.step.leave_out)
            trees = [FileTree(key="", files=manifest, derived=Manifest()) for manifest in files]
        else:
            trees = self._trees.get(wheels, self._open_below)
        with context.progress.stage("compose"):
            return self._joined(wheels, trees)

    def _joined(self, wheels: Sequence[tuple[str, WheelArtifact]], trees: Sequence[FileTree]) -> Layer:
        at, context = self.at, self.context
        parts = [Part(name=name, manifest=tree.files) for (name, _), tree in zip(wheels, trees, strict=True)]
        manifest, clashes = compose(parts, removed=self._replaced([name for name, _ in wheels], parts))
        _refuse_clashes(clashes, at)
        keys = [tree.key for tree in trees]
        fetched = {wheel_of(p).sha256 for p in self.packages if isinstance(p.artifact, WheelArtifact)}
        for key, (_, artifact) in zip(keys, wheels, strict=True):
            self._keys[key] = artifact.sha256 not in fetched
        layer = context.workshop.add_composed_layer(manifest, keys, base=at.lock.base.id, below=at.below)
        return replace(layer, notes=tuple(f"{clash}: klock keeps those of {clash.last}" for clash in clashes))

    @cached_property
    def _below(self) -> list[tuple[Digest, Manifest]]:
        """The layers below the step, which are in the workshop."""
        found = [(digest, self.context.workshop.layer_manifest(digest)) for digest in self.at.below]
        return [(digest, manifest) for digest, manifest in found if manifest is not None]

    @cached_property
    def _trees(self) -> WheelTrees:
        return WheelTrees(
            scheme=self.scheme,
            compiled_by=compiled_by(self.interpreter, self.at.lock.base.id, self._below),
            store=self.context.store,
            workshop=self.context.workshop,
            variables=self.variables,
            leave_out=self.at.step.leave_out,
            progress=self.context.progress,
        )

    def _replaced(self, names: Sequence[str], parts: Sequence[Part]) -> list[str]:
        below = [self.context.workshop.base_manifest(self.at.lock.base.id), *(manifest for _, manifest in self._below)]
        installed = sorted({info for m in below for info in find_installed(frozenset(names), self.scheme, m)})
        if not installed:
            return []
        present = reduce(Manifest.apply, below)
        new = {path for part in parts for path in part.manifest}
        with self._open_below() as workspace:
            there = [info for info in installed if info in present]
            return paths_to_remove(there, present, new, workspace.read, version=self.interpreter.version)

    def _open_below(self, *, varied: bool = False) -> AbstractContextManager[Workspace]:
        context, lock = self.context, self.at.lock
        context = replace(context, workshop=context.workshop.by_looking)
        if context.make_layers is not None:
            context.make_layers(replace(lock, steps=lock.steps[: self.at.position]), context)
        return context.workshop.open(lock.base.id, self.at.below, varied=varied)

    # -- in a running system

    def put_into(self, workspace: Workspace, present: Manifest, folder: Path) -> None:
        """Does the step in a system that is not a workshop's. `folder` is empty, and as large as the wheels are."""
        first = [package for package in self.packages if not _needs_environment(package)]
        for packages in (first, [package for package in self.packages if package not in first]):
            self.maker.make(packages, workspace)
            self._put(_named(packages), workspace, present, folder / str(len(packages)))
        projects = self.maker.build_projects(self.at.step.projects, workspace)
        self._put(projects, workspace, present, folder / "projects")

    def _put(
        self, wheels: Sequence[tuple[str, WheelArtifact]], workspace: Workspace, present: Manifest, folder: Path
    ) -> None:
        if not wheels:
            return
        folder.mkdir()

        @contextmanager
        def here() -> Iterator[Workspace]:
            yield workspace

        made = self._trees.make(wheels, here, folder)
        parts = [Part(name=name, manifest=tree.files) for (name, _), (tree, _) in zip(wheels, made, strict=True)]
        new, clashes = compose(parts)
        _refuse_clashes(clashes, self.at)
        installed = find_installed(frozenset(name for name, _ in wheels), self.scheme, present)
        old = paths_to_remove(installed, present, new, workspace.read, version=self.interpreter.version)
        self._remove(old, workspace, folder)
        for tree, root in made:
            files = [
                PlacedFile(path=entry.path, mode=entry.mode, source=root / entry.path, digest=entry.digest)
                for entry in (*tree.files.values(), *tree.derived.values())
                if entry.kind is Kind.FILE
            ]
            workspace.place(files, "/")

    def _remove(self, paths: Sequence[str], workspace: Workspace, folder: Path) -> None:
        if not paths:
            return
        (folder / "remove").write_bytes(b"\0".join(f"/{path}".encode("utf-8", "surrogateescape") for path in paths))
        ended = workspace.run(
            Command(
                argv=(self.interpreter.path, "-I", "-S", "-B", "-c", _REMOVE),
                environment={},
                mounts=(Mount(source=folder / "remove", target=_LIST),),
            )
        )
        if ended.status != 0:
            raise StepFailed(
                f"{self.at.name}: the files of replaced packages could not be removed: "
                + ended.output.decode("utf-8", "replace").strip()
            )


_LIST = "/run/klock/remove"
_REMOVE = f"""
import os, shutil
for path in open({_LIST!r}, "rb").read().split(b"\\0"):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
"""


def _refuse_clashes(clashes: Sequence[Clash], at: StepAt[Any]) -> None:
    """Raises StepFailed for what is a file in one wheel and a folder in another one."""
    for clash in clashes:
        if clash.is_folder:
            raise StepFailed(
                f"{at.name}: {clash.first} and {clash.last} cannot be installed together: /{clash.path} is a file in "
                "one and a folder in the other",
                hint="leave one of them out",
            )


def _named(packages: Iterable[LockedPackage]) -> list[tuple[str, WheelArtifact]]:
    return [(package.name, wheel_of(package)) for package in packages]


def _needs_environment(package: LockedPackage) -> bool:
    return not isinstance(package.artifact, WheelArtifact) and not package.artifact.build
