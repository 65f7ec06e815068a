"""One step done in the container's root: what it changes must be its locked layer."""

from __future__ import annotations

from typing import Any

from klock.digests import Digest
from klock.errors import StepFailed
from klock.lockfile.model import layer_of as locked_layer
from klock.places.here.contents import Here
from klock.places.here.converging.journal import Journal
from klock.places.here.converging.owning import System, anchors_of, kept_archive, paths_of_step
from klock.places.here.converging.plan import layer_of
from klock.places.here.converging.reading import Surroundings, read_as
from klock.places.here.converging.taking_back import restore
from klock.places.here.materials import keep_files
from klock.places.here.mounts import refuse_mounted
from klock.places.here.state import Doing, Done
from klock.places.here.step_paths import StepPaths
from klock.places.here.tree import Tree, is_untouched, see
from klock.places.here.undo import difference_in, lost
from klock.places.here.workspace import HereWorkspace
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.differing import differences_from
from klock.words import counted
from klock.workshop.protocol import Layer

__all__ = ["do_step"]


def do_step(at: StepAt[Any], key: Digest, journal: Journal, here: Here, context: Context, *, force: bool) -> None:
    """Does a step, or goes on with it where a kill cut it short.

    Raises StepFailed when it makes another layer than the locked one; with `force` that is a warning. A step that can
    be taken back leaves nothing behind then.
    """
    kind, locked = kind_of(at.step), layer_of(at.step)
    context.progress.begin(at.heading)
    if kind.can_be_taken_back:
        kind.fetch(at, context)
    paths, is_all = paths_of_step(at, before=journal.tree, here=here, context=context)
    if paths is not None:
        # Checked again: an earlier step may have made a symlink into a mount.
        refuse_mounted(paths.exact, at.title)
    if journal.state.doing is None:
        _begin(at, key, paths, journal, here)
    before = journal.tree
    if not is_all:
        paths = None
    with here.root.open(before, paths) as workspace:
        try:
            _perform(at, workspace, before, here, context)
            layer = read_as(
                locked,
                workspace.snapshot(leave_out=kind.leave_out(at.step)),
                Surroundings(
                    before=before,
                    now=workspace.tree,
                    own=paths,
                    anchors=anchors_of(at, paths),
                    left=journal.state.left,
                ),
                kind.as_locked,
            )
            if layer.digest != locked:
                _tell_difference(at, layer, here, context, force=force)
        except BaseException:
            _give_up(journal, here, context, before=before)
            raise
        _end(at, layer, journal, before=before, now=workspace.tree)
    agrees = "as locked" if layer.digest == locked else "not as locked"
    context.progress.done(f"{counted(len(layer.manifest), 'entry')}, {agrees}")


def _begin(at: StepAt[Any], key: Digest, paths: StepPaths | None, journal: Journal, here: Here) -> None:
    """Writes down what the step is going to do, and keeps what it is going to replace, so that it can be taken back."""
    before, changed = journal.tree, None
    if paths is None or not _is_current(before, paths):
        before = changed = here.root.scan(before)
    undo = None
    if paths is not None and kind_of(at.step).can_be_taken_back:
        undo, kept = journal.folder.new_undo()
        keep_files(sorted(paths.exact), before, kept)
        journal.folder.write_own(undo, paths)
    journal.begin(Doing(key=key, text=f"step {at.position + 1} {at.text}", undo=undo), changed)


def _is_current(before: Tree, paths: StepPaths) -> bool:
    """Whether what the step is going to write is still as `before` says: what came since is not the step's doing."""
    known = Tree({path: before[path] for path in paths.exact if path in before})
    return is_untouched(known) and all(path in before or see(path) is None for path in paths.exact)


def _perform(at: StepAt[Any], workspace: HereWorkspace, before: Tree, here: Here, context: Context) -> None:
    if (archive := kept_archive(at, context.store)) is not None:
        here.root.apply(archive, layer_of(at.step))
    else:
        with at.named_in_errors():
            kind_of(at.step).perform_in(at, workspace, System(here, before), context)


def _tell_difference(at: StepAt[Any], layer: Layer, here: Here, context: Context, *, force: bool) -> None:
    locked = locked_layer(at.step)
    assert locked is not None
    differs = "it differs at" + differences_from(locked, kind_of(at.step).as_locked(layer.manifest), context)
    message = f"{at.name} made another layer than the locked one: {at.text}; {differs}"
    if not force:
        raise StepFailed(
            message,
            hint="start a new container, or keep its result: klock sync --here --force (perhaps another program "
            "writes to this container, the step's inputs changed, its base image is another one, or klock's notes in "
            f"{here.folder.root} were lost)",
        )
    context.progress.warn(message)


def _give_up(journal: Journal, here: Here, context: Context, *, before: Tree) -> None:
    doing = journal.state.doing
    assert doing is not None
    if doing.undo is None:
        context.progress.warn(
            f"{doing.text} failed, and its changes are still in the container: "
            "fix the cause and run `klock sync --here` again, or start a new container"
        )
        return
    restore(doing, journal, before=before, now=here.root.scan(before))
    journal.abandon()


def _end(at: StepAt[Any], layer: Layer, journal: Journal, *, before: Tree, now: Tree) -> None:
    """Writes down what the step did, and how it is taken back."""
    doing, folder = journal.state.doing, journal.folder
    assert doing is not None
    undo, why = doing.undo, "what a command did cannot be taken back"
    if undo is not None:
        was, added = difference_in(layer.manifest, before, now)
        added += [path for path in layer.manifest if path in journal.state.left]
        if missing := lost(was, folder.undo_folder(undo) / "kept"):
            undo, why = None, f"it replaced /{missing[0]}, which was not kept"
        else:
            folder.write_undo(undo, was, added)
    folder.write_layer(layer)
    done = Done(
        key=doing.key,
        layer=layer.digest,
        text=doing.text,
        undo=undo,
        why="" if undo else why,
        leave_out=kind_of(at.step).leave_out(at.step),
    )
    journal.end(done, now)
