"""What a step can see while its draft is made: the base, the variables so far, and where local files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from klock.lockfile.model import BaseLock
from klock.store import Store

__all__ = ["Drafting"]


@dataclass(slots=True, kw_only=True)
class Drafting:
    """`root` is the image file's folder, `environ` where secrets are looked up. With `store`, local files that did not
    change since the last time are not read again.

    `variables` and `secrets` (names) grow from step to step.
    """

    root: Path
    base: BaseLock
    environ: Mapping[str, str]
    store: Store | None = None
    variables: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.variables = dict(self.base.environment)
