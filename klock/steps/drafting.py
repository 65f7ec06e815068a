"""What a step can see while its draft is made: the base, the variables so far, and where local files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from klock.lockfile.model import BaseLock
from klock.secrets.credential_files import Treatment
from klock.store import Store

__all__ = ["Drafting"]


@dataclass(slots=True, kw_only=True)
class Drafting:
    """`root` is the image file's folder, `environ` where secrets are looked up. With `store`, local files that did not
    change since the last time are not read again.

    `variables` and `secrets` (names) grow from step to step. `used` names variables of `environ` that turned out to
    hold a credential. `notes` are what the user should know of what was found, and `credential_files` says what
    becomes of files that are credentials.
    """

    root: Path
    base: BaseLock
    environ: Mapping[str, str]
    store: Store | None = None
    used: frozenset[str] = frozenset()
    credential_files: Treatment = Treatment.WARN
    notes: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.variables = dict(self.base.environment)
