"""A step where it stands: the lock it belongs to, its position, and where the user wrote it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar, cast

from klock.digests import Digest
from klock.errors import ImageError, StepFailed
from klock.lockfile.model import LockedVariable, StepLock, TargetLock
from klock.secrets.references import reveal
from klock.values import dataclass, replace

__all__ = ["StepAt"]

L = TypeVar("L", bound=StepLock)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAt(Generic[L]):
    """`position` counts from 0, `location` is the builder call (`kimage.py:7`) where it is known. `source` is the host
    file or folder that the step copies, if it does. `prefix` begins the names of what an export writes for it."""

    lock: TargetLock
    position: int
    location: str | None = None
    source: Path | None = None
    prefix: str = ""

    @property
    def step(self) -> L:
        return cast(L, self.lock.steps[self.position])

    # -- how messages name it

    @property
    def name(self) -> str:
        """`step 3 (kimage.py:7)`"""
        return f"step {self.position + 1}" + (f" ({self.location})" if self.location else "")

    @property
    def title(self) -> str:
        """`step 3 (kimage.py:7): run_bash make`"""
        return f"{self.name}: {self.text}"

    @property
    def heading(self) -> str:
        """`step 3 run_bash make (kimage.py:7)`"""
        where = f" ({self.location})" if self.location else ""
        return f"step {self.position + 1} {self.text}{where}"

    @property
    def text(self) -> str:
        """`run_bash make`"""
        from klock.steps import describe

        return describe(self.step)

    def failed(self, what: str, *, hint: str | None = None) -> StepFailed:
        """An error that begins with the step's name."""
        return StepFailed(f"{self.name}{what}", hint=hint)

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """What is found to be wrong with the image in the block is told with the step's name. Raises StepFailed."""
        try:
            yield
        except ImageError as error:
            raise self.failed(f": {error.message}", hint=error.hint) from error

    # -- what it stands on

    @property
    def before(self) -> TargetLock:
        """The lock with the steps before this one only."""
        return replace(self.lock, steps=self.lock.steps[: self.position])

    @property
    def below(self) -> tuple[Digest, ...]:
        """The layers that it is made over, the lowest first."""
        return self.before.layers

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables it sees, with credentials from `environ`. Raises KlockError for one that is not there."""
        before = self.before
        return _revealed(before.seen_environment, before.seen_variables, environ)

    @property
    def secret_variables(self) -> frozenset[str]:
        """The names of those that hold credentials: for commands that the user writes, not for what packages run."""
        return frozenset(variable.name for variable in self.before.seen_variables if variable.secrets)

    def open_variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables without those that hold credentials."""
        hidden = self.secret_variables
        return {name: value for name, value in self.variables(environ).items() if name not in hidden}

    @property
    def folder(self) -> str:
        """What its files are below in an export: `step-03`."""
        return f"{self.prefix}step-{self.position + 1:02d}"


def revealed_variables(lock: TargetLock, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment, with credentials from `environ`. Raises KlockError for one that is not there."""
    return _revealed(lock.environment, lock.variables, environ)


def _revealed(
    environment: Mapping[str, str], variables: Iterable[LockedVariable], environ: Mapping[str, str]
) -> dict[str, str]:
    revealed = {v.name: reveal(v.value, v.secrets, environ) for v in variables if v.secrets}
    secret = {v.name: bool(v.secrets) for v in variables}
    return {name: revealed[name] if secret.get(name) else value for name, value in environment.items()}
