"""What a step is going to replace in the container's root, kept before it begins."""

from __future__ import annotations

from klock.digests import Digest
from klock.places.here.materials import keep_files
from klock.places.here.own import OwnPaths
from klock.places.here.state import Doing, StateFolder
from klock.places.here.tree import Tree, is_untouched, see

__all__ = ["begin", "is_current"]


def begin(*, key: Digest, text: str, own: OwnPaths, before: Tree, folder: StateFolder) -> Doing:
    """Keeps what a step is going to replace among its `own` paths, so that it can be taken back."""
    name, kept = folder.new_undo()
    keep_files(sorted(own.exact), before, kept)
    folder.write_own(name, own)
    return Doing(key=key, text=text, undo=name)


def is_current(before: Tree, own: OwnPaths) -> bool:
    """Whether what the step is going to write is still as `before` says: what came since is not the step's doing."""
    known = Tree({path: before[path] for path in own.exact if path in before})
    return is_untouched(known) and all(path in before or see(path) is None for path in own.exact)
