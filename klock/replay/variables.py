"""The variables a step sees, with the credentials that the lockfile only names."""

from __future__ import annotations

from collections.abc import Mapping

from klock.lockfile.model import EnvLock, TargetLock
from klock.replay.context import Context
from klock.secrets.references import reveal
from klock.secrets.values import SHORTEST_SEARCHED, is_secret, may_be_secret

__all__ = ["revealed_variables", "secret_values"]


def revealed_variables(lock: TargetLock, before: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables a step at position `before` sees, secrets from `environ`. Raises KlockError for one not there."""
    variables = dict(lock.base.environment)
    for step in lock.steps[:before]:
        if isinstance(step, EnvLock):
            variables.update((v.name, reveal(v.value, v.secrets, environ)) for v in step.variables)
    return variables


def secret_values(lock: TargetLock, context: Context) -> list[str]:
    """What must not be kept or shown: credentials the lockfile names, and others that klock's own environment has."""
    named = [value for name in sorted(lock.secrets) if (value := context.environ.get(name))]
    others = [v for name, v in sorted(context.environ.items()) if is_secret(name, v) and may_be_secret(v)]
    return list(dict.fromkeys([*named, *(value for value in others if len(value) >= SHORTEST_SEARCHED)]))
