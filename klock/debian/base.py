"""Bases made from the Debian archive: resolved to hashed .debs when locking, made of exactly those when replaying."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from klock.debian.apt_root import Lists
from klock.debian.bootstrap import ENVIRONMENT, check_architecture, install_all, unpack_tools
from klock.debian.deb import Deb, read_deb
from klock.debian.fetch import digest_of, fetch_debs
from klock.debian.releases import Resolutions
from klock.debian.tools import tools_among
from klock.digests import Digest, digest_of_json, hex_of
from klock.errors import FetchError, HashMismatch, LockfileError
from klock.fetching.mirrors import Mirrors
from klock.forks import Tally
from klock.image.steps import DebianBase
from klock.layers.differences import explain_by_sketch
from klock.layers.sketch import sketch_of
from klock.lockfile.model import DEBIAN_RECIPE, DebianLock, DebPackage
from klock.progress import Progress
from klock.store import Store
from klock.targets import Target
from klock.values import dataclass
from klock.workshop.protocol import NewBase, Workshop
from klock.workshop.scratch import scratch_folder

__all__ = ["fetch_debian", "remake_debian", "resolve_debian"]

_TREES: Final = "debian-trees"
_RECORDED: Final = ("tree", "sketch")
_UNKNOWN: Final = "sha256:" + "0" * 64


def resolve_debian(
    base: DebianBase,
    *,
    target: Target,
    store: Store,
    workshop: Workshop,
    mirrors: Mirrors,
    offline: bool,
    progress: Progress,
) -> DebianLock:
    """The newest packages of the suite, and the digest of the tree they make, which the workshop has afterwards.

    Raises ResolutionError, FetchError, EngineError, StepFailed.
    """
    if offline:
        raise FetchError(
            f"Debian {base.suite} cannot be resolved offline", hint="run the command once without --offline"
        )
    check_architecture(target.architecture)
    workshop.check()
    making = _Making(workshop=workshop, store=store, mirrors=mirrors, offline=offline, progress=progress)
    resolutions = Resolutions(base=base, architecture=target.architecture, mirrors=mirrors, store=store)
    if (debs := resolutions.find()) is not None:
        progress.begin(f"resolve Debian {base.suite}")
        progress.done(f"{len(debs)} packages, as before")
        lock = _unmade(base, debs)
        return making.known(lock) or making.make(lock)
    progress.begin(f"fetch the lists of Debian {base.suite}")
    with scratch_folder(store) as folder, workshop.make_base() as tree:
        lists = Lists.fetch(
            base.suite,
            architecture=target.architecture,
            archives=mirrors.debian,
            ca_bundle=mirrors.ca_bundle,
            folder=folder / "lists",
        )
        lists.check(base.packages)
        likely = lists.tools(base.packages)
        progress.done(f"{len(lists.indexes)} fetched")
        tools = tools_among(making.fetched(base.suite, likely))
        progress.begin(f"resolve Debian {base.suite}")
        unpack_tools(tree, tools)
        debs = lists.resolve(base.packages, tree)
        progress.done(f"{len(debs)} packages")
        resolutions.remember(debs, lists.downloaded)
        lock = _unmade(base, debs)
        return making.known(lock) or making.make(lock, _Prepared(tree=tree, tools=tools))


def _unmade(base: DebianBase, debs: tuple[DebPackage, ...]) -> DebianLock:
    return DebianLock(
        suite=base.suite,
        packages=base.packages,
        debs=debs,
        tree=_UNKNOWN,
        environment=ENVIRONMENT,
        recipe=DEBIAN_RECIPE,
    )


def remake_debian(
    lock: DebianLock, *, workshop: Workshop, store: Store, mirrors: Mirrors, offline: bool, progress: Progress
) -> DebianLock:
    """The same packages, made into a tree by the present recipe. Raises FetchError when one cannot be had any more."""
    making = _Making(workshop=workshop, store=store, mirrors=mirrors, offline=offline, progress=progress)
    lock = dataclasses.replace(lock, tree=_UNKNOWN, sketch=None, recipe=DEBIAN_RECIPE)
    return making.known(lock) or making.make(lock)


def fetch_debian(
    lock: DebianLock, *, workshop: Workshop, store: Store, mirrors: Mirrors, offline: bool, progress: Progress
) -> None:
    """Makes the workshop have the tree. Raises HashMismatch when the locked packages make another one here."""
    if workshop.has_base(lock.id):
        return
    if lock.recipe != DEBIAN_RECIPE:
        older = lock.recipe < DEBIAN_RECIPE
        raise LockfileError(
            f"the base Debian {lock.suite} was locked by version {lock.recipe} of the rules for Debian bases; "
            f"this klock has version {DEBIAN_RECIPE}",
            hint="run `klock lock`: it keeps the packages" if older else "upgrade klock",
        )
    making = _Making(workshop=workshop, store=store, mirrors=mirrors, offline=offline, progress=progress)
    making.make(lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """An empty tree in which `tools` were unpacked, and nothing done since."""

    tree: NewBase
    tools: tuple[Deb, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Making:
    workshop: Workshop
    store: Store
    mirrors: Mirrors
    offline: bool
    progress: Progress

    def fetched(self, suite: str, debs: Sequence[DebPackage]) -> tuple[Deb, ...]:
        """Packages, in the store and read."""
        fetch_debs(
            debs,
            task=f"fetch Debian {suite}",
            store=self.store,
            mirrors=self.mirrors,
            offline=self.offline,
            progress=self.progress,
        )
        return tuple(read_deb(self.store.blob_path(digest_of(deb)), deb) for deb in debs)

    def known(self, lock: DebianLock) -> DebianLock | None:
        """The lock with the digest of its tree, when that was made before and is here."""
        known = self.store.read_record(_TREES, _packages_id(lock))
        if not isinstance(known, dict) or not all(isinstance(known.get(name), str) for name in _RECORDED):
            return None
        made = dataclasses.replace(lock, **{name: known[name] for name in _RECORDED})
        return made if self.workshop.has_base(made.id) else None

    def make(self, lock: DebianLock, prepared: _Prepared | None = None) -> DebianLock:
        """Makes the tree of the locked packages: the lock with the tree's digest, which is the locked one if known.

        Raises HashMismatch when it is another one, StepFailed when a package does not install.
        """
        architecture = next((deb.architecture for deb in lock.debs if deb.architecture != "all"), None)
        if architecture is not None:
            check_architecture(architecture)
        with self.store.lock(f"debian-{hex_of(_packages_id(lock))}"):
            if lock.tree != _UNKNOWN and self.workshop.has_base(lock.id):
                return lock
            tools = tools_among(self.fetched(lock.suite, lock.debs))
            total = len(lock.debs)
            self.progress.begin(f"make Debian {lock.suite} of {total} packages", total=total, unit="packages")
            with self._tree_with(tools, prepared) as tree:
                install_all(tree, lock.suite, tools, lock.debs, store=self.store, on_output=self._counting())
                tally = Tally("files")
                with self.progress.stage("hash", tally):
                    manifest = tree.finish(tally)
                made = dataclasses.replace(lock, tree=manifest.digest)
                if lock.tree not in (_UNKNOWN, made.tree):
                    where = explain_by_sketch(lock.sketch, manifest, "tree") if lock.sketch else None
                    raise HashMismatch(
                        f"the locked packages of Debian {lock.suite} make another tree here:"
                        + (where or f" locked {lock.tree}, made {made.tree}"),
                        hint="the lockfile was changed, or a package installs in another way each time: restore the "
                        "lockfile, or run `klock lock --upgrade-base`",
                    )
                tree.keep(made.id)
        sketch = sketch_of(manifest)
        self.store.write_record(_TREES, _packages_id(lock), {"tree": made.tree, "sketch": sketch})
        self.progress.done(f"{len(manifest)} entries")
        return made if lock.tree != _UNKNOWN else dataclasses.replace(made, sketch=sketch)

    def _counting(self) -> Callable[[bytes], None]:
        """Tells what dpkg prints, and counts packages: one that is unpacked is half done."""
        rest, halves = b"", 0

        def on_output(text: bytes) -> None:
            nonlocal rest, halves
            *lines, rest = (rest + text).split(b"\n")
            more = sum(line.startswith((b"Unpacking ", b"Setting up ")) for line in lines)
            self.progress.advance((halves + more) // 2 - halves // 2)
            halves += more
            self.progress.output(text)

        return on_output

    @contextlib.contextmanager
    def _tree_with(self, tools: tuple[Deb, ...], prepared: _Prepared | None) -> Iterator[NewBase]:
        if prepared is not None and prepared.tools == tools:
            yield prepared.tree
            return
        with self.workshop.make_base() as tree:
            unpack_tools(tree, tools)
            yield tree


def _packages_id(lock: DebianLock) -> Digest:
    """What the tree depends on."""
    return digest_of_json(["debian", lock.recipe, lock.suite, sorted(deb.sha256 for deb in lock.debs)])
