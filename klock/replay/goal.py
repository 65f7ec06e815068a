"""What an environment is to be: one target of a lockfile, and the name it has here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from klock.digests import Digest
from klock.lockfile.model import TargetLock

__all__ = ["Goal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`name` is the environment's, `keys` are those of the steps of `lock` (`klock.steps.keys`), `lock_digest` is the
    lockfile's. `project` is the folder of the image file."""

    name: str
    lock: TargetLock
    keys: tuple[Digest | None, ...]
    lock_digest: Digest
    project: Path

    @property
    def record(self) -> dict[str, object]:
        """What an environment keeps of the lockfile that it was synced from."""
        return {
            "fingerprint": self.lock.fingerprint,
            "lockfile": self.lock_digest,
            "target": str(self.lock.target),
            "variables": self.lock.environment,
        }
