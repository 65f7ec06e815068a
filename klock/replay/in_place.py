"""Converging a running container on its lockfile, step by step, in its own root (`klock.engines.here`).

The steps that were done here before and are still the locked ones stay. Those after them are taken back, the last one
first, and the locked ones are done; what each changed must be the locked layer. pip and file steps can be taken back;
what apt and shell commands did cannot be told apart from what it has led to, so where one of them would have to go the
container cannot become the locked one: nothing is changed then, unless that is forced.

What is going on is written down before the root is touched. After a kill the next call finishes that step, or takes it
back, before anything else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from klock.digests import Digest, digest_of_stream
from klock.drift import compare_files, distributions_in
from klock.engines.here import HereEngine
from klock.engines.here.materials import keep_files
from klock.engines.here.state import Doing, Done, State
from klock.engines.here.tree import Tree, is_untouched, on_disk
from klock.engines.here.undo import difference, lost, take_back
from klock.engines.here.workspace import HereWorkspace, not_isolated
from klock.engines.protocol import Command, Layer
from klock.errors import EngineError, FetchError, KlockError, StepFailed
from klock.layers.manifest import Kind, Manifest
from klock.lockfile.model import (
    AptLock,
    DebianLock,
    EnvLock,
    FilesLock,
    PipLock,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
    WheelArtifact,
)
from klock.plan import counted, describe
from klock.replay.context import Context
from klock.replay.perform import fetch_for, perform

__all__ = ["InPlacePlan", "converge", "plan_in_place"]

_MOST_SHOWN: Final = 20
_PATHS: Final = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlacePlan:
    """`kept` is how many done steps stay, `back` are those to take back (the last one first), `run` the positions of
    the steps to do. `stuck` are lines that say why the container cannot become the locked one."""

    kept: int
    back: tuple[Done, ...]
    run: tuple[int, ...]
    stuck: tuple[str, ...]
    is_recorded: bool

    @property
    def changes_nothing(self) -> bool:
        return self.is_recorded and not self.back and not self.run and not self.stuck

    def lines(self, lock: TargetLock) -> list[str]:
        """One for each thing to do, for `--dry-run`."""
        lines = [f"cannot: {line}" for line in self.stuck]
        lines += [f"take back {done.text}" for done in self.back]
        lines += [f"step {n + 1} {describe(lock.steps[n])}: run" for n in self.run]
        return lines or ["nothing to do"]


def plan_in_place(lock: TargetLock, *, keys: Sequence[Digest | None], engine: HereEngine) -> InPlacePlan:
    """What `converge` would do. Changes nothing."""
    state = engine.folder.read()
    if (nothing := _as_synced(lock, keys, engine, state)) is not None:
        return nothing
    tree = engine.folder.read_tree(state.tree) if state else None
    return _plan(lock, keys, engine, state, engine.scan(tree) if tree else None)


def converge(
    lock: TargetLock,
    *,
    keys: Sequence[Digest | None],
    engine: HereEngine,
    record: dict[str, object],
    context: Context,
    force: bool = False,
) -> InPlacePlan:
    """Makes the container's root be what `lock` says, and keeps `record` as that of its environment.

    With `force` what cannot be taken back stays, the locked steps are done over it, and layers that come out other than
    locked are told and kept. Raises EngineError when the container cannot become the locked one, StepFailed when a step
    does not make its locked layer.
    """
    engine.check()
    with engine.folder.lock():
        return _Converging(lock, keys, engine, replace(context, over_locked_base=False), force).converge(record)


def _layer_steps(lock: TargetLock, keys: Sequence[Digest | None]) -> list[tuple[int, Digest, StepLock]]:
    return [(n, key, step) for n, (step, key) in enumerate(zip(lock.steps, keys, strict=True)) if key is not None]


def _plan(
    lock: TargetLock, keys: Sequence[Digest | None], engine: HereEngine, state: State | None, now: Tree | None
) -> InPlacePlan:
    wanted = _layer_steps(lock, keys)
    if state is None or now is None:
        return InPlacePlan(kept=0, back=(), run=tuple(n for n, _, _ in wanted), stuck=(), is_recorded=False)
    stuck: list[str] = []
    if state.base != lock.base.id:
        stuck.append("the container was synced over another base image: start one from the locked base")
    kept = 0
    for done, (_, key, step) in zip(state.steps, wanted, strict=False):
        if done.key != key or done.layer != _layer_of(step):
            break
        kept += 1
    drifted = _drift(state, engine, now)
    first = min((number for number in drifted if number < kept), default=None)
    if first is not None:
        if all(done.undo for done in state.steps[first:]):
            kept = first
        else:
            for number in sorted(number for number in drifted if number < kept):
                done, paths = state.steps[number], drifted[number]
                more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
                named = ", ".join(f"/{path}" for path in paths[:3])
                stuck.append(f"{done.text}: was changed since: {named}{more}")
    back = tuple(reversed(state.steps[kept:]))
    stuck += [f"{done.text}: {done.why}" for done in back if done.undo is None]
    return InPlacePlan(
        kept=kept,
        back=back,
        run=tuple(n for n, _, _ in wanted[kept:]),
        stuck=tuple(stuck),
        is_recorded=_is_recorded(lock, state),
    )


def _as_synced(
    lock: TargetLock, keys: Sequence[Digest | None], engine: HereEngine, state: State | None
) -> InPlacePlan | None:
    """The plan that changes nothing, if only what the steps made has to be looked at to know it; else None."""
    if state is None or state.made is None or state.base != lock.base.id or not _is_recorded(lock, state):
        return None
    if [(done.key, done.layer) for done in state.steps] != [(k, _layer_of(s)) for _, k, s in _layer_steps(lock, keys)]:
        return None
    whiteouts = [p for d in state.steps for p, e in engine.folder.layer(d.layer).items() if e.kind is Kind.WHITEOUT]
    made = engine.folder.read_tree(state.made)
    if any(path not in made and os.path.lexists(on_disk(path)) for path in whiteouts) or not is_untouched(made):
        return None
    return InPlacePlan(kept=len(state.steps), back=(), run=(), stuck=(), is_recorded=True)


def _is_recorded(lock: TargetLock, state: State) -> bool:
    if state.record is None or state.doing is not None or state.forced:
        return False
    return (state.record.get("fingerprint"), state.record.get("variables")) == (lock.fingerprint, lock.environment)


def _layer_of(step: StepLock) -> Digest:
    assert not isinstance(step, EnvLock | ServiceLock)
    return step.layer.digest


def _drift(state: State, engine: HereEngine, now: Tree) -> dict[int, list[str]]:
    """The paths that are not as the steps left them, by the number of the step that made them last."""
    owner: dict[str, int] = {}
    expected = Manifest()
    for number, done in enumerate(state.steps):
        layer = engine.folder.layer(done.layer)
        expected = expected.apply(layer)
        owner.update(dict.fromkeys(layer, number))
    found: dict[int, list[str]] = {}
    for path, number in owner.items():
        if now.entry(path) != expected.get(path):
            found.setdefault(number, []).append(path)
    return found


class _Converging:
    def __init__(
        self, lock: TargetLock, keys: Sequence[Digest | None], engine: HereEngine, context: Context, force: bool
    ) -> None:
        self.lock, self.keys, self.engine, self.context, self.force = lock, keys, engine, context, force
        self.folder = engine.folder
        self.wanted = _layer_steps(lock, keys)

    def converge(self, record: dict[str, object]) -> InPlacePlan:
        state = self.folder.read()
        if (nothing := _as_synced(self.lock, self.keys, self.engine, state)) is not None:
            return nothing
        tree = self.engine.scan(self.folder.read_tree(state.tree) if state else None)
        if state is None:
            _compare_base(self.lock)
        elif state.doing is not None:
            state, tree = self._finish(state, state.doing, tree)
        plan = _plan(self.lock, self.keys, self.engine, state, tree if state else None)
        if plan.changes_nothing:
            return plan
        if plan.stuck and not self.force:
            raise EngineError(
                "this container cannot become the locked one:\n" + "\n".join(f"  {line}" for line in plan.stuck),
                hint="start a new container, or do the locked steps over what is there: klock sync --here --force",
            )
        self._refuse_what_cannot_run(plan)
        if state is None:
            state = State(base=self.lock.base.id, tree=self.folder.write_tree(tree))
            self.folder.write(state)
        for done in plan.back:
            state = self._take_back(state, done)
        for position in plan.run:
            state = self._do(state, position)
        tree = self.engine.scan(self.folder.read_tree(state.tree))
        if state.forced or [done.layer for done in state.steps] != [_layer_of(step) for _, _, step in self.wanted]:
            record = {**record, "fingerprint": "forced"}
        paths = {path for done in state.steps for path in self.folder.layer(done.layer)}
        made = self.folder.write_tree(Tree({path: seen for path, seen in tree.items() if path in paths}))
        state = replace(state, base=self.lock.base.id, tree=self.folder.write_tree(tree), made=made, record=record)
        self.folder.write(state)
        self.folder.forget_others(state)
        return plan

    # -- what was cut short

    def _finish(self, state: State, doing: Doing, now: Tree) -> tuple[State, Tree]:
        """Takes back a step that a kill cut short, unless it is the next one, which is then done again."""
        before = self.folder.read_tree(state.tree)
        if doing.undo is None:
            following = self.wanted[len(state.steps) : len(state.steps) + 1]
            if [key for _, key, _ in following] == [doing.key]:
                return state, before
            if not self.force:
                raise EngineError(
                    f"this container is in the middle of a step that is not the next one of the lockfile: {doing.text}",
                    hint="start a new container, or do the locked steps over what is there: klock sync --here --force",
                )
            forced = (*state.forced, doing.text)
            return replace(state, doing=None, forced=forced, tree=self.folder.write_tree(now)), now
        self._restore(before, now, doing)
        state = replace(state, doing=None)
        self.folder.write(state)
        return state, self.engine.scan(before)

    def _restore(self, before: Tree, now: Tree, doing: Doing) -> None:
        assert doing.undo is not None
        kept = self.folder.undo_folder(doing.undo) / "kept"
        was, added = difference(before, now)
        roots = tuple(root.strip("/") for root in doing.roots)
        below = tuple(f"{root}/" for root in roots)
        was = Tree({p: seen for p, seen in was.items() if p in roots or p.startswith(below)})
        if missing := lost(was, kept):
            raise EngineError(
                f"{doing.text} was cut short, and what it replaced was not kept: /{missing[0]}",
                hint="start a new container",
            )
        take_back(was, [p for p in added if p in roots or p.startswith(below)], kept)

    # -- back and forth

    def _take_back(self, state: State, done: Done) -> State:
        if done.undo is None:
            self.context.progress.warn(f"{done.text}: what it did stays, as it cannot be taken back")
            forced = (*state.forced, done.text)
            state = replace(state, steps=state.steps[:-1], record=None, forced=forced)
        else:
            self.context.progress.begin(f"take back {done.text}")
            before, added = self.folder.read_undo(done.undo)
            state = replace(state, record=None)
            self.folder.write(state)
            take_back(before, added, self.folder.undo_folder(done.undo) / "kept")
            tree = self.folder.write_tree(self.engine.scan(self.folder.read_tree(state.tree)))
            state = replace(state, steps=state.steps[:-1], tree=tree)
            self.context.progress.done("done")
        self.folder.write(state)
        return state

    def _do(self, state: State, position: int) -> State:
        step, key = self.lock.steps[position], self.keys[position]
        assert key is not None and not isinstance(step, EnvLock | ServiceLock)
        where = f"step {position + 1}{self.context.where(position)}"
        self.context.progress.begin(f"step {position + 1} {describe(step)}{self.context.where(position)}")
        before = self.folder.read_tree(state.tree)
        if isinstance(step, PipLock):
            fetch_for(self.lock, position, self.context)
        with self.engine.open_root(before) as workspace:
            if state.doing is None:
                state = replace(state, doing=self._begin(step, position, key, before, workspace), record=None)
                self.folder.write(state)
            doing = state.doing
            assert doing is not None
            try:
                self._perform(position, workspace)
                layer = workspace.snapshot(leave_out=step.leave_out if isinstance(step, ShellLock) else ())
                if layer.digest != step.layer.digest:
                    layer = self._with_working_dir(layer, step.layer.digest, workspace.tree)
                if layer.digest != step.layer.digest:
                    self._another_layer(step, where, layer)
            except BaseException:
                self._give_up(state, doing, before)
                raise
            state = self._done(state, step, layer, before=before, now=workspace.tree)
        self.context.progress.done(f"{counted(len(layer.manifest), 'entry')}, as locked")
        return state

    def _perform(self, position: int, workspace: HereWorkspace) -> None:
        step = self.lock.steps[position]
        if isinstance(step, ShellLock) and step.kept is not None:
            archive = self.context.store.find_blob(f"sha256:{step.kept.sha256}")
            assert archive is not None
            self.engine.apply(archive, step.layer.digest)
        else:
            perform(self.lock, position, workspace, self.context)

    def _give_up(self, state: State, doing: Doing, before: Tree) -> None:
        if doing.undo is None:
            self.context.progress.warn(
                f"{doing.text} did not end well: what it did is still in the container; "
                "mend the cause and run `klock sync --here` again, or start a new container"
            )
            return
        self._restore(before, self.engine.scan(before), doing)
        self.folder.write(replace(state, doing=None))

    def _done(self, state: State, step: StepLock, layer: Layer, *, before: Tree, now: Tree) -> State:
        doing = state.doing
        assert doing is not None
        undo, why = doing.undo, "what a command did cannot be taken back"
        if undo is not None:
            was, added = difference(before, now)
            if missing := lost(was, self.folder.undo_folder(undo) / "kept"):
                undo, why = None, f"it replaced /{missing[0]}, which was not kept"
            else:
                self.folder.write_undo(undo, was, added)
        self.folder.write_layer(layer.manifest)
        leave_out = step.leave_out if isinstance(step, ShellLock) else ()
        done = Done(
            key=doing.key,
            layer=layer.digest,
            text=doing.text,
            undo=undo,
            why="" if undo else why,
            leave_out=leave_out,
        )
        state = replace(state, steps=(*state.steps, done), doing=None, tree=self.folder.write_tree(now))
        self.folder.write(state)
        return state

    def _with_working_dir(self, layer: Layer, locked: Digest, now: Tree) -> Layer:
        """The layer, as if the step had made the image's working directory.

        Elsewhere the first command that needs it does; here it was there, as engines make it when a container starts.
        The digest tells whether that is all.
        """
        parts = self.lock.base.working_dir.strip("/").split("/")
        above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        for first in range(len(above)):
            made = [seen.entry for path in above[first:] if path not in layer.manifest and (seen := now.get(path))]
            manifest = Manifest([*layer.manifest.values(), *made])
            if manifest.digest == locked:
                return Layer(digest=locked, manifest=manifest)
        return layer

    def _another_layer(self, step: StepLock, where: str, layer: Layer) -> None:
        locked = self.engine.layer_manifest(_layer_of(step))
        if locked is not None:
            lines = [finding.message for finding in compare_files(locked, [], layer.manifest)]
        else:
            lines = [f"  /{path}" for path in layer.manifest]
        shown = "\n".join(f"  {line.strip()}" for line in lines[:_MOST_SHOWN])
        more = f"\n  and {len(lines) - _MOST_SHOWN} more" if len(lines) > _MOST_SHOWN else ""
        said = "it differs at" if locked is not None else "it changed"
        message = f"{where} made another layer than the locked one: {describe(step)}; {said}\n{shown}{more}"
        if not self.force:
            raise StepFailed(
                message,
                hint="the container was started from another base image, something else writes to it, or the step's "
                "inputs changed; to keep what came out: klock sync --here --force",
            )
        self.context.progress.warn(message)

    # -- before a step

    def _begin(self, step: StepLock, position: int, key: Digest, before: Tree, workspace: HereWorkspace) -> Doing:
        """Keeps what the step is going to replace, so that it can be taken back."""
        text = f"step {position + 1} {describe(step)}"
        if isinstance(step, FilesLock):
            destination = os.path.realpath(step.destination)
            roots = [destination]
            replaced = [f"{destination}/{entry.path}".strip("/") for entry in step.entries]
            replaced.append(destination.strip("/"))
            if step.path_file is not None:
                roots.append(os.path.realpath(step.path_file))
                replaced.append(roots[-1].strip("/"))
        elif isinstance(step, PipLock):
            paths = _python_paths(self.lock, workspace)
            data = paths["data"]
            roots = [paths["purelib"], paths["platlib"], paths["scripts"], paths["include"], f"{data}/share"]
            roots = [*roots, f"{data}/etc", "/.klock-uv-cache"]
            replaced = self._replaced_by(step, before, paths)
        else:
            return Doing(key=key, text=text, undo=None)
        name, kept = self.folder.new_undo()
        keep_files(replaced, before, kept)
        # The folders above that do not exist yet are the step's own too.
        roots = [_highest_new(root, before) for root in roots]
        return Doing(key=key, text=text, undo=name, roots=tuple(dict.fromkeys(roots)))

    def _replaced_by(self, step: PipLock, before: Tree, paths: dict[str, str]) -> list[str]:
        """The files of the distributions that the step's packages replace, and files in the way of the wheels'."""
        import zipfile

        packages = self.lock.packages_by_pin
        names = {packages[pin].name for pin in step.packages}
        replaced: list[str] = []
        for (folder, name), versions in distributions_in(before.manifest).items():
            if name in names:
                for version in versions:
                    replaced += _recorded_files(before, folder, name, version)
        for pin in step.packages:
            artifact = packages[pin].artifact
            wheel = artifact if isinstance(artifact, WheelArtifact) else artifact.wheel
            blob = self.context.store.find_blob(f"sha256:{wheel.sha256}")
            if blob is None:
                continue
            with zipfile.ZipFile(blob) as archive:
                for member in archive.namelist():
                    replaced += _destinations(member, paths)
        return [path.strip("/") for path in replaced]

    def _refuse_what_cannot_run(self, plan: InPlacePlan) -> None:
        for position in plan.run:
            step = self.lock.steps[position]
            where = f"step {position + 1}{self.context.where(position)}"
            if isinstance(step, ShellLock) and step.kept is not None:
                if self.context.store.find_blob(f"sha256:{step.kept.sha256}") is None:
                    raise FetchError(
                        f"{where} keeps its layer, and that is not on this machine: {describe(step)}",
                        hint="bring it here with `klock vault pull DIR`, from where `klock vault push DIR` put it",
                    )
                continue
            if isinstance(step, FilesLock) and not self.engine.holds(step.destination.strip("/")):
                raise EngineError(
                    f"{where} places files at {step.destination}, which is mounted into this container: klock "
                    "could not say what is there",
                    hint="mount it elsewhere, or place the files elsewhere",
                )
            if self._needs_isolation(step) and (why := self.engine.why_plain) is not None:
                raise not_isolated(f"{where}: {describe(step)}", why)

    def _needs_isolation(self, step: StepLock) -> bool:
        """Whether the step runs what an image or a package brings: it could reach the network, and do anything."""
        if isinstance(step, ShellLock | AptLock):
            return True
        if isinstance(step, PipLock):
            packages = self.lock.packages_by_pin
            return bool(step.projects) or any(
                not isinstance(packages[pin].artifact, WheelArtifact) for pin in step.packages
            )
        return False


def _python_paths(lock: TargetLock, workspace: HereWorkspace) -> dict[str, str]:
    if lock.interpreter is None:
        raise KlockError("the lockfile has a pip step and no python table", hint="run `klock lock`")
    ended = workspace.run(Command(argv=(lock.interpreter.path, "-I", "-c", _PATHS), environment={"PATH": os.defpath}))
    if ended.status != 0:
        raise EngineError(
            f"the container's Python at {lock.interpreter.path} does not run: "
            + ended.output.decode("utf-8", "replace").strip(),
            hint="start the container from the locked base image",
        )
    paths: dict[str, str] = json.loads(ended.output)
    return paths


def _recorded_files(tree: Tree, folder: str, name: str, version: str) -> list[str]:
    """The files of an installed distribution, as its RECORD names them (the "recording installed projects" format)."""
    import csv

    for path in tree:
        if not path.startswith(f"{folder}/") or not path.endswith(".dist-info/RECORD"):
            continue
        found = path.removeprefix(f"{folder}/").partition("/")[0].removesuffix(".dist-info").rpartition("-")
        if found[2] == version and found[0].replace("_", "-").replace(".", "-").lower() == name:
            with open(f"/{path}", encoding="utf-8", newline="") as file:
                return [
                    os.path.normpath(f"/{folder}/{row[0]}" if row[0][0] != "/" else row[0])
                    for row in csv.reader(file)
                    if row
                ]
    return []


def _destinations(member: str, paths: dict[str, str]) -> list[str]:
    """Where a wheel's member may go (the binary distribution format): libraries, or what `.data` folders are for."""
    first, _, rest = member.partition("/")
    if not first.endswith(".data"):
        return [f"{paths['purelib']}/{member}", f"{paths['platlib']}/{member}"]
    scheme, _, path = rest.partition("/")
    return [f"{paths[scheme]}/{path}"] if scheme in paths else []


def _highest_new(path: str, before: Tree) -> str:
    parts = path.strip("/").split("/")
    for count in range(1, len(parts) + 1):
        here = "/".join(parts[:count])
        if here not in before:
            return f"/{here}"
    return path


def _compare_base(lock: TargetLock) -> None:
    """Raises EngineError when the container was plainly started from another base than the locked one.

    A container cannot be asked for the digest of its image. What is compared: the packages of a Debian base, and the
    Python that pip steps install into, where it came with the base.
    """
    found: list[str] = []
    if isinstance(lock.base, DebianLock):
        installed = _debian_packages()
        wrong = [deb for deb in lock.base.debs if installed.get(deb.name) != deb.version]
        found += [f"{d.name} is {installed.get(d.name, 'missing')}, locked is {d.version}" for d in wrong[:5]]
    first_pip = next((n for n, step in enumerate(lock.steps) if isinstance(step, PipLock)), None)
    with_base = first_pip is not None and not any(
        isinstance(step, AptLock | ShellLock) for step in lock.steps[:first_pip]
    )
    if lock.interpreter is not None and with_base:
        path = Path(lock.interpreter.path)
        if not path.is_file():
            found.append(f"there is no {path}")
        elif (digest := _digest(path)).removeprefix("sha256:") != lock.interpreter.sha256.removeprefix("sha256:"):
            found.append(f"{path} is {digest}, locked is Python {lock.interpreter.version}, {lock.interpreter.sha256}")
    if found:
        raise EngineError(
            "this container was not started from the locked base:\n" + "\n".join(f"  {line}" for line in found),
            hint="start it from the locked base image, or run `klock lock` for the base it has",
        )


def _digest(path: Path) -> Digest:
    with open(path, "rb") as file:
        return digest_of_stream(file)


def _debian_packages() -> dict[str, str]:
    try:
        text = Path("/var/lib/dpkg/status").read_text("utf-8", "replace")
    except FileNotFoundError:
        return {}
    found = {}
    for stanza in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found
