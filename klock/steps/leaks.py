"""What must be in no layer: credentials, and what gives the recorder away. Layers are kept, and may be shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from klock.errors import StepFailed
from klock.secrets.values import SHORTEST_SEARCHED
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.searchable import Searchable
from klock.steps.searching import paths_in_layer_with
from klock.words import first_of

__all__ = ["refuse_leaks"]


def refuse_leaks(
    at: StepAt[Any],
    layer: Searchable,
    context: Context,
    *,
    met: Sequence[str] = (),
    traces: Sequence[bytes] = (),
    besides: Sequence[bytes] = (),
) -> bool:
    """Raises StepFailed when the step wrote a credential, or one of `traces`, into a file.

    `met` are credentials that the recorder saw on their way; those the lockfile names are searched for in any case.
    Every file is read for it, so `besides` is what to look for on the way: False if it is nowhere.
    """
    values = [value for name in sorted(at.lock.secrets) if (value := context.environ.get(name))]
    searched = [value for value in (*values, *met) if len(value) >= SHORTEST_SEARCHED]
    secrets: set[bytes] = set()
    if searched:
        from klock.secrets.forms import forms_of

        secrets = {form for value in searched for form in forms_of(value, within_base64=True)}
    if not paths_in_layer_with([*sorted(secrets), *traces, *besides], at, layer):
        return False
    if paths := paths_in_layer_with(sorted(secrets), at, layer):
        raise StepFailed(
            f"{at.name} wrote a credential into {first_of(paths)}: {at.text}",
            hint="remove the file in the same step, or keep the credential out of it",
        )
    if paths := paths_in_layer_with(traces, at, layer):
        raise StepFailed(
            f"{at.name} wrote what belongs to klock's recorder (its certificate, a name or a path of it) into "
            f"{first_of(paths)}: {at.text}",
            hint="remove the file in the same step, or leave it out of the layer: run_bash(..., leave_out=[...])",
        )
    return True
