"""The proof that a step repeats: it is done once more, as on another machine, and must make the same layer.

The second run begins in another second, with other process ids and a CPU less. Hash seeds, locales and time zones are
the same everywhere already (`klock.layers.normalisation.STEP_ENVIRONMENT`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from klock.digests import hex_of
from klock.errors import StepFailed
from klock.lockfile.model import KeptLayer
from klock.steps import kind_of
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.unrepeatable import Unrepeatable
from klock.words import listed
from klock.workshop.protocol import Layer

if TYPE_CHECKING:
    from klock.layers.differences import Difference

__all__ = ["keep_layer", "prove_that_it_repeats", "refuse_what_cannot_repeat", "ways_out"]

_MOST_SHOWN: Final = 8
_WHOLE: Final = frozenset(("/etc/shadow", "/etc/gshadow"))
"""Files with a line for each account, which nobody would do without."""
_PLAIN: Final = re.compile(r"(?:/[\w.@%+~*-]+)*/(?!\*$)[\w.@%+~*-]+")


def prove_that_it_repeats(at: StepAt[Any], first: Layer, context: Context) -> None:
    """Raises StepFailed when the step fails now, or makes another layer than `first`, with paths and likely reasons."""
    context.progress.begin("once more, with the same inputs")
    try:
        second = kind_of(at.step).produce(at, context, varied=True)
    except StepFailed as error:
        raise StepFailed(
            f"{at.name} succeeded, but failed when it ran once more with the same inputs: {error.message}",
            hint="make the step do the same in each run",
        ) from error
    if second.digest != first.digest:
        found = _differences(at, first, second, context)
        told = listed(f"/{d.path} {d.what}" + (f": {d.reason}" if d.reason else "") for d in found)
        raise at.failed(
            f" makes something else each time it runs: {at.text}{told}",
            hint=f"make the step repeat itself; or {ways_out(at, list(dict.fromkeys(f'/{d.pattern}' for d in found)))}",
        )
    context.progress.done("the same")


def ways_out(at: StepAt[Any], paths: Sequence[str] = ()) -> str:
    """What a user can do with a step that does not repeat in `paths`, for a hint."""
    # What nobody would type is no help, a path may hold what a pattern or a comment takes for its own, and a name that
    # varies as a whole leaves no pattern but one for all of its folder.
    shown = paths if 0 < len(paths) <= _MOST_SHOWN and all(map(_PLAIN.fullmatch, paths)) else ()
    if getattr(at.step, "keep_layer", None) is None:
        return "do it with run_bash(..., keep_layer=True), which keeps what it made when it was locked"
    as_docker = getattr(at.step, "shell", None) or getattr(at.step, "words", None)
    if as_docker and not (at.location or "").rpartition(":")[0].endswith(".py"):
        leave_out, keep_layer = f"`# klock: leave-out={' '.join(shown) or '/path'}`", "`# klock: keep-layer`"
        where = ", in a line above the RUN"
    else:
        method = kind_of(at.step).method
        listed_paths = ", ".join(f'"{path}"' for path in shown) or "..."
        leave_out, keep_layer = f"{method}(..., leave_out=[{listed_paths}])", f"{method}(..., keep_layer=True)"
        where = ""
    kept = f"keep what it made when it was locked, {keep_layer}{where}"
    return kept if _WHOLE & set(paths) else f"leave these paths out of the layer, {leave_out}; or {kept}"


def refuse_what_cannot_repeat(found: Sequence[tuple[StepAt[Any], Unrepeatable]]) -> None:
    """Raises StepFailed with all that steps would make anew each time, and the way out for the first."""
    if found:
        texts = [
            f"{at.name}: {each.cause} makes {each.what} anew each time: {', '.join(each.paths)}" for at, each in found
        ]
        at, first = found[0]
        raise StepFailed(
            f"{texts[0]}{listed(texts[1:])}",
            hint=f"{f'{first.instead}; or' if first.instead else f'make {first.what} when the container starts, and'} "
            + ways_out(at, first.paths),
        )


def keep_layer(layer: Layer, context: Context) -> KeptLayer:
    """The layer as an artifact of the store."""
    with context.store.temporary_file() as archive:
        context.workshop.write_layer(layer.digest, archive)
        with open(archive, "rb") as file:
            digest, size = context.store.add_blob(iter(lambda: file.read(1 << 20), b""), source="the kept layer")
    context.store.keep_blob(digest)
    return KeptLayer(sha256=hex_of(digest), size=size)


def _differences(at: StepAt[Any], first: Layer, second: Layer, context: Context) -> list[Difference]:
    from klock.layers.differences import explain

    with (
        context.workshop.open(at.lock.base.id, [*at.below, first.digest]) as one,
        context.workshop.open(at.lock.base.id, [*at.below, second.digest]) as other,
    ):
        return explain(first.manifest, second.manifest, lambda which, path: (one, other)[which].read(f"/{path}"))
