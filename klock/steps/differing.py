"""Where the layer that a step made differs from the locked one, for the message of a step that fails."""

from __future__ import annotations

from klock.drift import compare_files
from klock.layers.differences import explain_by_sketch
from klock.layers.manifest import Manifest
from klock.layers.sketch import sketch_of
from klock.lockfile.model import LayerLock
from klock.steps.context import Context
from klock.words import counted, listed

__all__ = ["differences_from"]


def differences_from(locked: LayerLock, made: Manifest, context: Context) -> str:
    """Lines to put below a message, each a path. The locked layer need not be on this machine.

    Then the lockfile's sketch of it tells the paths; when it does not, the folders are named that the step changed.
    """
    manifest = context.workshop.layer_manifest(locked.digest)
    if manifest is not None:
        return listed(finding.message for finding in compare_files(manifest, [], made))
    sketch = locked.sketch or (None if locked.files else sketch_of(Manifest()))
    found = None if sketch is None else explain_by_sketch(sketch, made, "layer")
    return _folders(locked, made) if found is None else found


def _folders(locked: LayerLock, made: Manifest) -> str:
    folders: dict[str, int] = {}
    for path in made:
        folder = "/" + "/".join(path.split("/")[:2])
        folders[folder] = folders.get(folder, 0) + 1
    shown = listed(f"{folder} ({counted(count, 'entry')})" for folder, count in sorted(folders.items()))
    return (
        f"\n  locked {locked.digest}\n  made   {made.digest}"
        f"\n  they differ in many paths, and the locked layer is not on this machine; the step made{shown}"
    )
