"""What must be in no layer: credentials, and what gives the recorder away. Layers are kept, and may be shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from klock.errors import StepFailed
from klock.layers.normalisation import is_left_out, matcher
from klock.lockfile.model import ShellLock, TargetLock
from klock.plan import describe
from klock.replay.context import Context
from klock.secrets.forms import forms_of
from klock.secrets.values import SHORTEST_SEARCHED
from klock.workshop.protocol import Workspace

__all__ = ["refuse_leaks"]

_MOST_SHOWN: Final = 5


def refuse_leaks(
    lock: TargetLock,
    position: int,
    workspace: Workspace,
    context: Context,
    *,
    met: Sequence[str] = (),
    traces: Sequence[bytes] = (),
) -> None:
    """Raises StepFailed when the step at `position` wrote a credential, or one of `traces`, into a file.

    `met` are credentials that the recorder saw on their way; those the lockfile names are searched for in any case.
    """
    values = [value for name in sorted(lock.secrets) if (value := context.environ.get(name))]
    searched = [value for value in (*values, *met) if len(value) >= SHORTEST_SEARCHED]
    secrets = {form for value in searched for form in forms_of(value, within_base64=True)}
    if not secrets and not traces:
        return
    step = lock.steps[position]
    is_unwanted = matcher(step.leave_out if isinstance(step, ShellLock) else ())

    def find(values: Sequence[bytes]) -> list[str]:
        """The paths that become part of the layer."""
        found = workspace.find(values) if values else []
        return [path for path in found if not is_left_out(path.lstrip("/")) and not is_unwanted(path.lstrip("/"))]

    if not find([*sorted(secrets), *traces]):
        return
    if paths := find(sorted(secrets)):
        raise StepFailed(
            f"step {position + 1}{context.where(position)} wrote a credential into {_some(paths)}: {describe(step)}",
            hint="remove the file in the same step, or keep the credential out of it",
        )
    raise StepFailed(
        f"step {position + 1}{context.where(position)} wrote what belongs to klock's recorder (its certificate, a name "
        f"or a path of it) into {_some(find(traces))}: {describe(step)}",
        hint="remove the file in the same step, or name it in run_bash(leave_out=[...]): outside of the step it is "
        "worth nothing",
    )


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:_MOST_SHOWN])
    return shown + (f" and {len(paths) - _MOST_SHOWN} more" if len(paths) > _MOST_SHOWN else "")
